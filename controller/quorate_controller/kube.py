"""The port to the Kubernetes API: fresh reads, writes that name what they expect, errors that say what to do next.

Raw JSON in, raw JSON out. Authentication, TLS and kubeconfig files are the `kubernetes.aio` client's; its generated
models are not used, because the API objects that matter here are KubeVirt's and Quorate's own.
This module decides nothing, caches nothing and never repeats a write.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import tenacity
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

Json = dict[str, Any]
Objects = list[Json]

FIELD_MANAGER = "quorate.dev"
PAGE = 500
"""Objects per page of a list: one page is parsed in a few tens of milliseconds, so the event loop is never held for long."""
LARGE_BYTES = 1 << 17
"""Answers beyond that are parsed beside the event loop."""
CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 15.0
READ_ATTEMPTS = 3

_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"


class KubeError(Exception):
    """A call to the API server that did not do what it was asked. The subclass says what the caller may do."""


class Conflict(KubeError):
    """The object is not what the caller believed (409): look again and decide again, never repeat the write."""


class Missing(KubeError):
    """No such object, or no such kind (404)."""


class Refused(KubeError):
    """The API server will not have this request, now or later: validation, admission or rights. The message is its own."""


class Unavailable(KubeError):
    """No answer, or one that says nothing about the request (network, timeout, 429, 5xx): unknown whether a write happened."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where it lives."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, name: str | None = None, namespace: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of its subresource. A namespaced collection may span all namespaces."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        if self.namespaced and name is not None and not namespace:
            raise ValueError(f"{self.kind} {name}: a namespace is needed")
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


NODES = Resource("v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
PVCS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PVS = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
CONFIGMAPS = Resource("v1", "configmaps", "ConfigMap")
SECRETS = Resource("v1", "secrets", "Secret")
EVENTS = Resource("v1", "events", "Event")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
STORAGECLASSES = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
VOLUMEATTACHMENTS = Resource("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", namespaced=False)
VMS = Resource("kubevirt.io/v1", "virtualmachines", "VirtualMachine")
VMIS = Resource("kubevirt.io/v1", "virtualmachineinstances", "VirtualMachineInstance")
KUBEVIRTS = Resource("kubevirt.io/v1", "kubevirts", "KubeVirt")
HAPOOLS = Resource("quorate.dev/v1alpha1", "hapools", "HAPool", namespaced=False)
HAHOSTS = Resource("quorate.dev/v1alpha1", "hahosts", "HAHost", namespaced=False)
PROTECTEDVMS = Resource("quorate.dev/v1alpha1", "protectedvms", "ProtectedVM")
FAILOVERS = Resource("quorate.dev/v1alpha1", "failovers", "Failover", namespaced=False)


def start_path(namespace: str, name: str) -> str:
    """Path of KubeVirt's `start` subresource, for `Kube.put`."""
    return f"/apis/subresources.kubevirt.io/v1/namespaces/{quote(namespace, safe='')}/virtualmachines/{quote(name, safe='')}/start"


class Expired(Exception):
    """A continue token or a resource version is too old (410): the list starts again."""


_retry_read = tenacity.retry(
    retry=tenacity.retry_if_exception_type(Unavailable),
    stop=tenacity.stop_after_attempt(READ_ATTEMPTS),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2.0),
    reraise=True,
)


class Kube:
    """A connection to one API server. At most `concurrency` requests are in flight; further callers wait their turn."""

    def __init__(self, api: ApiClient, *, concurrency: int = 16, request_seconds: float = REQUEST_SECONDS) -> None:
        self._api: Any = api  # the client is untyped
        self._slots = asyncio.Semaphore(concurrency)
        self._parsing = asyncio.Lock()
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=CONNECT_SECONDS)

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        concurrency: int = 16,
        request_seconds: float = REQUEST_SECONDS,
    ) -> "Kube":
        """Read credentials: the given file, else the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.

        Raises `Unavailable` with one sentence when there are none; no request is made yet.
        """
        configuration = Configuration()
        in_cluster = kubeconfig is None and context is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ
        try:
            if in_cluster:
                kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # untyped
            else:
                source = str(kubeconfig) if kubeconfig is not None else None
                await kube_config.load_kube_config(  # type: ignore[no-untyped-call]  # untyped
                    config_file=source, context=context, client_configuration=configuration
                )
        except (kube_config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            where = "the pod's service account" if in_cluster else f"kubeconfig {kubeconfig or '(default)'}"
            raise Unavailable(f"no usable credentials in {where}: {error}") from error
        return cls(ApiClient(configuration), concurrency=concurrency, request_seconds=request_seconds)

    @property
    def configuration(self) -> Any:
        """The client's configuration: server, certificates, token. For kopf, which connects by itself with the same credentials."""
        return self._api.configuration

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def list(self, r: Resource, *, namespace: str | None = None, labels: str | None = None, fields: str | None = None) -> Objects:
        """Every object of that kind, read from the database and not from a cache, page by page; `apiVersion` and `kind` filled in."""
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            try:
                return (await self._pages(r, r.path(namespace=namespace), query))[0]
            except Expired:
                continue

    async def list_at(self, r: Resource) -> tuple[Objects, str]:
        """Every object of that kind, and the resource version at which they were so. Raises `Expired` if that took too long."""
        return await self._pages(r, r.path(), {"limit": str(PAGE)})

    async def watch(self, r: Resource, version: str, seconds: int) -> AsyncIterator[Json]:
        """The events of that kind since the resource version, bookmarks included, for so many seconds. Takes no slot of `concurrency`.

        Raises `Expired` when the version is too old, `Unavailable` when the connection ends before its time.
        """
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        timeout = aiohttp.ClientTimeout(total=seconds + REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        arguments = await self._api.param_serialize(
            "GET", r.path(), query_params=list(query.items()), header_params={"Accept": "application/json"}, auth_settings=["BearerToken"]
        )
        try:
            answer = (await self._api.call_api(*arguments, _request_timeout=timeout)).response
            try:
                if answer.status != 200:
                    raise _error("GET", r.path(), answer.status, await answer.read())
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = _parse(line)
                        if event.get("type") == "ERROR":
                            raise _error("GET", r.path(), int(event.get("object", {}).get("code") or 500), line)
                        if event:
                            yield event
            finally:
                answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"watch of {r.plural}: {error or type(error).__name__}") from error

    async def get(self, r: Resource, name: str, namespace: str | None = None) -> Json | None:
        """The object as it is now, or None."""
        try:
            return await self._read(r.path(name, namespace), {})
        except Missing:
            return None

    async def create(self, r: Resource, body: Json, *, dry_run: bool = False) -> Json:
        """Create; `Conflict` if the name is taken."""
        query = {"dryRun": "All"} if dry_run else {}
        return await self._call("POST", r.path(namespace=_namespace(body)), query, _typed(r, body))

    async def replace(self, r: Resource, body: Json) -> Json:
        """Compare-and-swap: `Conflict` unless `metadata.resourceVersion` is still the current one."""
        return await self._replace(r, body, None)

    async def replace_status(self, r: Resource, body: Json) -> Json:
        """Compare-and-swap of the status subresource."""
        return await self._replace(r, body, "status")

    async def merge(self, r: Resource, name: str, patch: Json, namespace: str | None = None, *, status: bool = False) -> Json:
        """JSON merge patch; with `metadata.resourceVersion` in the patch it is a compare-and-swap."""
        path = r.path(name, namespace, "status" if status else None)
        return await self._call("PATCH", path, {}, patch, _MERGE_PATCH)

    async def json_patch(self, r: Resource, name: str, ops: Sequence[Json], namespace: str | None = None) -> Json:
        """JSON patch; a failed `test` operation is `Refused`."""
        return await self._call("PATCH", r.path(name, namespace), {}, list(ops), _JSON_PATCH)

    async def apply(self, r: Resource, body: Json, *, status: bool = False, force: bool = False) -> Json:
        """Server-side apply as field manager `quorate.dev`; `Conflict` where another manager owns a field and `force` is not set."""
        path = r.path(body["metadata"]["name"], _namespace(body), "status" if status else None)
        return await self._call("PATCH", path, {"force": "true" if force else "false"}, _typed(r, body), _APPLY_PATCH)

    async def delete(
        self, r: Resource, name: str, namespace: str | None = None, *, uid: str | None = None, grace_seconds: int | None = None
    ) -> bool:
        """Delete; False if it is already gone, or if a uid is given and the object of that name is another one."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call("DELETE", r.path(name, namespace), {}, options)
        except Missing:
            return False
        except Conflict:
            if uid is None:
                raise
            return False
        return True

    async def put(self, path: str, body: Json) -> None:
        """PUT to a path that is no stored object, such as KubeVirt's `start`."""
        await self._call("PUT", path, {}, body)

    async def _replace(self, r: Resource, body: Json, subresource: str | None) -> Json:
        if not body.get("metadata", {}).get("resourceVersion"):
            raise ValueError(f"{r.kind}: a replacement must say which resourceVersion it replaces")
        path = r.path(body["metadata"]["name"], _namespace(body), subresource)
        return await self._call("PUT", path, {}, _typed(r, body))

    async def _pages(self, r: Resource, path: str, query: Mapping[str, str]) -> tuple[Objects, str]:
        found: Objects = []
        token = ""
        while True:
            page = await self._read(path, {**query, "continue": token} if token else dict(query))
            for item in page.get("items") or []:
                item.setdefault("apiVersion", r.api_version)
                item.setdefault("kind", r.kind)
                found.append(item)
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return found, str(page.get("metadata", {}).get("resourceVersion") or "")

    @_retry_read
    async def _read(self, path: str, query: dict[str, str]) -> Json:
        return await self._call("GET", path, query)

    async def _call(
        self, method: str, path: str, query: dict[str, str], body: Json | Objects | None = None, content_type: str = "application/json"
    ) -> Json:
        if method in {"POST", "PATCH", "PUT"}:
            query = {**query, "fieldManager": FIELD_MANAGER}
        async with self._slots:
            try:
                arguments = await self._api.param_serialize(
                    method,
                    path,
                    query_params=list(query.items()),
                    header_params={"Accept": "application/json, */*", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._api.call_api(*arguments, _request_timeout=self._timeout)
                raw: bytes = await response.read()
                status: int = response.status
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from error
        if 200 <= status < 300 and len(raw) > LARGE_BYTES:
            async with self._parsing:  # in a thread, one at a time: else a burst of pages keeps the event loop from renewing the lease
                return await asyncio.to_thread(_parse, raw)
        if 200 <= status < 300:
            return _parse(raw)
        raise _error(method, path, status, raw)


def _error(method: str, path: str, status: int, raw: bytes) -> Exception:
    answer = _parse(raw)
    message = answer.get("message") or raw[:500].decode(errors="replace").strip() or f"status {status}"
    match status:
        case 409:
            return Conflict(message)
        case 404:
            return Missing(message)
        case 410:
            return Expired()
        case 429:
            return Unavailable(f"{method} {path}: {status}: {message}")
        case _ if status >= 500:
            return Unavailable(f"{method} {path}: {status}: {message}")
        case _:
            return Refused(message)


def _parse(raw: bytes) -> Json:
    """The JSON object in an answer; some subresources answer with nothing or with plain text."""
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _typed(r: Resource, body: Json) -> Json:
    return {**body, "apiVersion": r.api_version, "kind": r.kind}


def _namespace(body: Json) -> str | None:
    namespace: str | None = body.get("metadata", {}).get("namespace")
    return namespace

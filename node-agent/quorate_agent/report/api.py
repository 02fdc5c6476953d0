"""Report's port to the API server: a few reads and one write. An error is one class with one sentence. Caches and decides nothing."""

import base64
import binascii
import os
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import tenacity
from kubernetes.aio import client, config
from pydantic import ValidationError

from quorate_api.base import GROUP, VERSION
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool

_REQUEST_SECONDS = 10
_MERGE_PATCH = "application/merge-patch+json"
Kind = TypeVar("Kind", HAHost, HAPool)


class NoAnswer(Exception):
    """The API server did not do it; the sentence says what and why. Try again later."""


_again = tenacity.retry(
    retry=tenacity.retry_if_exception_type(NoAnswer),
    stop=tenacity.stop_after_attempt(2),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=1.0),
    reraise=True,
)


class Api:
    """A connection with this agent's own, narrow rights."""

    def __init__(self, api: Any) -> None:
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._api = api

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> "Api":
        """Read credentials: that file, else the pod's service account. Raises NoAnswer."""
        settings = client.Configuration()
        try:
            if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]  # untyped
            else:
                source = str(kubeconfig) if kubeconfig else None
                await config.load_kube_config(config_file=source, client_configuration=settings)  # type: ignore[no-untyped-call]  # untyped
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise NoAnswer(f"no usable credentials: {error}") from error
        return cls(client.ApiClient(settings))

    async def close(self) -> None:
        """Close the connection."""
        await self._api.close()

    @_again
    async def host(self, name: str) -> HAHost:
        """The HAHost of that name. Raises NoAnswer."""
        return _parsed(
            HAHost, await _asked(f"HAHost {name}", self._objects.get_cluster_custom_object(GROUP, VERSION, HAHost.PLURAL, name, **_limit()))
        )

    @_again
    async def hosts(self) -> list[HAHost]:
        """All HAHosts. Raises NoAnswer."""
        found = await _asked("HAHosts", self._objects.list_cluster_custom_object(GROUP, VERSION, HAHost.PLURAL, **_limit()))
        return [_parsed(HAHost, one) for one in found.get("items", [])]

    @_again
    async def pool(self, name: str) -> HAPool:
        """The HAPool of that name. Raises NoAnswer."""
        return _parsed(
            HAPool, await _asked(f"HAPool {name}", self._objects.get_cluster_custom_object(GROUP, VERSION, HAPool.PLURAL, name, **_limit()))
        )

    @_again
    async def listed(self, plural: str) -> list[dict[str, Any]]:
        """All objects of that kind of Quorate's, in all namespaces, as the server gives them. Raises NoAnswer."""
        found = await _asked(plural, self._objects.list_cluster_custom_object(GROUP, VERSION, plural, **_limit()))
        return list(found.get("items", []))

    @_again
    async def key(self, namespace: str, name: str) -> bytes | None:
        """The bytes under `key` of that Secret; None if it has none. Raises NoAnswer."""
        found = await _asked(f"Secret {namespace}/{name}", self._core.read_namespaced_secret(name, namespace, **_limit()))
        try:
            encoded = (found.data or {}).get("key")
            return base64.b64decode(encoded, validate=True) if encoded else None
        except (binascii.Error, ValueError) as error:
            raise NoAnswer(f"Secret {namespace}/{name}: key: {error}") from error

    async def tell(self, name: str, agent: dict[str, Any]) -> None:
        """Write `status.agent` of the own HAHost. Fields left out keep their value. Raises NoAnswer."""
        body = {"status": {"agent": agent}}
        await _asked(
            f"HAHost {name}: status",
            self._objects.patch_cluster_custom_object_status(
                GROUP, VERSION, HAHost.PLURAL, name, body, _content_type=_MERGE_PATCH, **_limit()
            ),
        )


def _limit() -> dict[str, Any]:
    return {"_request_timeout": _REQUEST_SECONDS}


async def _asked(what: str, call: Any) -> Any:
    try:
        return await call
    except client.ApiException as error:
        raise NoAnswer(f"{what}: {error.status} {error.reason}") from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise NoAnswer(f"{what}: {error or type(error).__name__}") from error


def _parsed(kind: type[Kind], found: Any) -> Kind:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise NoAnswer(
            f"{kind.KIND} {found.get('metadata', {}).get('name')}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error

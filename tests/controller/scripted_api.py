"""A scripted API server: stores objects with resourceVersions, pages lists, and fails when a test tells it to.

It knows compare-and-swap, merge patches and uid preconditions, and no admission, watches or garbage collection; those are
tested against the real one in tests/cluster.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from quorate_controller import kube
from quorate_controller.kube import Kube

Json = dict[str, Any]
Script = Callable[[web.Request], web.StreamResponse | None]


PLURALS = {r.plural for r in vars(kube).values() if isinstance(r, kube.Resource)}


class ScriptedApi:
    """Objects by path. `script`, if set, sees each request first and may answer it; `delay_seconds` holds answers back."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[tuple[str, str]] = []
        self.script: Script | None = None
        self.delay_seconds = 0.0
        self.url = ""
        self._version = 0

    def put(self, path: str, obj: Json) -> Json:
        """Store an object under a new resourceVersion."""
        self._version += 1
        stored: Json = json.loads(json.dumps(obj))
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = stored
        return stored

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedApi"]:
        """Serve on a free loopback port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def client(self, **arguments: Any) -> AsyncIterator[Kube]:
        """A connection to it."""
        client = Kube(ApiClient(Configuration(host=self.url)), **arguments)
        try:
            yield client
        finally:
            await client.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.script is not None and (answer := self.script(request)) is not None:
            return answer
        body = await request.json() if request.can_read_body else {}
        path = request.path.removesuffix("/status")
        match request.method:
            case "GET" if path in self.objects:
                return web.json_response(self.objects[path])
            case "GET":
                return self._list(path, request)
            case "POST":
                path = f"{path}/{body['metadata']['name']}"
                if path in self.objects:
                    return status(409, "AlreadyExists", "already exists")
                return web.json_response(self.put(path, body), status=201)
            case _ if path not in self.objects:
                return status(404, "NotFound", "not found")
            case "DELETE":
                uid = body.get("preconditions", {}).get("uid")
                if uid and uid != self.objects[path]["metadata"].get("uid"):
                    return status(409, "Conflict", "Precondition failed: UID in precondition")
                return web.json_response(self.objects.pop(path))
            case _:
                current = self.objects[path]
                version = body.get("metadata", {}).get("resourceVersion")
                if version and version != current["metadata"]["resourceVersion"]:
                    return status(409, "Conflict", "the object has been modified")
                return web.json_response(self.put(path, merged(current, body) if request.method == "PATCH" else body))

    def _list(self, path: str, request: web.Request) -> web.StreamResponse:
        """A collection, of all namespaces too. A path that ends in an object's name is not one."""
        group, _, plural = path.rpartition("/")
        if plural not in PLURALS:
            return status(404, "NotFound", "not found")
        found = [obj for key, obj in sorted(self.objects.items()) if key.startswith(f"{group}/") and key.split("/")[-2] == plural]
        limit, start = int(request.query.get("limit", "500")), int(request.query.get("continue") or 0)
        more = str(start + limit) if start + limit < len(found) else ""
        return web.json_response({"kind": "List", "metadata": {"continue": more}, "items": found[start : start + limit]})


def merged(current: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def status(code: int, reason: str, message: str) -> web.StreamResponse:
    """A Kubernetes Status."""
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)

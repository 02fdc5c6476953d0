"""The Kubernetes API for the stand-in: asynchronous JSON calls, and a watch that lists, follows, and starts over.

Plain aiohttp: every host of the local pool loads this, and a full client costs ten times the memory.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import aiohttp

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
RETRY_SECONDS = 1.0
STALE = (aiohttp.ClientError, TimeoutError, OSError)
"""What an unreachable API server raises."""


class Refused(Exception):
    """The API server said no; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """A client with a certificate; use it as an async context manager."""

    def __init__(self, server: str, ca: str, cert: str, key: str) -> None:
        self._server = server
        self._tls = ssl.create_default_context(cafile=ca)
        self._tls.load_cert_chain(cert, key)

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            self._server, connector=aiohttp.TCPConnector(ssl=self._tls), timeout=aiohttp.ClientTimeout(total=10)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Json:
        """One request; the answer's JSON.

        Raises Refused, or one of STALE when the server cannot be reached.
        """
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers={"Content-Type": content_type}) as answer:
            result: Json = await answer.json(content_type=None) or {}
            if answer.status >= 400:
                raise Refused(answer.status, str(result.get("message", answer.reason)))
            return result

    async def merge(self, path: str, patch: Json) -> Json:
        """JSON merge patch."""
        return await self.call("PATCH", path, patch, MERGE)

    async def weave(self, path: str, patch: Json) -> Json:
        """Strategic merge patch: lists such as conditions keep what others wrote into them."""
        return await self.call("PATCH", path, patch, STRATEGIC)

    async def follow(self, path: str, query: str = "") -> AsyncIterator[tuple[str, Json]]:
        """Events for ever: `("LISTED", list)` after every (re)start, then ADDED, MODIFIED and DELETED with their object."""
        join = "&" if query else ""
        while True:
            try:
                listed = await self.call("GET", f"{path}?{query}")
                yield "LISTED", listed
                version = listed["metadata"]["resourceVersion"]
                url = f"{path}?{query}{join}watch=true&allowWatchBookmarks=true&resourceVersion={version}"
                forever = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=None)
                async with self._session.get(url, timeout=forever, read_bufsize=2**22) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (*STALE, Refused, ValueError):
                pass  # the server is away or has forgotten our version: list again
            await asyncio.sleep(RETRY_SECONDS)

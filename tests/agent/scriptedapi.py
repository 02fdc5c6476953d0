"""The API as report sees it, without a server: a few objects, what was written, and an API server that goes away and comes back."""

import asyncio
import uuid
from typing import Any

from quorate_agent.report.api import NoAnswer
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool


class ScriptedApi:
    """These objects; `told` is what report wrote. While `away` says why, nothing is answered; `tries` counts the writes all the same."""

    def __init__(self, pool: HAPool, *hosts: HAHost, key: bytes | None = bytes(32)) -> None:
        self._pool, self._hosts, self._key = pool, list(hosts), key
        self.told: list[dict[str, Any]] = []
        self.written = asyncio.Event()
        self.away = ""
        self.tries = 0

    async def host(self, name: str) -> HAHost:
        self._answer()
        return next(h for h in self._hosts if h.metadata.name == name)

    async def hosts(self) -> list[HAHost]:
        self._answer()
        return self._hosts

    async def pool(self, _: str) -> HAPool:
        self._answer()
        return self._pool

    async def listed(self, _: str) -> list[dict[str, Any]]:
        self._answer()
        return []

    async def key(self, *_: str) -> bytes | None:
        self._answer()
        return self._key

    async def tell(self, _: str, agent: dict[str, Any]) -> None:
        self.tries += 1
        self._answer()
        self.told.append(agent)
        self.written.set()

    def _answer(self) -> None:
        if self.away:
            raise NoAnswer(self.away)

    async def until_told(self, words: str) -> dict[str, Any]:
        """Wait for a message with these words to be written; the whole of it."""
        while not any(words in agent["message"] for agent in self.told):
            self.written.clear()
            await self.written.wait()
        return next(agent for agent in self.told if words in agent["message"])


def pool_on_loopback() -> HAPool:
    heartbeat = {"storage": {"devicePath": "/dev/shared"}, "network": {"interfaces": ["lo", "none"]}}
    status = {"heartbeat": {"storage": heartbeat["storage"], "generation": 1}}
    return HAPool.model_validate(
        {"metadata": {"name": "p", "uid": str(uuid.UUID(int=1))}, "spec": {"heartbeat": heartbeat}, "status": status}
    )

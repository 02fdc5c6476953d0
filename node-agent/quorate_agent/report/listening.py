"""Listens to pulse's socket and keeps its last word. Connects again whenever pulse comes back."""

import asyncio
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from quorate_agent import wire

_RETRY_SECONDS = 1.0
_SILENCE_SECONDS = 5.0
"""Pulse speaks every second. One that hangs keeps its socket, so only its silence tells."""


class Ear:
    """`state` is pulse's last message; `changed` is set when what it says of the host is new, not with each new number; `connected` says
    whether pulse is there and speaks, `problem` why not."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._heard_at: datetime | None = None
        self.state: dict[str, Any] = {}
        self.changed = asyncio.Event()
        self.connected = False
        self.problem = "pulse does not answer"

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            with link:
                try:
                    await self._listen(link)
                    self._lose(self._silence())
                except OSError:
                    self._lose(self._silence())
                except wire.BadMessage as error:
                    self._lose(f"{error}; restart the agent")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self, link: socket.socket) -> None:
        await asyncio.get_running_loop().sock_connect(link, self._path)
        while data := await self._receive(link):
            fresh = wire.parse(data, "message from pulse")
            if not self.connected or fresh.get("agent") != self.state.get("agent"):
                self.changed.set()
            self.state, self.connected, self._heard_at = fresh, True, datetime.now(UTC)

    async def _receive(self, link: socket.socket) -> bytes:
        while True:
            # The connection is kept: a pulse that goes on goes on speaking, and one that hangs would not take a second one.
            with suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(link, wire.MAX_MESSAGE_BYTES), _SILENCE_SECONDS)
            self._lose(self._silence())

    def _silence(self) -> str:
        return f"pulse does not answer since {self._heard_at:%Y-%m-%dT%H:%M:%SZ}" if self._heard_at else "pulse does not answer"

    def _lose(self, problem: str) -> None:
        if self.connected or problem != self.problem:
            self.connected, self.problem = False, problem
            self.changed.set()

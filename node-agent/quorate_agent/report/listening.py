"""Listens to pulse's socket and keeps its last word. Connects again whenever pulse comes back."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from quorate_agent import wire

_RETRY_SECONDS = 1.0


class Ear:
    """`state` is pulse's last message; `changed` is set when what it says of the host is new, not with each new number; `connected` says
    whether pulse is there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.state: dict[str, Any] = {}
        self.changed = asyncio.Event()
        self.connected = False

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            # A failure is said by `connected`, which ends up in the report.
            with link, suppress(OSError, wire.BadMessage):
                await self._listen(link)
            if self.connected:
                self.connected = False
                self.changed.set()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self, link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(link, self._path)
        while data := await loop.sock_recv(link, wire.MAX_MESSAGE_BYTES):
            fresh = wire.parse(data, "message from pulse")
            if not self.connected or fresh.get("agent") != self.state.get("agent"):
                self.changed.set()
            self.state, self.connected = fresh, True

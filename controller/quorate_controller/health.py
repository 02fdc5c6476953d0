"""`/livez`, `/readyz`, `/metrics` over plain HTTP, in every replica.

Alive: the work of this replica moves (its loop if it leads, its attempts at the lease if not). Ready: it can answer admission
requests; that has nothing to do with leading.
"""

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from quorate_controller.settings import Settings

STUCK_SECONDS = 90.0
"""Longer than any turn may take: three attempts at every list, and a failover's writes."""


class Health:
    """What the probes say. `progress_at_seconds` gives the monotonic time of the last progress."""

    def __init__(self, settings: Settings, progress_at_seconds: Callable[[], float]) -> None:
        self._settings = settings
        self._progress = progress_at_seconds

    async def serve(self) -> None:
        """Serve until cancelled."""
        app = web.Application()
        app.add_routes([web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._settings.health_host, self._settings.health_port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        idle = time.monotonic() - self._progress()
        if idle > STUCK_SECONDS:
            return web.Response(status=500, text=f"no progress for {idle:.0f} s\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._settings.webhook:
            try:
                async with asyncio.timeout(1):
                    _reader, writer = await asyncio.open_connection("127.0.0.1", self._settings.webhook_port)
                writer.close()
            except (OSError, TimeoutError) as error:
                return web.Response(status=503, text=f"the admission webhook does not answer: {error}\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

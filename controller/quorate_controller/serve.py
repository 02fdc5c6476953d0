"""The composition root of a replica: health always; admission; lease, then doorbell, loop and failover only while it leads.

Admission and leading share nothing but the API server's objects, so that one process may do either or both. In one process the turns of
a large pool take the interpreter from admission for seconds; the chart gives each a container of its own.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from quorate_controller import metrics
from quorate_controller.admission import serve_admission, store
from quorate_controller.events import Events
from quorate_controller.failover import advance, judge
from quorate_controller.health import Health
from quorate_controller.kube import Kube
from quorate_controller.leader import Leadership
from quorate_controller.reconcile import Loop
from quorate_controller.settings import Settings
from quorate_controller.triggers import Bell, watch

log = logging.getLogger(__name__)

LEASE_REQUEST_SECONDS = 4.0
"""A renewal that takes longer is given up and tried again, well before the lease must be surrendered."""


class _Stop(Exception):
    """A signal asked this replica to end."""


async def serve(settings: Settings) -> None:
    """Run this replica until SIGTERM or SIGINT, or until one of its parts fails for good."""
    api = await Kube.connect(settings.kubeconfig, settings.context)
    parts: list[Coroutine[Any, Any, None]] = [_signals()]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(api.close)
        progress_at_seconds = time.monotonic
        if settings.lead:
            # The lease has a connection of its own: its renewal never waits behind a burst of other requests.
            lease_api = await Kube.connect(settings.kubeconfig, settings.context, concurrency=1, request_seconds=LEASE_REQUEST_SECONDS)
            stack.push_async_callback(lease_api.close)
            leadership = Leadership(lease_api, settings)
            stack.push_async_callback(leadership.release)
            replica = _Replica(api, settings, leadership)
            progress_at_seconds = replica.progress_at_seconds
            parts.append(replica.lead())
        parts.append(Health(settings, progress_at_seconds).serve())
        if settings.webhook:
            parts.append(serve_admission(api, settings))
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        except* _Stop:
            log.info("%s stops", settings.identity)


class _Replica:
    """What only the leader does."""

    def __init__(self, api: Kube, settings: Settings, leadership: Leadership) -> None:
        self._api = api
        self._settings = settings
        self._leadership = leadership
        self._loop: Loop | None = None

    def progress_at_seconds(self) -> float:
        """Monotonic time of the last progress: of the loop if this replica leads, else of its attempts at the lease."""
        return self._loop.progress_at_seconds if self._loop is not None else self._leadership.attempted_at_seconds

    async def lead(self) -> None:
        """Wait for the lease, then hold it and take turns."""
        metrics.leading.set(0)
        log.info("%s waits for lease %s/%s", self._settings.identity, self._settings.namespace, self._settings.lease_name)
        await self._leadership.acquire()
        metrics.leading.set(1)
        bell = Bell()
        events = Events(self._api, self._settings.identity)
        reaper = store.Reaper(self._api, self._settings.namespace)
        self._loop = Loop(self._api, self._settings, bell, events, reaper, advance, judge)
        self._loop.progress_at_seconds = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for part in (self._leadership.hold(), watch(self._api, bell), events.post(), self._loop.run()):
                group.create_task(part)


async def _signals() -> None:
    """Raises `_Stop` on the first SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    raise _Stop

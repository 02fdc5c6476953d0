"""Kubernetes Events about what Quorate decides: posted in the background, never in the way, never a flood.

kopf's posting is not used, since decisions are taken outside its handlers and its event loop.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from quorate_controller import kube
from quorate_controller.kube import Json, Kube
from quorate_controller.turn import EventType

log = logging.getLogger(__name__)

QUIET_SECONDS = 300.0
"""The same words about the same object are posted once in this time."""
QUEUE = 1000
POSTS_PER_SECOND = 20.0


class Events:
    """Call it to publish an Event; run `post` to have them written. What does not fit the queue is dropped with a log line."""

    def __init__(self, api: Kube, identity: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._identity = identity
        self._monotonic = monotonic
        self._queue: asyncio.Queue[Json] = asyncio.Queue(QUEUE)
        self._said: dict[tuple[str, str, str], float] = {}

    def __call__(self, involved: Json, reason: str, message: str, type: EventType = "Normal") -> None:
        """Publish unless the same was published lately."""
        metadata = involved.get("metadata") or {}
        now = self._monotonic()
        while self._said and now - next(iter(self._said.values())) >= QUIET_SECONDS:  # the oldest come first
            del self._said[next(iter(self._said))]
        key = (str(metadata.get("uid") or metadata.get("name")), reason, message)
        if key in self._said:
            return
        self._said[key] = now
        try:
            self._queue.put_nowait(event(involved, reason, message, type, self._identity, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("event dropped, %d are waiting: %s", QUEUE, message)

    async def post(self) -> None:
        """Write events until cancelled. One that the API server will not take is logged and forgotten."""
        while True:
            body = await self._queue.get()
            try:
                await self._api.create(kube.EVENTS, body)
            except kube.KubeError as error:
                log.warning("event not written (%s): %s", error, body["message"])
            await asyncio.sleep(1 / POSTS_PER_SECOND)


def event(involved: Json, reason: str, message: str, type: EventType, identity: str, now: datetime) -> Json:
    """The Event object; those about cluster-wide objects live in namespace `default`, as the API server demands."""
    metadata = involved.get("metadata") or {}
    namespace = metadata.get("namespace") or "default"
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    reference = {
        "apiVersion": involved.get("apiVersion"),
        "kind": involved.get("kind"),
        "name": metadata.get("name"),
        "namespace": metadata.get("namespace"),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {
        "metadata": {"name": f"{metadata.get('name')}.{uuid.uuid4().hex[:16]}"[-253:], "namespace": namespace},
        "involvedObject": {key: value for key, value in reference.items() if value},
        "reason": reason,
        "message": message[:1024],
        "type": type,
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "source": {"component": "quorate-controller"},
        "reportingComponent": "quorate.dev/controller",
        "reportingInstance": identity,
    }

"""The cluster kept in memory by list and watch, so that a start need not read thousands of objects before it is answered.

A mirror is late, if only by milliseconds, and an answer must not be wrong for that. What was admitted stays in the ledger until it
is counted in the cluster, and whoever takes it out writes down the resource versions at which it was (`Ledger.shown_at`). So a mirror
that has come so far, for every kind, misses nothing that was admitted; one that has not waits a moment or says no, and then the
cluster is read afresh. A mirror that has heard nothing for a while says no as well.
Only starts are answered from here: other changes are rare, and depend on objects that a person may have made a moment ago.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quorate_controller import kube
from quorate_controller import observe as reading
from quorate_controller.admission import requests
from quorate_controller.admission.assess import Scene
from quorate_controller.admission.requests import Request
from quorate_controller.following import Following
from quorate_controller.kube import Json, Kube, Resource
from quorate_controller.observe import Observed
from quorate_core.ledger import Ledger

log = logging.getLogger(__name__)

WATCH_SECONDS = 40
"""A watch ends after so long and goes on where it was: its new answer shows that the API server is there."""
SILENCE_SECONDS = 90.0
PATIENCE_SECONDS = 0.5
RETRY_SECONDS = 2.0


@dataclass
class _Kind:
    """One kind: its objects by namespace and name, how far it has come, and when it was last heard of."""

    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    version: int = -1
    heard_at_seconds: float = float("-inf")
    sorted: tuple[Json, ...] | None = None


class Mirror:
    """The mirror of one replica. `run` keeps it; `near` gives a scene from it, or None."""

    def __init__(self, api: Kube) -> None:
        self._api = api
        self._kinds = {r: _Kind() for r in reading.kinds()}
        self._following = Following()
        self._listing = asyncio.Lock()
        self._scene: tuple[Observed, Scene] | None = None

    async def run(self) -> None:
        """Follow every kind until cancelled."""
        async with asyncio.TaskGroup() as group:
            for r in self._kinds:
                group.create_task(self._follow(r))

    async def near(self, ledgers: Mapping[str, Ledger], asked: Sequence[Request]) -> Scene | None:
        """The cluster at least as it was when the ledgers were read, if all that is asked are starts; None: read it afresh."""
        if not all(isinstance(next(iter(requests.asks(request)), None), requests.StartVm) for request in asked):
            return None
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._reached(ledger.shown_at for ledger in ledgers.values()):
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(0.01)
        observed = self._observed()
        if self._scene is None or self._scene[0] != observed:
            self._scene = observed, await asyncio.to_thread(Scene, observed, self._following)
        return self._scene[1]

    def _reached(self, demands: Iterable[Mapping[str, int]]) -> bool:
        alive_since = time.monotonic() - SILENCE_SECONDS
        if any(kind.heard_at_seconds < alive_since for kind in self._kinds.values()):
            return False
        come = {r.kind: kind.version for r, kind in self._kinds.items()}
        return all(come.get(kind, -1) >= version for demand in demands for kind, version in demand.items())

    def _observed(self) -> Observed:
        found: dict[str, Any] = {}
        for r, name in reading.kinds().items():
            kind = self._kinds[r]
            if kind.sorted is None:
                kind.sorted = tuple(obj for _, obj in sorted(kind.objects.items(), key=lambda item: item[0]))
            found[name] = (*found.get(name, ()), *kind.sorted) if name in found else kind.sorted
        return Observed(**found)

    async def _follow(self, r: Resource) -> None:
        kind = self._kinds[r]
        while True:
            try:
                await self._listed(r, kind)
                while True:
                    await self._watched(r, kind)
            except kube.Expired:
                continue
            except (kube.Missing, kube.Refused) as error:
                # Not served, or not ours to read: what nothing depends on is taken as empty, as in a fresh read.
                if not reading.needed(r):
                    kind.heard_at_seconds = time.monotonic()
                log.debug("%s is not mirrored: %s", r.plural, error)
            except kube.KubeError as error:
                log.info("mirror of %s begins again: %s", r.plural, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listed(self, r: Resource, kind: _Kind) -> None:
        async with self._listing:  # one kind at a time: a replica that begins must not keep its event loop from everything else
            objects, version = await self._api.list_at(r)
        kind.objects = {_name(obj): _slim(obj, r) for obj in objects}
        kind.sorted = None
        kind.version = int(version)
        kind.heard_at_seconds = time.monotonic()

    async def _watched(self, r: Resource, kind: _Kind) -> None:
        async for event in self._api.watch(r, str(kind.version), WATCH_SECONDS):
            obj = event["object"]
            if event["type"] in ("ADDED", "MODIFIED"):
                kind.objects[_name(obj)] = _slim(obj, r)
                kind.sorted = None
            elif event["type"] == "DELETED":
                kind.objects.pop(_name(obj), None)
                kind.sorted = None
            kind.version = max(kind.version, int(obj["metadata"]["resourceVersion"]))
            kind.heard_at_seconds = time.monotonic()
        kind.heard_at_seconds = time.monotonic()


def _name(obj: Json) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _slim(obj: Json, r: Resource) -> Json:
    """The object as a list would have it, without what nobody reads and what is a third of it."""
    obj["metadata"].pop("managedFields", None)
    return {"apiVersion": r.api_version, "kind": r.kind, **obj}

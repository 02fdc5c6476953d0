"""What leaves the ledger must be findable by whoever reads later, from whatever copy of the cluster."""

import asyncio
from dataclasses import replace
from typing import Any

from quorate_controller.admission import store
from quorate_controller.kube import Conflict
from quorate_controller.observe import Observed
from quorate_controller.world import world_of
from quorate_core.ledger import Ledger, Reservation, ReservationKind

from .admission.objects import cluster, launcher, pvm, vm

Json = dict[str, Any]
START = Reservation(ReservationKind.START, "d/a", "r1", size_bytes=2 << 30, host="n1", pinned=True)


class OneConfigMap:
    """The API server as the reaper uses it: one ConfigMap, replaced by compare-and-swap."""

    def __init__(self, ledger: Ledger) -> None:
        self.obj: Json = {
            "metadata": {"name": "quorate-ledger-p", "namespace": "q", "resourceVersion": "1"},
            "data": {"ledger.json": store.encode(ledger)},
        }
        self.deleted: list[str] = []

    async def list(self, *_: object, **__: object) -> list[Json]:
        return [self.obj]

    async def replace(self, _: object, body: Json) -> None:
        if body["metadata"]["resourceVersion"] != self.obj["metadata"]["resourceVersion"]:
            raise Conflict("changed meanwhile")
        version = str(int(body["metadata"]["resourceVersion"]) + 1)
        self.obj = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}

    async def delete(self, _: object, name: str, *__: object, **___: object) -> None:
        self.deleted.append(name)

    @property
    def ledger(self) -> Ledger:
        return store.decode(self.obj)


def versioned(version: int, obj: Json) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def running() -> Observed:
    seen = cluster(vms=(versioned(40, vm("a", strategy="Always")),), pods=(versioned(50, launcher("a", "n1")),))
    return replace(seen, protectedvms=(versioned(45, pvm("a", "BestEffort")),))


def reap(api: OneConfigMap, *turns: tuple[float, Observed]) -> None:
    reaper = store.Reaper(api, "q")  # type: ignore[arg-type]
    for seconds, observed in turns:
        asyncio.run(reaper.reap(world_of(observed), seconds))


def test_an_entry_leaves_with_the_versions_of_all_that_shows_it() -> None:
    api = OneConfigMap(Ledger((START,)).shown({"Pod": 7, "Node": 3}))
    reap(api, (0, running()))
    assert api.ledger.entries == (START,), "not in the turn that first sees it"
    reap(api, (0, running()), (10, running()))
    assert not api.ledger.entries
    assert api.ledger.shown_at == {"Pod": 50, "VirtualMachine": 40, "ProtectedVM": 45, "Node": 3}


def test_an_entry_whose_vm_was_not_seen_leaves_when_its_request_can_no_longer_succeed() -> None:
    api = OneConfigMap(Ledger((START,)))
    reap(api, (0, cluster()), (80, cluster()))
    assert api.ledger.entries == (START,)
    reap(api, (0, cluster()), (91, cluster()))
    assert not api.ledger.entries


def test_a_pool_that_cannot_be_read_keeps_its_ledger_and_one_that_is_gone_does_not() -> None:
    broken = cluster(hapools=({"kind": "HAPool", "metadata": {"name": "p"}, "spec": {"hostSelector": 5}},))
    api = OneConfigMap(Ledger((START,)))
    reap(api, (0, broken), (100, broken))
    assert (api.ledger.entries, api.deleted) == ((START,), [])
    reap(api, (0, cluster(hapools=())))
    assert api.deleted == ["quorate-ledger-p"]

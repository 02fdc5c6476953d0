"""What the leader keeps of a plan must outlast what other VMs do."""

from dataclasses import replace

import quorate_planner as planner
from quorate_controller.keeping import Keeper
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.layout import LaidZone, Layout

VMS = {"a": (7, "h2"), "b": (3, "h1"), "c": (7, "h1"), "d": (3, "h1"), "e": (7, "h0"), "f": (3, "h2"), "g": (7, "h0")}
LAYOUT = Layout(
    (LaidZone((7,), dict.fromkeys(("h0", "h1", "h2"), 14)), LaidZone((3,), dict.fromkeys(("h0", "h1", "h2"), 6))),
    {f"d/{name}": (7, 3).index(size) for name, (size, _) in VMS.items()},
)


def pool() -> Snapshot:
    vms = tuple(Vm(f"d/{name}", size, host, Protection.PROTECTED) for name, (size, host) in VMS.items())
    used = {f"h{i}": sum(vm.size_bytes for vm in vms if vm.host == f"h{i}") for i in range(3)}
    return Snapshot(Pool("p", 1), tuple(Host(name, 20, amount) for name, amount in used.items()), vms, layout=LAYOUT)


def test_a_vm_that_has_no_place_does_not_cost_the_others_their_zones() -> None:
    keeper = Keeper(lambda: None)
    assert planner.plan(replace(pool(), layout=None)).lower == 0, "without its zones the pool shows nothing"
    assert planner.plan(keeper.keep(pool())).lower == 1
    too_large = Vm("d/large", 19, None, Protection.PROTECTED)
    waits = keeper.keep(replace(pool(), vms=(*pool().vms, too_large)))
    assert waits.layout == LAYOUT
    assert not planner.plan(waits).waiting_placed
    for leader in (keeper, Keeper(lambda: None)):
        assert planner.plan(leader.keep(replace(pool(), layout=waits.layout))).lower == 1


def test_a_search_that_was_overtaken_by_the_pool_replaces_nothing_better() -> None:
    keeper = Keeper(lambda: None)
    keeper._found["p"] = Layout((LaidZone((7,), {"h0": 14}),), {"d/a": 0, "d/gone": 0})
    assert keeper.keep(pool()).layout == LAYOUT
    assert planner.plan(keeper.keep(replace(pool(), layout=None))).lower == 1

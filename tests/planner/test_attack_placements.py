"""Where VMs restart is written into thousands of statuses: it may change where it must, not at every start."""

from dataclasses import replace
from random import Random

import quorate_planner as planner
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.layout import LaidZone, Layout

BLOCKS = ((2, 4), (3, 6))


def pool(hosts: int = 8, vms: int = 80) -> Snapshot:
    dice = Random(1)
    names = [f"h{i}" for i in range(hosts)]
    used = dict.fromkeys(names, 0)
    kept: list[dict[str, int]] = [dict.fromkeys(names, 12) for _ in BLOCKS]
    found, bind = [], {}
    for number in range(vms):
        zone = dice.randrange(len(BLOCKS))
        size, host = dice.choice(BLOCKS[zone]), min(names, key=lambda name: (used[name], name))
        used[host] += size
        kept[zone][host] += size
        found.append(Vm(f"d/{number}", size, host, Protection.PROTECTED))
        bind[f"d/{number}"] = zone
    capacity = max(used.values()) + 40
    zones = tuple(LaidZone(blocks, memory) for blocks, memory in zip(BLOCKS, kept, strict=True))
    hosts = tuple(Host(n, capacity, used[n]) for n in names)
    snapshot = Snapshot(Pool("p", 1), hosts, tuple(found), layout=Layout(zones, bind))
    # As the leader does: a layout that shows less than the rule without one is not kept.
    return replace(snapshot, layout=planner.best_layout(planner.problem_of(snapshot), [snapshot.layout] if snapshot.layout else []))


def flat(plan: planner.Plan) -> dict[str, str]:
    return {vm: host for places in plan.placements.values() for vm, host in places.items()}


def test_a_start_moves_no_planned_host_of_another_vm() -> None:
    before = flat(planner.plan(pool()))
    started = planner.apply(pool(), planner.AddVm(Vm("d/new", 4, "h5", Protection.UNPROTECTED)))
    assert flat(planner.plan(started)) != before, "else this test would show nothing"
    assert flat(planner.plan(started, planned=before)) == before


def test_a_planned_host_that_the_rule_does_not_allow_any_more_is_given_up() -> None:
    before = flat(planner.plan(pool()))
    vm, target = next(iter(before.items()))
    full = planner.apply(pool(), planner.AddVm(Vm("d/new", 200, target, Protection.UNPROTECTED)))
    assert flat(planner.plan(full, planned=before)).get(vm) not in (None, target)
    assert target not in flat(planner.plan(full, planned=before)).values()


def test_what_was_planned_by_nobody_or_for_hosts_that_are_gone_changes_nothing() -> None:
    nonsense = {"d/0": "nowhere", "d/1": "", "d/unknown": "h1", "d/2": "h2"}
    found = planner.plan(pool(), planned=nonsense)
    assert set(flat(found).values()) <= {host.name for host in pool().hosts}
    assert flat(found).keys() == flat(planner.plan(pool())).keys()

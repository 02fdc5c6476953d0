"""Restart lists are kept like zones: stored in the statuses, proven again by whoever reads them, and what runs at a failure."""

import threading
from dataclasses import replace
from typing import Any

import pytest

import quorate_planner as planner
from quorate_controller import layouts
from quorate_controller.keeping import Keeper
from quorate_controller.observe import Observed
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.layout import Layout
from quorate_planner import listing

from .objects import hahost, pool, protected_vm

HOSTS = tuple(f"h{i}" for i in range(5))


def ring(free: int = 4) -> Snapshot:
    """Each host has a large VM, which may use the host after it, and a small one, which may use the next two. One failure is survived
    if the large one goes to the next host and the small one to the one after that; no rule without a layout knows this."""
    vms = []
    for i, name in enumerate(HOSTS):
        after, then = HOSTS[(i + 1) % 5], HOSTS[(i + 2) % 5]
        vms.append(Vm(f"ns/large{i}", 4, name, Protection.PROTECTED, allowed=frozenset({name, after})))
        vms.append(Vm(f"ns/small{i}", 3, name, Protection.PROTECTED, allowed=frozenset({name, after, then})))
    return Snapshot(Pool("a", 1), tuple(Host(name, 7 + free, 7) for name in HOSTS), tuple(vms))


def found() -> Layout:
    problem = planner.problem_of(ring())
    certificate = listing.certified_by_lists(problem, 0, 1, lambda: 60.0)  # a whole search may find zones for this pool as well
    assert certificate is not None
    return planner.layout_of(problem, certificate)


def as_objects(layout: Layout) -> Observed:
    """What the leader writes for it."""
    of_pool: dict[str, Any] = pool()
    of_pool["status"] = {"zones": [zone.to_json() for zone in layouts.zones_of(layout)]}
    vms = []
    for key in sorted(vm.key for vm in ring().vms):
        vm = protected_vm(key.partition("/")[2])
        vm["status"] = {"pool": "a", "restartHosts": layouts.restart_hosts_of(layout, key)}
        vms.append(vm)
    return Observed(hapools=(of_pool,), hahosts=tuple(hahost(name) for name in HOSTS), protectedvms=tuple(vms))


def test_a_new_leader_finds_in_the_statuses_the_lists_that_the_old_one_had_proven() -> None:
    layout = found()
    assert planner.plan(ring()).lower == 0
    stored = layouts.stored(as_objects(layout))["a"]
    kept = Keeper(lambda: None).keep(replace(ring(), layout=stored))
    plan = planner.plan(kept)
    assert (plan.lower, plan.exact, plan.plan_exists) == (1, True, True)
    assert kept.layout == stored == layout, "what is kept is not written anew"


@pytest.mark.parametrize("damage", ["half of the VMs", "hosts that are not there", "not a list", "all on one host", "another zone"])
def test_statuses_that_were_half_written_or_edited_prove_no_more_than_is_true(damage: str) -> None:
    observed = as_objects(found())
    for at, vm in enumerate(observed.protectedvms):
        match damage:
            case "half of the VMs" if at % 2:
                del vm["status"]["restartHosts"]
            case "hosts that are not there":
                vm["status"]["restartHosts"] = ["gone", "", "h9"]
            case "not a list":
                vm["status"]["restartHosts"] = [["h0", 3], "h0", {"h0": 1}, [None]][at % 4]
            case "all on one host":
                vm["status"]["restartHosts"] = ["h0"]
    if damage == "another zone":
        observed.hapools[0]["status"]["zones"].append({"kind": "any"})
    snapshot = replace(ring(), layout=layouts.stored(observed).get("a"))
    assert planner.plan(snapshot).lower == 0
    assert planner.plan(Keeper(lambda: None).keep(snapshot)).lower <= 1
    waits = replace(snapshot.vms[0], host=None)
    assert planner.restart_targets(replace(snapshot, hosts=snapshot.hosts[1:]), [waits]) == {waits.key: "h1"}


def test_the_search_finds_what_the_plain_rule_does_not_show_and_the_leader_keeps_it() -> None:
    rung = threading.Event()
    keeper = Keeper(rung.set, seconds=60)
    first = keeper.keep(ring())
    plan = planner.plan(first)
    assert (plan.lower, plan.plan_exists) == (0, False)
    keeper.search({"a": first}, {"a": plan})
    assert rung.wait(60)
    kept = keeper.keep(ring())
    assert planner.plan(kept).lower == 1
    assert keeper.keep(replace(ring(), layout=found())).layout == kept.layout, "what shows no more is not taken instead"


@pytest.mark.parametrize("failed", HOSTS)
def test_a_failover_that_asks_for_one_vm_after_the_other_keeps_to_the_lists_and_to_what_was_announced(failed: str) -> None:
    now = replace(ring(), layout=layouts.stored(as_objects(found()))["a"])
    announced = planner.plan(now).placements[failed]
    now = replace(now, hosts=tuple(host for host in now.hosts if host.name != failed))
    for key in sorted(
        announced, key=lambda key: "large" in key
    ):  # the small one first: any free room would do for it, but not for the other
        vms = {vm.key: vm if vm.host != failed else replace(vm, host=None) for vm in now.vms}
        target = planner.restart_targets(replace(now, vms=tuple(vms.values())), [vms[key]])[key]
        assert target == announced[key]
        assert target is not None
        vms[key] = replace(vms[key], host=target)
        hosts = tuple(replace(h, used_bytes=h.used_bytes + vms[key].size_bytes) if h.name == target else h for h in now.hosts)
        now = replace(now, hosts=hosts, vms=tuple(vms.values()))
    assert all(vm.host is not None for vm in now.vms)


def test_lists_too_long_for_the_api_are_not_stored() -> None:
    long = Layout(lists={"ns/a": tuple(f"h{i}" for i in range(layouts.LIST_MOST + 1))})
    assert (layouts.zones_of(long), layouts.restart_hosts_of(long, "ns/a")) == ([], [])


def test_admission_proves_a_start_by_the_stored_lists() -> None:
    roomy = replace(ring(7), layout=found())
    new = Vm("ns/new", 3, None, Protection.PROTECTED, allowed=frozenset({"h0", "h3"}))
    host = next(iter(planner.start_hosts(roomy, new, 1)), None)
    assert host in {"h0", "h3"}
    assert not planner.start_hosts(replace(roomy, layout=None), new, 1)
    after = planner.apply(roomy, planner.AddVm(replace(new, host=host)))
    assert planner.prove(planner.problem_of(after), 1, after.layout).answer is planner.Answer.YES

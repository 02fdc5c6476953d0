"""The plan is what runs: kept by the leader, stored in the statuses, and found there by the next one."""

import threading
from dataclasses import replace
from typing import Any

import pytest

import quorate_planner as planner
from quorate_controller import layouts, searching
from quorate_controller.keeping import Keeper
from quorate_controller.observe import Observed
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.layout import LaidZone, Layout

from .objects import hahost, pool, protected_vm

pytest.importorskip("ortools", reason="OR-Tools is not installed: no zones beyond the plain ones are found")

FREE = {"h0": 8, "h1": 18, "h2": 22, "h3": 12}
"""Two failures can be survived here, but no single chain of block sizes shows it."""
SIZES = {"ns/a": (12, "h0"), "ns/b": (10, "h0"), "ns/c": (8, "h2")}
PATIENT = planner.Budget(lambda: 0.0, 60.0)


def gap(wish: int = 2) -> Snapshot:
    used = {name: sum(size for size, host in SIZES.values() if host == name) for name in FREE}
    hosts = tuple(Host(name, free + used[name], used[name]) for name, free in FREE.items())
    return Snapshot(Pool("a", wish), hosts, tuple(Vm(key, size, host, Protection.PROTECTED) for key, (size, host) in SIZES.items()))


def found() -> Layout:
    problem = planner.problem_of(gap())
    certificate = planner.sharpen(problem, PATIENT).certificate
    assert certificate is not None
    return planner.layout_of(problem, certificate)


def as_objects(layout: Layout) -> Observed:
    """What the leader writes for it."""
    of_pool: dict[str, Any] = pool()
    of_pool["status"] = {"zones": [zone.to_json() for zone in layouts.zones_of(layout)]}
    hosts = []
    for name in FREE:
        host = hahost(name)
        host["status"]["zoneBytes"] = layouts.bytes_of(layout, name)
        hosts.append(host)
    vms = []
    for key in SIZES:
        vm = protected_vm(key.partition("/")[2])
        vm["status"] = {"pool": "a", "zone": layouts.zone_of(layout, key)}
        vms.append(vm)
    return Observed(hapools=(of_pool,), hahosts=tuple(hosts), protectedvms=tuple(vms))


def test_a_new_leader_finds_in_the_statuses_what_the_old_one_had_proven() -> None:
    layout = found()
    assert planner.plan(gap()).lower == 1
    stored = layouts.stored(as_objects(layout))["a"]
    kept = Keeper(lambda: None).keep(replace(gap(), layout=stored))
    plan = planner.plan(kept)
    assert (plan.lower, plan.exact, plan.plan_exists) == (2, True, True)
    assert kept.layout == stored, "what is kept is not written anew"


@pytest.mark.parametrize("damage", ["half of the hosts", "another chain", "no binding", "not a chain", "too much"])
def test_statuses_that_were_half_written_or_edited_prove_no_more_than_is_true(damage: str) -> None:
    observed = as_objects(found())
    zones: list[dict[str, Any]] = observed.hapools[0]["status"]["zones"]
    match damage:
        case "half of the hosts":
            for host in observed.hahosts[:2]:
                del host["status"]["zoneBytes"]
        case "another chain":
            zones[0]["blocks"] = [1, 3, 9]
        case "no binding":
            for vm in observed.protectedvms:
                vm["status"].pop("zone")
        case "not a chain":
            zones[0]["blocks"] = [3, 2, "x"]
        case _:
            for host in observed.hahosts:
                host["status"]["zoneBytes"] = [1 << 40] * 64
    snapshot = replace(gap(), layout=layouts.stored(observed).get("a"))
    assert 1 <= planner.plan(snapshot).lower <= 2
    assert 1 <= planner.plan(Keeper(lambda: None).keep(snapshot)).lower <= 2


def test_the_search_finds_the_better_layout_and_rings_for_the_next_turn() -> None:
    rung = threading.Event()
    keeper = Keeper(rung.set, seconds=60)
    first = keeper.keep(gap())
    plan = planner.plan(first)
    assert (plan.lower, plan.plan_exists) == (1, False)
    keeper.search({"a": first}, {"a": plan})
    assert rung.wait(60)
    assert planner.plan(keeper.keep(gap())).lower == 2


def test_a_search_that_ends_badly_says_so_and_changes_nothing() -> None:
    with pytest.raises(searching.SearchFailed, match="ended with 1"):
        searching.search(None, 1.0)  # type: ignore[arg-type]
    rung = threading.Event()
    keeper = Keeper(rung.set, seconds=0.0)
    first = keeper.keep(gap())
    plan = planner.plan(first)
    keeper.search({"a": first}, {"a": plan})
    assert not rung.wait(0.5)
    assert planner.plan(keeper.keep(gap())).lower == plan.lower


def test_the_number_does_not_fall_while_the_pool_stays_as_it_is() -> None:
    keeper = Keeper(lambda: None)
    assert planner.plan(keeper.keep(replace(gap(), layout=found()))).lower == 2
    again = keeper.keep(gap())  # the statuses are gone; this leader remembers
    assert planner.plan(again).lower == 2
    smaller = replace(
        again, vms=again.vms[1:], hosts=tuple(replace(h, used_bytes=h.used_bytes - 12) if h.name == "h0" else h for h in again.hosts)
    )
    assert planner.plan(keeper.keep(smaller)).lower >= 2


def test_a_layout_too_large_for_the_api_is_not_stored() -> None:
    many = Layout(tuple(LaidZone((1,), {"h0": 1}) for _ in range(layouts.ZONES_MOST + 1)), {"ns/a": 0})
    assert (layouts.zones_of(many), layouts.bytes_of(many, "h0"), layouts.zone_of(many, "ns/a")) == ([], [], None)


def test_restarts_follow_the_stored_zones() -> None:
    """Both VMs of h0 at once, then h2: whoever places them by any free room gets stuck, the rule does not."""
    kept = Keeper(lambda: None).keep(replace(gap(), layout=found()))
    after = replace(kept, hosts=tuple(h for h in kept.hosts if h.name not in ("h0", "h2")))
    moving = [vm for vm in kept.vms if vm.host in ("h0", "h2")]
    assert None not in planner.restart_targets(after, moving).values()

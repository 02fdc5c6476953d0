"""From a snapshot to a plan: what counts, what does not, and what a change does."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_planner import (
    AddVm,
    Change,
    ChangeError,
    GrowVm,
    MoveVm,
    Problem,
    RemoveVm,
    SetProtection,
    WithoutHost,
    apply,
    holds,
    plan,
    plan_problem,
    problem_of,
    restart_targets,
    start_hosts,
    what_if,
)

from .oracle import tolerates
from .pools import problems

GIB = 1 << 30
P = Protection.PROTECTED


def pool_of_three(**more: Vm) -> Snapshot:
    vms = (Vm("ns/a", 4 * GIB, "h1", P), Vm("ns/b", 4 * GIB, "h2", P), *more.values())
    return Snapshot(Pool("p"), tuple(Host(f"h{i}", 16 * GIB, 4 * GIB) for i in (1, 2, 3)), vms)


def test_only_protected_vms_that_should_run_are_planned_for() -> None:
    snapshot = pool_of_three(
        stopped=Vm("ns/stopped", 64 * GIB, None, P, should_run=False),
        best_effort=Vm("ns/best-effort", 4 * GIB, "h3", Protection.BEST_EFFORT),
        unprotected=Vm("ns/unprotected", 4 * GIB, "h3"),
    )
    assert [vm.name for vm in problem_of(snapshot).vms] == ["ns/a", "ns/b"]
    assert (plan(snapshot).lower, plan(snapshot).upper) == (2, 2)


def test_a_protected_vm_that_is_not_agile_makes_the_tolerance_zero_and_is_named() -> None:
    snapshot = pool_of_three(pinned=Vm("ns/pinned", GIB, "h3", P, not_agile=("its disk is local",)))
    found = plan(snapshot)
    assert (found.lower, found.upper, found.plan_exists, found.waiting_placed) == (0, 0, False, True)
    assert found.witness is not None
    assert (found.witness.failed_hosts, found.witness.unplaceable) == (("h3",), ("ns/pinned",))
    assert holds(snapshot, 0)
    assert not holds(snapshot, 1)


def test_a_host_that_accepts_no_vms_may_fail_but_takes_nothing() -> None:
    snapshot = pool_of_three()
    cordoned = replace(snapshot, hosts=(*snapshot.hosts[:2], replace(snapshot.hosts[2], accepts_vms=False)))
    assert (plan(cordoned).lower, plan(cordoned).hosts) == (1, 3)
    assert plan(cordoned).placements["h1"] == {"ns/a": "h2"}


def test_a_vm_whose_host_left_the_pool_waits_to_be_placed() -> None:
    snapshot = pool_of_three(lost=Vm("ns/lost", 4 * GIB, "gone", P))
    assert next(vm for vm in problem_of(snapshot).vms if vm.name == "ns/lost").host is None
    assert restart_targets(snapshot, [snapshot.vms[2]])["ns/lost"] in {"h1", "h2", "h3"}


def test_the_wish_can_be_replaced_for_one_question() -> None:
    assert plan(pool_of_three()).plan_exists
    asked = plan(pool_of_three(), tolerate=3)
    assert (asked.host_failures_to_tolerate, asked.plan_exists, asked.overcommitted) == (3, False, True)


def test_hosts_of_one_domain_fail_together_and_count_once() -> None:
    hosts = tuple(Host(f"h{i}", 16 * GIB, 4 * GIB, domain=f"rack{i // 2}") for i in range(4))
    vms = tuple(Vm(f"ns/v{i}", 4 * GIB, f"h{i}", P) for i in range(4))
    by_host = Snapshot(Pool("p"), hosts, vms)
    by_rack = Snapshot(Pool("p", failure_domain_key="rack"), hosts, vms)
    assert (plan(by_host).lower, plan(by_host).upper) == (3, 3)
    assert (plan(by_rack).lower, plan(by_rack).upper) == (1, 1)
    assert plan(by_rack).witness is not None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems(hosts=5, vms=6, waiting=False), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_what_is_promised_for_domains_survives_every_set_of_domains_at_once(problem: Problem, rack: list[int]) -> None:
    hosts = tuple(host._replace(domain=f"r{rack[i]}") for i, host in enumerate(problem.hosts))
    racks = {host.domain: {h.name for h in hosts if h.domain == host.domain} for host in hosts}
    found = plan_problem(replace(problem, hosts=hosts))
    for failures, expected in ((found.lower, True), (found.upper + 1, False)):
        if failures <= len(racks) and problem.vms:
            survived = all(tolerates(_left(problem, set().union(*failed)), 0) for failed in combinations(racks.values(), failures))
            assert survived is expected


def _left(problem: Problem, failed: set[str]) -> Problem:
    vms = (
        vm._replace(host=None if vm.host in failed else vm.host, allowed=None if vm.allowed is None else vm.allowed - failed)
        for vm in problem.vms
    )
    return replace(problem, hosts=tuple(host for host in problem.hosts if host.name not in failed), vms=tuple(vms))


def test_changes_move_the_memory_they_say() -> None:
    snapshot = pool_of_three()

    def used(after: Snapshot) -> dict[str, int]:
        return {host.name: host.used_bytes // GIB for host in after.hosts}

    assert used(apply(snapshot, AddVm(Vm("ns/new", 2 * GIB, "h3", P)))) == {"h1": 4, "h2": 4, "h3": 6}
    assert used(apply(snapshot, AddVm(Vm("ns/new", 2 * GIB, None, P)))) == {"h1": 4, "h2": 4, "h3": 4}
    assert used(apply(snapshot, RemoveVm("ns/a"))) == {"h1": 0, "h2": 4, "h3": 4}
    assert used(apply(snapshot, GrowVm("ns/a", 6 * GIB))) == {"h1": 6, "h2": 4, "h3": 4}
    assert used(apply(snapshot, MoveVm("ns/a", "h3"))) == {"h1": 0, "h2": 4, "h3": 8}
    without = apply(snapshot, WithoutHost("h1"))
    assert used(without) == {"h2": 4, "h3": 4}
    assert without.vm("ns/a") == replace(snapshot.vms[0], host=None)
    lowered = apply(snapshot, SetProtection("ns/a", Protection.BEST_EFFORT, 7)).vm("ns/a")
    assert lowered == replace(snapshot.vms[0], protection=Protection.BEST_EFFORT, priority=7)


def test_what_if_answers_for_all_changes_together_and_leaves_the_pool_alone() -> None:
    snapshot = pool_of_three()
    assert what_if(snapshot, []) == plan(snapshot)
    hypothetical = what_if(snapshot, [WithoutHost("h3"), GrowVm("ns/a", 13 * GIB)])
    assert (hypothetical.hosts, hypothetical.upper) == (2, 0)
    assert plan(snapshot).lower == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (RemoveVm("ns/x"), "there is no VM ns/x in pool p"),
        (SetProtection("ns/x", P), "there is no VM ns/x in pool p"),
        (MoveVm("ns/a", "h9"), "there is no host h9 in pool p"),
        (WithoutHost("h9"), "there is no host h9 in pool p"),
        (AddVm(Vm("ns/a", GIB)), "VM ns/a is already there"),
        (AddVm(Vm("ns/n", GIB, "h9")), "there is no host h9 in pool p"),
        (GrowVm("ns/a", -1), "VM ns/a: memory must not be negative"),
    ],
)
def test_a_change_of_what_is_not_there_is_refused_by_name(change: Change, words: str) -> None:
    with pytest.raises(ChangeError, match=words):
        apply(pool_of_three(), change)


def test_a_start_is_offered_the_emptiest_host_first_and_none_where_the_plan_would_break() -> None:
    snapshot = pool_of_three()
    roomier = replace(snapshot, hosts=(*snapshot.hosts[:2], replace(snapshot.hosts[2], used_bytes=0)))
    assert start_hosts(roomier, Vm("ns/new", GIB, None, P), 1) == ("h3", "h1", "h2")
    assert start_hosts(roomier, Vm("ns/big", 14 * GIB, None, P), 1) == ()
    assert start_hosts(roomier, Vm("ns/big", 14 * GIB, None, P), 0) == ("h3",)
    assert start_hosts(roomier, Vm("ns/new", GIB, None, P, allowed=frozenset({"h2"})), 0) == ("h2",)

"""The bracket against the truth, and the rule that runs against every adversary."""

from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core.facts import Snapshot
from quorate_planner import Problem, ProblemHost, holds, plan, plan_problem, restart_targets, start_hosts
from quorate_planner.chains import chains, levels
from quorate_planner.tally import count
from quorate_planner.zone import certified

from .oracle import tolerates
from .pools import problems, snapshot_of


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(problems())
def test_the_bracket_contains_the_truth(problem: Problem) -> None:
    plan = plan_problem(problem)
    assert plan.lower <= plan.upper
    if plan.waiting_placed:
        assert tolerates(problem, plan.lower)
    if plan.upper < plan.hosts:
        assert not tolerates(problem, plan.upper + 1)
    if not plan.waiting_placed and plan.exact:
        assert not tolerates(problem, 0)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(problems())
def test_the_witness_is_a_set_of_failures_that_no_placement_survives(problem: Problem) -> None:
    plan = plan_problem(problem)
    if plan.witness is None:
        assert not problem.vms
        return
    failed = plan.witness.failed_hosts
    assert len(failed) <= plan.upper + 1
    left = Problem(
        tuple(host for host in problem.hosts if host.name not in failed),
        tuple(
            vm._replace(host=None if vm.host in failed else vm.host, allowed=None if vm.allowed is None else vm.allowed - set(failed))
            for vm in problem.vms
        ),
    )
    assert not tolerates(left, 0)
    assert plan.witness.unplaceable
    assert all(vm.host is None or vm.host in failed for vm in problem.vms if vm.name in plan.witness.unplaceable)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(hosts=4, vms=7), st.randoms(use_true_random=False))
def test_the_rule_that_runs_is_never_stuck_within_what_was_promised(problem: Problem, dice: Random) -> None:
    snapshot = snapshot_of(problem)
    promised = plan(snapshot)
    if promised.waiting_placed:
        _play(_restarted(snapshot, dice), promised.lower, dice)


def _play(snapshot: Snapshot, failures: int, dice: Random) -> None:
    for together in range(1, min(failures, len(snapshot.hosts)) + 1):
        for failed in combinations(snapshot.hosts, together):
            survivors = replace(snapshot, hosts=tuple(host for host in snapshot.hosts if host not in failed))
            _play(_restarted(survivors, dice), failures - together, dice)


def _restarted(snapshot: Snapshot, dice: Random) -> Snapshot:
    living = {host.name for host in snapshot.hosts}
    waiting = [vm for vm in snapshot.vms if vm.host not in living]
    dice.shuffle(waiting)
    half = len(waiting) // 2
    for part in (waiting[:half], waiting[half:]):  # the controller restarts in several turns
        targets = restart_targets(snapshot, part)
        assert None not in targets.values(), f"stuck: {targets} on {snapshot}"
        snapshot = replace(
            snapshot,
            hosts=tuple(
                replace(host, used_bytes=host.used_bytes + sum(vm.size_bytes for vm in part if targets[vm.key] == host.name))
                for host in snapshot.hosts
            ),
            vms=tuple(replace(vm, host=targets.get(vm.key, vm.host)) for vm in snapshot.vms),
        )
        assert all(host.used_bytes <= host.allocatable_bytes for host in snapshot.hosts)
    return snapshot


@settings(max_examples=400, deadline=None, derandomize=True)
@given(problems(limited=False))
def test_a_certified_number_obeys_the_condition_written_out_for_every_set_of_hosts(problem: Problem) -> None:
    """The condition of the theorem checked without sorting, on sets; and one more failure breaks it."""
    tally = count(problem)
    for chain in chains(tally.sizes):
        level_of = levels(chain, tally.sizes)
        block_of = {vm.name: chain[level_of[vm.size]] for vm in problem.vms}

        def stands(k: int, chain: tuple[int, ...] = chain, block_of: dict[str, int] = block_of) -> bool:
            for block in chain:
                demand = {
                    host: sum(block_of[vm.name] // block for vm in problem.vms if vm.host == host and block_of[vm.name] >= block)
                    for host in (None, *(h.name for h in problem.hosts))
                }
                room = {host.name: host.free // block for host in problem.hosts}
                for failed in combinations(room, k):
                    if sum(room[h] + demand[h] for h in failed) > sum(room.values()) - demand[None]:
                        return False
            return True

        proven = certified(tally, chain)
        assert proven < 0 or stands(proven)
        assert proven == len(problem.hosts) or not stands(proven + 1)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(problems(hosts=4, vms=6))
def test_every_placement_that_is_shown_is_the_one_that_runs(problem: Problem) -> None:
    snapshot = snapshot_of(problem)
    shown = plan(snapshot).placements
    assert set(shown) == {vm.host for vm in problem.vms if vm.host is not None}
    for host, targets in shown.items():
        survivors = replace(snapshot, hosts=tuple(h for h in snapshot.hosts if h.name != host))
        moving = sorted((vm for vm in snapshot.vms if vm.host == host), key=lambda vm: (vm.priority, vm.key))
        run = restart_targets(survivors, moving)
        assert targets == {key: target for key, target in run.items() if target is not None}
        assert host not in targets.values()
        if plan(snapshot).lower >= 1 and plan(snapshot).waiting_placed:
            assert set(targets) == {vm.key for vm in moving}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems(hosts=4, vms=6), st.integers(0, 3))
def test_a_host_offered_for_a_start_keeps_the_promise_and_no_other_host_would(problem: Problem, k: int) -> None:
    snapshot = snapshot_of(problem)
    assert holds(snapshot, k) == (plan(snapshot).waiting_placed and plan(snapshot).lower >= k)
    for vm in snapshot.vms[:2]:
        offered = start_hosts(snapshot, vm, k)
        without = replace(
            snapshot,
            vms=tuple(v for v in snapshot.vms if v is not vm),
            hosts=tuple(replace(h, used_bytes=h.used_bytes - (vm.size_bytes if h.name == vm.host else 0)) for h in snapshot.hosts),
        )
        for host in without.hosts:
            if host.free_bytes < vm.size_bytes or not vm.may_run_on(host.name):
                assert host.name not in offered
                continue
            started = replace(
                without,
                vms=(*without.vms, replace(vm, host=host.name)),
                hosts=tuple(replace(h, used_bytes=h.used_bytes + vm.size_bytes) if h is host else h for h in without.hosts),
            )
            assert (host.name in offered) == holds(started, k)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(problems(), st.randoms(use_true_random=False), st.integers(1, 12), st.integers(0, 4))
def test_with_closed_brackets_more_memory_or_less_load_never_lowers_the_answer(problem: Problem, dice: Random, more: int, at: int) -> None:
    before = plan_problem(problem)
    vms = list(problem.vms)
    dice.shuffle(vms)
    same = plan_problem(replace(problem, hosts=problem.hosts[::-1], vms=tuple(vms)))
    assert (same.lower, same.upper, same.witness, dict(same.placements)) == (
        before.lower,
        before.upper,
        before.witness,
        dict(before.placements),
    )
    better = [replace(problem, hosts=(*problem.hosts, ProblemHost("extra", more)))]
    if at < len(problem.hosts):
        grown = tuple(host._replace(free=host.free + more) if i == at else host for i, host in enumerate(problem.hosts))
        better.append(replace(problem, hosts=grown))
    if at < len(problem.vms):
        better.append(replace(problem, vms=(*problem.vms[:at], *problem.vms[at + 1 :])))
        smaller = problem.vms[at]._replace(size=max(1, problem.vms[at].size - more))
        better.append(replace(problem, vms=(*problem.vms[:at], smaller, *problem.vms[at + 1 :])))
    for changed in better:
        after = plan_problem(changed)
        if before.exact:
            assert after.upper >= before.lower
        if before.exact and after.exact:
            assert after.lower >= before.lower


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems(hosts=3, vms=6))
def test_a_host_that_is_full_and_empty_of_vms_changes_nothing(problem: Problem) -> None:
    before = plan_problem(problem)
    after = plan_problem(replace(problem, hosts=(*problem.hosts, ProblemHost("zz", 0))))
    assert (after.lower, after.upper, after.exact) == (before.lower, before.upper, before.exact) or not problem.vms

"""Advice keeps its word: what is said to help does, what is said not to help does not, and so many VMs more fit as are said to."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import pools as generated
from quorate_planner import Budget, Plan, Problem, ProblemHost, ProblemVm, plan_problem, sharpen
from quorate_planner.advise import Advice, Migrate, Unprotect, advice_json, advise, after, migrations, sentences
from quorate_planner.fitting import how_many_more

from .oracle import tolerates
from .pools import problems
from .test_properties import tight_pool

ENDLESS = Budget(lambda: 0.0, 600.0)
SMALL = st.one_of(problems(hosts=4, vms=6), st.integers(0, 2**48).map(tight_pool))


def advised(problem: Problem) -> Advice:
    return advise(problem, sharpen(problem, ENDLESS).plan, ENDLESS)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SMALL)
def test_what_is_said_to_help_does_and_nothing_else_helps_more(problem: Problem) -> None:
    now = sharpen(problem, ENDLESS).plan
    problem = replace(problem, wish=now.lower + 1)
    now = sharpen(problem, ENDLESS).plan
    advice = advise(problem, now, ENDLESS)
    of = {vm.name: vm for vm in problem.vms}
    steps = {
        "migration": [
            Migrate(vm.name, vm.size, vm.host, host.name)
            for vm in problem.vms
            for host in problem.hosts
            if vm.host not in {None, host.name} and host.free >= vm.size and (vm.allowed is None or host.name in vm.allowed)
        ],
        "unprotect": [Unprotect(vm.name, vm.size, vm.host) for vm in problem.vms],
    }
    assert advice.migration.candidates == len({(s.source, s.size, s.target, of[s.vm].allowed) for s in steps["migration"]})
    for looked, every in ((advice.migration, steps["migration"]), (advice.unprotect, steps["unprotect"])):
        if looked.best is not None:
            changed = after(problem, looked.best.step)
            assert min(host.free for host in changed.hosts) >= 0
            assert looked.best.lower > proven(now)
            assert tolerates(changed, looked.best.lower)
            assert looked.best.plan_exists == (looked.best.lower >= problem.wish)
        if looked.complete:
            most = looked.best.lower if looked.best else proven(now)
            assert all(min(proven(sharpen(after(problem, step), ENDLESS).plan), problem.wish) <= most for step in every)
    if advice.lower_wish is not None:
        assert tolerates(problem, advice.lower_wish)
    assert all(sentences(advice))


def proven(plan: Plan) -> int:
    return plan.lower if plan.waiting_placed else -1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(SMALL, st.integers(1, 12), st.integers(0, 4))
def test_as_many_more_fit_as_are_said_to_and_one_more_does_not(problem: Problem, size: int, failures: int) -> None:
    found = how_many_more(problem, size, failures, ENDLESS)
    if not found.holds_now:
        assert found.lower == 0
        assert failures > len(problem.hosts) or proven(sharpen(problem, ENDLESS).plan) < failures
        return
    assert found.lower <= found.upper
    if found.lower + len(problem.vms) <= 10:
        assert tolerates(with_more(problem, size, found.lower), failures)
    if found.upper + 1 + len(problem.vms) <= 10:
        assert not tolerates(with_more(problem, size, found.upper + 1), failures)


def with_more(problem: Problem, size: int, number: int) -> Problem:
    return replace(problem, vms=(*problem.vms, *(ProblemVm(f"w{i}", size) for i in range(number))))


def test_the_advice_names_the_move_that_makes_room_for_a_vm_that_only_one_host_could_take() -> None:
    hosts = tuple(ProblemHost(name, free) for name, free in {"a": 0, "b": 8, "c": 7, "d": 6}.items())
    problem = Problem(hosts, (ProblemVm("big", 8, "a"), ProblemVm("small", 1, "c"), ProblemVm("other", 2, "d")), wish=2)
    now = sharpen(problem, ENDLESS).plan
    assert (now.lower, now.upper) == (1, 1)
    advice = advise(problem, now, ENDLESS)
    assert advice.lower_wish == 1
    assert advice.migration.best is not None
    assert advice.migration.best.plan_exists
    step = advice.migration.best.step
    assert (step.vm, step.source) == ("small", "c")
    assert any(line.startswith("migrate small") and "a plan exists" in line for line in sentences(advice))
    assert advice_json(advice)["migration"]["best"]["to"] == step.target


def test_advice_knows_of_hugepages_and_of_vms_that_must_not_meet() -> None:
    hosts = (ProblemHost("a", 9, hugepages=9), ProblemHost("b", 9, hugepages=4), ProblemHost("c", 9), ProblemHost("d", 9, hugepages=9))
    vms = (
        ProblemVm("paged", 4, "a", hugepages=4),
        ProblemVm("left", 1, "b", apart=frozenset({"x"})),
        ProblemVm("right", 1, "c", apart=frozenset({"x"})),
    )
    problem = Problem(hosts, vms, wish=4)
    moves = {(step.vm, step.target) for step in migrations(problem, plan_problem(problem))}
    assert moves == {("paged", "b"), ("paged", "d"), ("left", "a"), ("left", "d"), ("right", "a"), ("right", "d")}
    assert advised(problem).migration.candidates == len(moves)
    moved = after(problem, Migrate("paged", 4, "a", "b", 4))
    assert [host.hugepages for host in moved.hosts] == [13, 0, 0, 9]


def test_a_closed_host_gains_no_memory_by_a_migration() -> None:
    problem = Problem((ProblemHost("a", 0), ProblemHost("b", 8)), (ProblemVm("v", 4, "a"),))
    moved = Migrate("v", 4, "a", "b")
    assert [host.free for host in after(problem, moved).hosts] == [4, 4]
    assert [host.free for host in after(problem, moved, closed=frozenset({"a"})).hosts] == [0, 4]


def test_where_memory_is_short_no_time_is_spent_on_migrations() -> None:
    problem = generated.pool(32, 1000, 60, 1)
    problem = replace(problem, wish=len(problem.hosts))
    ticks = count()
    now = plan_problem(problem)
    advice = advise(problem, replace(now, lower=now.upper, exact=True), Budget(lambda: float(next(ticks)), 10.0))
    assert advice.migration.complete
    assert advice.migration.candidates > 1000
    assert next(ticks) < 500


def test_without_time_the_advice_says_how_little_was_looked_at() -> None:
    problem = Problem(tuple(ProblemHost(name, 9) for name in "abc"), (ProblemVm("v", 4, "a", frozenset({"a", "b"})),), wish=3)
    late = advise(problem, plan_problem(problem), Budget(lambda: 100.0, 99.0))
    assert not late.unprotect.complete
    assert "looked at" in " ".join(sentences(late))


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        how_many_more(Problem((ProblemHost("a", 9),), ()), size, 0, ENDLESS)

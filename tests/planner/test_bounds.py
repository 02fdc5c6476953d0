"""What the search is made of: upper bounds are never below the truth, mending keeps what a cut must keep, time is bounded."""

import json
from itertools import combinations, count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_planner import Budget, Problem, ProblemHost, ProblemVm, certificate_json, objections, plan_problem, sharpen
from quorate_planner.bounds import ceiling, refuted
from quorate_planner.cut import Cut, Shape, shortfalls
from quorate_planner.repair import mended
from quorate_planner.tally import count as count_up

from .oracle import tolerates
from .pools import problems
from .test_sharp import json_of


@settings(max_examples=400, deadline=None, derandomize=True)
@given(problems(hosts=5, vms=7))
def test_no_policy_survives_one_more_than_any_ceiling_by_counting(problem: Problem) -> None:
    counted = count_up(problem)
    found = ceiling(counted)
    if found is not None and found.most < len(problem.hosts):
        assert not tolerates(problem, found.most + 1)
    for failures in range(len(problem.hosts) + 2):
        assert refuted(counted, failures) == (found is not None and found.most < failures)


def test_where_nothing_is_protected_there_is_no_ceiling_and_no_witness() -> None:
    problem = Problem((ProblemHost("a", 0), ProblemHost("b", 5)), ())
    assert ceiling(count_up(problem)) is None
    assert plan_problem(problem).witness is None


def test_memory_that_no_sum_of_vms_fills_does_not_count_as_room() -> None:
    """42 bytes move and 48 are free, and there are slots enough of every size: but fives and eights fill only 10 of each 12."""
    hosts = (*(ProblemHost(f"h{i}", 12) for i in range(4)), ProblemHost("full", 0))
    problem = Problem(hosts, tuple(ProblemVm(f"v{i}", size, "full") for i, size in enumerate([8, 8, 8, 8, 5, 5])))
    found = ceiling(count_up(problem))
    assert found is not None
    assert found.most == 0
    assert found.why == "VMs of 5 bytes or more would need places for 42 bytes and could fill 40 bytes of what is left"
    assert not tolerates(problem, 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(hosts=4, vms=7), st.integers(0, 3))
def test_a_set_is_called_unpackable_exactly_when_nothing_packs_it(problem: Problem, together: int) -> None:
    pytest.importorskip("ortools", reason="OR-Tools is not installed: critical sets are not packed without it")
    from quorate_planner.pack import unpackable

    names = [host.name for host in problem.hosts]
    for failed in list(combinations(range(len(names)), min(together, len(names))))[:4]:
        gone = {names[i] for i in failed}
        left = Problem(
            tuple(host for host in problem.hosts if host.name not in gone),
            tuple(
                vm._replace(host=None if vm.host in gone else vm.host, allowed=None if vm.allowed is None else vm.allowed - gone)
                for vm in problem.vms
            ),
        )
        assert unpackable(count_up(problem), failed, 60.0) is not tolerates(left, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems(hosts=5, vms=8, limited=False), st.data())
def test_mending_moves_memory_and_vms_but_makes_none(problem: Problem, data: st.DataObject) -> None:
    tally = count_up(problem)
    shapes = (Shape((1, 2, 4, 12), None), Shape((1, 3, 6, 12), None), Shape((5, 15), None))
    bound = {}
    for i, counts in enumerate(tally.own.get(None, ())):
        for size, number in counts.items():
            at = data.draw(st.integers(0, 2))
            bound[None, size, i] = tuple(number if zone == at else 0 for zone in range(3))
    for size, number in tally.off.get(None, {}).items():
        bound[None, size, None] = (number, 0, 0)
    units = [[free // 3 for free in tally.free], [free // 3 for free in tally.free], [free // 3 // 5 for free in tally.free]]
    before = Cut(shapes, tuple(map(tuple, units)), bound)
    failures = data.draw(st.integers(0, len(problem.hosts)))
    after = mended(tally, before, failures, lambda: 60.0)
    for i, free in enumerate(tally.free):
        assert sum(shape.chain[0] * after.units[at][i] for at, shape in enumerate(shapes)) <= free
        assert all(row[i] >= 0 for row in after.units)
    assert {key: sum(numbers) for key, numbers in after.bound.items()} == {key: sum(numbers) for key, numbers in bound.items()}
    assert all(number >= 0 for numbers in after.bound.values() for number in numbers)
    if not shortfalls(tally, before, failures):
        assert after == before


def different(hosts: int, vms: int) -> Problem:
    """A pool of VMs that all differ in size, at about half load."""
    sizes = [(1 << 30) + 6_700_417 * i for i in range(vms)]
    free = sum(sizes) // hosts
    return Problem(
        tuple(ProblemHost(f"h{i:03}", free + 7919 * i) for i in range(hosts)),
        tuple(ProblemVm(f"v{i:05}", size, f"h{i % hosts:03}") for i, size in enumerate(sizes)),
    )


@pytest.mark.parametrize("ticks", [0, 3, 10, 40])
def test_when_time_is_up_the_bracket_so_far_is_returned_with_its_proof(ticks: int) -> None:
    """A clock that counts how often it is asked: the search ends wherever the deadline falls."""
    problem = different(12, 90)
    clock = count()
    found = sharpen(problem, Budget(lambda: float(next(clock)), float(ticks)))
    plain = plan_problem(problem)
    assert plain.lower <= found.plan.lower <= found.plan.upper <= plain.upper
    assert found.plan.exact == (found.plan.lower == found.plan.upper)
    assert found.certificate is not None
    assert objections(json_of(problem), json.dumps(certificate_json(found.certificate))) == []
    assert next(clock) < ticks + 60


def test_ten_thousand_vms_of_different_sizes_get_a_bracket() -> None:
    found = sharpen(different(64, 10_000), Budget(lambda: 1.0, 0.0))
    assert 0 < found.plan.lower <= found.plan.upper < 64
    assert found.plan.upper - found.plan.lower <= 1
    assert found.certificate is not None
    assert found.certificate.failures == found.plan.lower

"""What the planner claims, held against the whole game on small pools: every failure, every placement, an adversary that adapts.

One and a half thousand pools here, as many where single claims are tested, 50,000 in the nightly run. `oracle` knows the truth by playing;
`attacks` plays what really runs.
"""

import json
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from quorate_planner import Budget, Problem, ProblemHost, ProblemVm, certificate_json, objections, plan_problem, sharpen

from .attacks import Game, heaviest, play_everything, play_some
from .oracle import tolerates
from .pools import problems

ENDLESS = Budget(lambda: 0.0, 600.0)
"""A clock that stands still: the answer then depends on the problem alone."""


def tight_pool(seed: int) -> Problem:
    """A small pool on the edge: by volume its memory just suffices for some number of failures. Do blocks?"""
    dice = Random(seed)
    names = [f"h{i}" for i in range(dice.randint(2, 5))]
    sizes = dice.sample([1, 2, 3, 4, 5, 6, 7, 8, 12, 16], 3)
    vms = []
    for i in range(dice.randint(2, 8)):
        allowed = frozenset(dice.sample(names, dice.randint(1, len(names)))) if dice.random() < 0.1 else None
        vms.append(ProblemVm(f"v{i}", dice.choice(sizes), None if dice.random() < 0.05 else dice.choice(names), allowed))
    free = {name: dice.randint(0, 2 * max(sizes)) for name in names}
    failures, spare = dice.randint(1, len(names) - 1), dice.randint(0, 3)
    while True:
        problem = Problem(tuple(ProblemHost(name, free[name]) for name in names), tuple(vms))
        failed = set(heaviest(problem)[:failures])
        left = sum(free[name] for name in names if name not in failed)
        if left >= spare + sum(vm.size for vm in vms if vm.host is None or vm.host in failed):
            return problem
        free[dice.choice(names)] += 1


POOLS = st.one_of(problems(), st.integers(0, 2**48).map(tight_pool), st.integers(0, 2**48).map(tight_pool))


def hold_to_the_truth(problem: Problem, dice: Random, play: Callable[[Game, Random], object]) -> None:
    """Everything that is claimed about one small pool. The numbers, the proof, and the rules that may run at a failure."""
    plain, found = plan_problem(problem), sharpen(problem, ENDLESS)
    sharp = found.plan
    assert plain.lower <= sharp.lower <= sharp.upper <= plain.upper
    assert sharp.lower == sharp.upper if sharp.exact else sharp.lower < sharp.upper or not sharp.waiting_placed
    if sharp.waiting_placed:
        assert tolerates(problem, sharp.lower)
    elif sharp.exact:
        assert not tolerates(problem, 0)
    if sharp.upper < sharp.hosts:
        assert not tolerates(problem, sharp.upper + 1)
    event("closed" if sharp.exact else "open")
    event(f"tolerates {sharp.lower} of {sharp.hosts}" if problem.vms else "nothing is protected")
    if found.certificate is not None:
        assert found.certificate.failures == sharp.lower
        assert objections(json_of(problem), json.dumps(certificate_json(found.certificate))) == []
        if problem.vms:
            start = dice.choice([Game.following, Game.keeping])
            play(start(problem, found.certificate).restarted(dice), dice)
    if plain.waiting_placed and problem.vms:
        play_some(Game(problem, plain.lower).restarted(dice), dice)


def json_of(problem: Problem) -> str:
    """The problem as a file of the documented form."""
    vms = [
        {"name": v.name, "size": v.size, "host": v.host, "allowed": None if v.allowed is None else sorted(v.allowed)} for v in problem.vms
    ]
    return json.dumps({"hosts": [{"name": host.name, "free": host.free} for host in problem.hosts], "vms": vms})


@settings(max_examples=1_500, deadline=None, derandomize=True)
@given(POOLS, st.integers(0, 2**32).map(Random))
def test_no_claim_about_a_small_pool_is_ever_refuted_by_the_whole_game(problem: Problem, dice: Random) -> None:
    hold_to_the_truth(problem, dice, play_some)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(1, 11))
@settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=POOLS, dice=st.integers(0, 2**32).map(Random))
def test_fifty_thousand_small_pools_in_ten_parts_refute_no_claim(problem: Problem, dice: Random, part: int) -> None:
    hold_to_the_truth(problem, dice, play_everything)

"""Attacks in real bytes: hosts fail near the critical sets, at random, in many orders and at once, and the controller's own rule answers.

Small pools are played out completely elsewhere; here pools have the size of real ones, so the attacks are chosen, not complete.
A planted bug shows that they would find something.
"""

from collections.abc import Collection
from functools import cache
from random import Random

import pytest

from bench import pools
from quorate_planner import Budget, Problem, Sharp, load, plan_problem, sharpen, zone

from .attacks import Game, StuckError, attacks, hunt
from .test_reference import DATA, NAMES, needs_data

pytest.importorskip("ortools", reason="OR-Tools is not installed: without it there is no certificate of several zones to attack")

ENDLESS = Budget(lambda: 0.0, 600.0)
LARGE = 1000
"""VMs from which on a pool gets fewer attacks by rule: each decision looks at the whole pool."""

GENERATED = [(8, 80, 45, 1), (8, 80, 60, 2), (16, 160, 30, 1), (16, 160, 60, 3), (16, 400, 75, 1), (32, 400, 60, 2)]


@cache
def public(name: str) -> tuple[Problem, Sharp]:
    problem = load((DATA / f"{name}.json").read_bytes())
    return problem, sharpen(problem, ENDLESS)


def attack(game: Game, dice: Random, rounds: int) -> None:
    """Every kind of attack on one promise. Raises `StuckError`."""
    game = game.restarted(dice)
    for sequence in attacks(game.problem, game.left, dice, rounds):
        now = game
        for failed in sequence:
            now = now.after(failed, dice)
    hunt(game, dice)


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_within_the_promise_gets_a_public_problem_stuck_while_its_certificate_is_followed(name: str) -> None:
    problem, found = public(name)
    assert found.certificate is not None
    attack(Game(problem, found.certificate.failures, found.certificate), Random(name), rounds=6)


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_within_the_first_bracket_gets_a_public_problem_stuck_while_the_rule_looks_anew(name: str) -> None:
    problem, _ = public(name)
    attack(Game(problem, plan_problem(problem).lower), Random(name), rounds=0 if len(problem.vms) >= LARGE else 3)


@pytest.mark.parametrize(("hosts", "vms", "load_percent", "seed"), GENERATED)
def test_no_attack_gets_a_generated_pool_stuck_by_either_rule(hosts: int, vms: int, load_percent: int, seed: int) -> None:
    problem = pools.pool(hosts, vms, load_percent, seed)
    found = sharpen(problem, ENDLESS)
    assert found.certificate is not None
    attack(Game(problem, found.certificate.failures, found.certificate), Random(seed), rounds=12)
    attack(Game(problem, plan_problem(problem).lower), Random(seed), rounds=3)


class LargestBlockFirst(zone.Placing):
    """A planted bug: the largest free block anywhere, where the rule says the smallest that fits."""

    def _by_rule(self, level: int, allowed: Collection[str] | None) -> int | None:
        for hosts in reversed(self._with_block[level:]):
            usable = [i for i in hosts if allowed is None or self._names[i] in allowed]
            if usable:
                return min(usable, key=lambda i: (self._taken[i], -self._free[i], i))
        return None


class ForgetfulOfItsZones(zone.Placing):
    """A planted bug: what a VM takes is not taken off the memory that the zone has left for the next."""

    def left(self) -> dict[str, int]:
        """As if nothing had been placed."""
        before = super().left()
        return {name: before[name] + self._chain[-1] for name in before}


@needs_data
@pytest.mark.parametrize("bug", [LargestBlockFirst, ForgetfulOfItsZones])
def test_the_attacks_find_a_planted_bug_in_the_rule(bug: type[zone.Placing], monkeypatch: pytest.MonkeyPatch) -> None:
    caught = []
    monkeypatch.setattr("quorate_planner.certificate.Placing", bug)
    for name in NAMES:
        problem, found = public(name)
        assert found.certificate is not None
        if len(problem.vms) < LARGE:
            try:
                attack(Game(problem, found.certificate.failures, found.certificate), Random(name), rounds=6)
            except StuckError:
                caught.append(name)
    assert caught, "no public problem shows the bug"


@needs_data
def test_the_attacks_find_a_promise_that_is_one_too_high() -> None:
    for name in NAMES:
        problem, found = public(name)
        if len(problem.vms) < LARGE and found.plan.lower < len(problem.hosts):
            with pytest.raises(StuckError):
                attack(Game(problem, found.plan.lower + 1, found.certificate), Random(name), rounds=6)

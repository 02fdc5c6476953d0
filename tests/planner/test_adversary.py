"""Attacks in real bytes: hosts fail near the critical sets, at random, in many orders and at once, and the controller's own rule answers.

Small pools are played out completely elsewhere; here pools have the size of real ones, so the attacks are chosen, not complete.
A planted bug shows that they would find something.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection
from functools import cache
from random import Random

import pytest

from bench import pools
from quorate_core.layout import LaidZone, Layout
from quorate_planner import Budget, Certificate, Problem, ProblemVm, Proof, Sharp, load, plan_problem, sharpen, targets, zone

from .attacks import Game, StuckError, attacks, hunt, play_everything
from .test_properties import tight_pool
from .test_reference import DATA, NAMES, needs_data

pytest.importorskip("ortools", reason="OR-Tools is not installed: without it there is no certificate of several zones to attack")

ENDLESS = Budget(lambda: 0.0, 600.0)
LARGE = ("h64_v1000_l45_s1", "h64_v1000_l60_s1")
"""The controller's rule looks at the whole pool for each decision: attacks on these are left to the nightly run."""

BY_RULE = [pytest.param(name, marks=pytest.mark.nightly if name in LARGE else ()) for name in NAMES]

GENERATED = [(8, 80, 45, 1), (8, 80, 60, 2), (16, 160, 30, 1), (16, 160, 60, 3), (16, 400, 75, 1), (32, 400, 45, 1)]


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
    attack(Game.following(problem, found.certificate), Random(name), rounds=6)


@needs_data
@pytest.mark.parametrize("name", BY_RULE)
def test_no_attack_within_the_promise_gets_a_public_problem_stuck_while_the_controller_keeps_its_layout(name: str) -> None:
    problem, found = public(name)
    assert found.certificate is not None
    attack(Game.keeping(problem, found.certificate), Random(name), rounds=3)


@needs_data
@pytest.mark.parametrize("name", BY_RULE)
def test_no_attack_within_the_first_bracket_gets_a_public_problem_stuck_while_the_rule_looks_anew(name: str) -> None:
    problem, _ = public(name)
    attack(Game(problem, plan_problem(problem).lower), Random(name), rounds=3)


@pytest.mark.parametrize(("hosts", "vms", "load_percent", "seed"), GENERATED)
def test_no_attack_gets_a_generated_pool_stuck_by_any_rule(hosts: int, vms: int, load_percent: int, seed: int) -> None:
    problem = pools.pool(hosts, vms, load_percent, seed)
    found = sharpen(problem, ENDLESS)
    assert found.certificate is not None
    attack(Game.following(problem, found.certificate), Random(seed), rounds=12)
    attack(Game.keeping(problem, found.certificate), Random(seed), rounds=3)
    attack(Game(problem, plan_problem(problem).lower), Random(seed), rounds=3)


class LargestBlock(zone.Placing):
    """A planted bug in the rule of the certificate: the largest free block anywhere, where the rule says the smallest that fits."""

    def _by_rule(self, level: int, allowed: Collection[str] | None) -> int | None:
        for hosts in reversed(self._with_block[level:]):
            usable = [i for i in hosts if allowed is None or self._names[i] in allowed]
            if usable:
                return min(usable, key=lambda i: (self._taken[i], -self._free[i], i))
        return None


class ForgetfulOfItsZones(zone.Placing):
    """A planted bug in the rule of the certificate: what a VM takes is not taken off what the zone has left for the next failure."""

    def left(self) -> dict[str, int]:
        """As if nothing had been placed."""
        before = super().left()
        return {name: before[name] + self._chain[-1] for name in before}


class LargestBlockOfTheController(targets.Restarts):
    """The first planted bug again, in the rule that the controller runs."""

    def _by_rule(self, at: int, vm: ProblemVm, barred: Collection[int]) -> Collection[int]:
        level = bisect_left(self._zones[at].chain or (), vm.size)
        for hosts in reversed(self._with_block[at][level:]):
            usable = [i for i in hosts if i not in barred]
            if usable:
                return usable
        return []


@needs_data
@pytest.mark.parametrize(
    ("place", "bug", "start"),
    [
        ("quorate_planner.certificate.Placing", LargestBlock, Game.following),
        ("quorate_planner.certificate.Placing", ForgetfulOfItsZones, Game.following),
        ("quorate_planner.targets.Restarts", LargestBlockOfTheController, Game.keeping),
    ],
)
def test_the_attacks_find_a_planted_bug_in_the_rule(
    place: str, bug: type, start: Callable[[Problem, Certificate], Game], monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = []
    monkeypatch.setattr(place, bug)
    for name in NAMES:
        problem, found = public(name)
        assert found.certificate is not None
        if name not in LARGE:
            try:
                attack(start(problem, found.certificate), Random(name), rounds=3)
            except StuckError:
                caught.append(name)
                break
    assert caught, "no public problem shows the bug"


@needs_data
def test_the_attacks_find_a_promise_that_is_one_too_high() -> None:
    for name in NAMES:
        problem, found = public(name)
        if name not in LARGE and found.plan.lower < len(problem.hosts):
            with pytest.raises(StuckError):
                attack(Game(problem, found.plan.lower + 1, found.certificate), Random(name), rounds=6)


def test_a_promise_beyond_what_a_kept_layout_shows_is_kept_by_the_rule_that_shows_it() -> None:
    """A layout weaker than the rule without one: the plan claims the larger number, so the other rule has to run."""
    played = 0
    for seed in range(600):
        dice, problem = Random(seed), tight_pool(seed)
        largest = max(vm.size for vm in problem.vms)
        own = {host.name: sum(largest for vm in problem.vms if vm.host == host.name) for host in problem.hosts}
        memory = {host.name: own[host.name] + dice.randint(0, host.free) for host in problem.hosts}
        weak = Layout((LaidZone(dice.choice([(largest,), None]), memory),), {vm.name: 0 for vm in problem.vms})
        plan = plan_problem(problem, weak)
        if 0 <= Proof(problem, weak, 0).certified() < plan.lower and plan.waiting_placed:
            play_everything(Game(problem, plan.lower, layout=weak).restarted(dice), dice)
            played += 1
    assert played > 50

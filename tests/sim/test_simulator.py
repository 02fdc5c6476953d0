"""The simulator itself: its shortcuts change nothing, its rule of who lives is right, and its search says what it does."""

import subprocess
import sys

import pytest

from . import search
from .profiles import best_side, generate
from .schedule import play


def _story(seed: int) -> list[str]:
    return [f"{entry.at:.6f} {entry}" for entry in play(generate(seed)).monitor.log]


def test_the_shortcuts_change_nothing() -> None:
    """The same schedules in a process of its own, where nothing is put in place of anything."""
    program = "from tests.sim.test_simulator import _story\nfor seed in (3, 4): print('\\n'.join(_story(seed)))"
    plain = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300).stdout
    assert plain.splitlines() == [line for seed in (3, 4) for line in _story(seed)]


@pytest.mark.parametrize(
    ("hosts", "broken", "weights", "living"),
    [
        (4, {(0, 2), (0, 3), (1, 2), (1, 3)}, {}, (0, 1)),
        (5, {(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)}, {}, (2, 3, 4)),
        (3, {(0, 1), (0, 2)}, {0: 5}, (0,)),
        (3, {(0, 2)}, {}, (0, 1)),
        (5, {(0, 1), (0, 3), (2, 4), (3, 4)}, {}, (1, 2, 3)),
        (3, set(), {}, (0, 1, 2)),
    ],
)
def test_the_simulators_own_rule_of_who_lives(
    hosts: int, broken: set[tuple[int, int]], weights: dict[int, int], living: tuple[int, ...]
) -> None:  # fmt: skip
    assert best_side(hosts, broken, weights) == living


def test_a_search_counts_and_finds_nothing_in_a_few_schedules() -> None:
    (tally,) = search.search(0, 3, jobs=1, profile="mild")
    assert (tally.done, tally.found) == (3, [])
    assert tally.per_minute > 0
    assert "3 of 3 schedules" in tally.line()


def test_a_crash_of_the_core_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyError("no such slot")

    monkeypatch.setattr(search, "play", crash)
    found = search.try_one(1)
    assert found is not None
    assert (found.rule, found.sentence.split(" (")[0]) == ("crash", "KeyError: 'no such slot'")

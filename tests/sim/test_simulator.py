"""The simulator itself: its shortcuts change nothing, its rule of who lives is right, and its search says what it does."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from quorate_core.timing import Timing

from . import __main__ as command
from . import scenario, search, timeline
from .profiles import best_side, generate
from .schedule import play

SCENARIOS = Path(__file__).parent / "scenarios"


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


def test_what_a_search_finds_is_printed_with_its_number_and_a_smaller_scenario_that_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    honest = Timing.values_with_watchdog
    monkeypatch.setattr(Timing, "values_with_watchdog", lambda self, seconds: replace(honest(self, seconds), kappa=1))
    assert search.report(0, 1, jobs=1, profile="silence") == 1
    printed = capsys.readouterr().out
    finding, again, _, *body, total = printed.splitlines()
    assert finding.startswith("seed 0: double run: h2 certified h3/")
    assert again == "play it again: python -m tests.sim --seeds 1 --from 0 --profile silence"
    assert total.endswith(": 1 found")
    file = tmp_path / "found.yaml"
    file.write_text("\n".join(body))
    small = scenario.load(file).schedule
    assert len(small.events) < len(generate(0, "silence").events)
    assert "double run" in {found.rule for found in play(small).findings}
    monkeypatch.undo()
    assert play(small).findings == []


def test_a_search_explains_five_findings_and_lists_the_numbers_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "try_one", lambda seed, _: search.Found(seed, "crash", "no such slot"))
    assert search.report(0, 7, jobs=1, profile="mild") == 1
    printed = capsys.readouterr().out
    assert [f"seed {seed}: crash: no such slot" in printed for seed in range(7)] == [True] * 5 + [False] * 2
    assert "and 2 more: 5, 6" in printed


def test_a_search_that_finds_nothing_says_how_much_it_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.report(0, 1, jobs=1, profile="mild") == 0
    assert capsys.readouterr().out.startswith("1 schedules in ")


def test_a_timeline_shows_each_host_where_it_stood_and_when() -> None:
    """A host loses power at 2 s, boots at 3 s, and is certified by both others before it joins again, and by itself as it does; 70 s are
    100 columns."""
    outcome = play(scenario.load(SCENARIOS / "fast-reboot.yaml").schedule, listen=True)
    drawn = timeline.draw(outcome)
    rows = dict(line.split() for line in drawn.splitlines()[:3])
    assert rows["h0"] == rows["h2"] == "█" * 100
    assert rows["h1"][:6] == "██xx>·"
    assert [column * 0.7 for column, cell in enumerate(rows["h1"]) if cell == "!"] == pytest.approx([24.9, 25.9, 26.6], abs=0.7)
    assert rows["h1"].endswith("█" * 40)
    assert "    2.00 s  h1   loses power" in drawn.splitlines()
    assert "is certified dead: incarnation" not in drawn
    assert "is certified dead: incarnation" in timeline.draw(outcome, words=True)


def test_a_played_scenario_says_which_of_its_expectations_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (SCENARIOS / "keeper-stops.yaml").read_text()
    fine, broken = tmp_path / "fine.yaml", tmp_path / "broken.yaml"
    fine.write_text(text)
    broken.write_text(text.replace("is: dead, after: 2, by: 5.1", "is: dead, after: 30"))
    assert command._play(fine, words=False) == 0
    assert "ok  h1 is dead after 2 s by 5.1 s\nok  h1 is certified by 32 s" in capsys.readouterr().out
    assert command._play(broken, words=False) == 1
    said = capsys.readouterr().out
    assert "NO  h1 is dead after 30 s\nok  h1 is certified by 32 s\nFAILED expected: h1 is dead after 30 s; it was at" in said

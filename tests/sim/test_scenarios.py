"""Every scenario file ends as it says; and a bad file is refused with its name and the field."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from . import scenario
from .profiles import generate
from .shrink import finds, shrink
from .timeline import draw

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_ends_as_it_says(file: Path) -> None:
    """The rows of the matrix that a file plays stand in it."""
    played = scenario.run(scenario.load(file))
    assert played.failures == (), "\n" + draw(played.outcome, words=True)


def _is_calm(read: scenario.Scenario) -> bool:
    """Whether it claims that nothing follows from its faults."""
    return "calm" in read.schedule.demands and all(one.never for one in read.expectations)


@pytest.mark.parametrize("file", [file for file in FILES if not _is_calm(scenario.load(file))], ids=lambda file: file.stem)
def test_a_scenario_expects_something_that_does_not_come_without_its_faults(file: Path) -> None:
    """Else it would pass as well if its faults had long ceased to do what its name says. Only the calm ones may."""
    read = scenario.load(file)
    without = replace(read, schedule=replace(read.schedule, events=()))
    assert scenario.run(without).failures, "nothing that it expects depends on its events"


def test_the_matrix_names_every_scenario_in_the_rows_that_it_plays() -> None:
    """Both say it: the file for who reads it, docs/failure-modes.md for who looks for a row."""
    matrix = (Path(__file__).parents[2] / "docs" / "failure-modes.md").read_text().split("## The adversarial matrix")[1]
    told = {(name, int(row)) for row, rest in re.findall(r"^\| (\d+) \|(.*)$", matrix, re.M) for name in re.findall(r"[\w-]+\.yaml", rest)}
    assert told == {(file.name, row) for file in FILES for row in scenario.load(file).rows}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hosts: 9", "hosts: 9 is not a whole number from 1 to 8"),
        ("hosts: 2\nevents: [{at: 1, do: explode}]", "events[0].do: 'explode' is no word"),
        ("hosts: 2\nevents: [{at: 1, do: split}]", "events[0].sides: is missing; split needs it"),
        (
            "hosts: 2\nevents: [{at: 1, do: split, sides: [[h0], [h7]]}]",
            "events[0].sides: [['h0'], ['h7']] is not a list of lists of hosts",
        ),
        ("hosts: 2\nevents: [{at: soon, do: reformat}]", "events[0].at: 'soon' is not a number"),
        ("hosts: 2\nevents: [{at: 1, do: pause, host: h0, seconds: 1, process: init}]", "events[0].process: 'init' is not process; one of"),
        ("hosts: 2\nevents: [{at: 1, do: reformat, colour: red}]", "events[0].colour: no such field"),
        ("hosts: 2\nevents: [{at: 1, do: disks}]", "events[0].use: is missing; disks needs it"),
        ("hosts: 2\nevents: [{at: 1, do: disks, use: []}]", "events[0].use: [] is not a list of 1 to 3 different numbers of disks"),
        ("hosts: 2\nevents: [{at: 1, do: disks, use: [0, 1, 2, 3]}]", "events[0].use: [0, 1, 2, 3] is not a list of 1 to 3 different"),
        ("hosts: 2\nevents: [{at: 1, do: disks, use: [1, 1]}]", "events[0].use: [1, 1] is not a list of 1 to 3 different numbers"),
        ("hosts: 2\nevents: [{at: 1, do: disks, use: [6]}]", "events[0].use: [6] is not a list of 1 to 3 different numbers of disks"),
        ("hosts: 2\nevents: [{at: 1, do: disks, use: [[0]]}]", "events[0].use: [[0]] is not a list of 1 to 3 different numbers"),
        ("hosts: 2\nevents: [{at: 1, do: hang, host: h0, disk: 6}]", "events[0].disk: 6 is not the number of a disk, from 0 to 5"),
        ("hosts: 2\nevents: [{at: 1, do: hang, host: h0, fails: 1}]", "events[0].fails: 1 is not true or false"),
        ("hosts: 2\nevents: [{at: 1, do: configure, remove: h5}]", "events[0].remove: 'h5' is not a host, a list of hosts, or all"),
        ("hosts: 2\nevents: [{at: 1, do: configure, add: [h0, 1]}]", "events[0].add: ['h0', 1] is not a host, a list of hosts, or all"),
        ("hosts: 2\nevents: [{at: 1, do: configure, timing: 6}]", "events[0].timing: 6 is not [licence, watchdog] in seconds"),
        (
            "hosts: 2\nevents: [{at: 1, do: configure, timing: [3, 2]}]",
            "events[0].timing: timing: a licence of 3 s and a watchdog of 2 s are",
        ),
        ("hosts: 2\nevents: [{at: 1, do: leftover}]", "events[0].host: is missing; leftover needs it"),
        ("hosts: 2\nevents: [{at: 1, do: leftover, host: h0, sequence: -1}]", "events[0].sequence: -1 is not a whole number from 0"),
        ("hosts: 2\nevents: [{at: 1, do: leftover, host: h0, armed: 2}]", "events[0].armed: 2 is not true or false"),
        ("hosts: 2\nexpect: [{host: h5, is: dead}]", "expect[0].host: 'h5' is not a host; the hosts are h0, h1"),
        ("hosts: 2\nexpect: [{host: h0, is: happy}]", "expect[0].is: 'happy' is no state"),
        ("hosts: 2\nexpect: [{host: h0}]", "expect[0].is: one of is, never and says is needed"),
        ("hosts: 2\nexpect: [{host: h0, is: dead, says: no}]", "expect[0].is: one of is, never and says is needed"),
        ("hosts: 2\ntiming: {licence: 1}", "timing: licence and watchdog, in seconds, are needed"),
        ("hosts: 2\nweights: {h4: 1}", "weights: h4 is not a host"),
        ("- 1", "the file: a mapping is needed"),
        ("a: [", "while parsing"),
    ],
)
def test_a_bad_scenario_is_refused_with_its_file_and_field(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(scenario.BadScenario) as refused:
        scenario.load(file)
    assert str(refused.value).startswith(str(file))
    assert why in str(refused.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_generated_schedule_survives_being_saved_and_read(seed: int, tmp_path: Path) -> None:
    schedule = generate(seed)
    file = tmp_path / "saved.yaml"
    file.write_text(scenario.dump(schedule, "saved"))
    read = scenario.load(file).schedule
    assert replace(read, profile=schedule.profile, name=schedule.name) == schedule


def test_a_broken_expectation_says_what_was_instead() -> None:
    read = scenario.parse({"hosts": 1, "seconds": 5, "expect": [{"host": "h0", "is": "dead", "by": 3}]}, "here")
    assert scenario.run(read).failures == ("expected: h0 is dead by 3 s; it never was",)
    read = scenario.parse({"hosts": 1, "seconds": 5, "expect": [{"host": "h0", "says": "farewell"}]}, "here")
    assert scenario.run(read).failures == ("expected: h0 says 'farewell'; it never was",)


def test_a_schedule_is_shrunk_to_the_faults_that_matter() -> None:
    given = {
        "hosts": 3,
        "seconds": 20,
        "demands": ["calm"],
        "events": [
            {"at": 1, "do": "lose", "share": 0.1, "for": 3},
            {"at": 2, "do": "fail", "host": "h1"},
            {"at": 3, "do": "duplicate", "share": 0.5, "for": 3},
            {"at": 4, "do": "replay", "host": "h2"},
        ],
    }
    small = shrink(scenario.parse(given, "here").schedule, finds("fenced without cause"))
    assert [event.do for event in small.events] == ["fail"]

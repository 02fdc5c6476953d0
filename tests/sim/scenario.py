"""Scenario files: a schedule and what is expected of it, written by people or by the search. Every error names the file and the field.

    name: two sides of two
    row: 26
    hosts: 4
    events:
      - {at: 2, do: split, sides: [[h0, h1], [h2, h3]]}
    expect:
      - {host: h2, is: dead, by: 20}
      - {host: h2, is: certified, by: 40, kind: eviction}
      - {host: h0, never: fencing}

Times are seconds since all hosts were armed, or since power on with `cold: true`. Expectations are `is` (by a time, and not before
`after`), `says` (the same, a part of a line of its log), or `never` (within `after` and `by`, if given).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from quorate_core.pool import MAX_DISKS
from quorate_core.timing import Timing

from .disks import MOST_DISKS
from .faults import VOCABULARY, Event
from .invariants import Entry
from .schedule import Outcome, Schedule, play
from .world import TIMING

STATES = ("armed", "fencing", "dead", "certified", "evicted", "evicting", "storageless", "disarmed", "refused", "without VMs")
_MOST_HOSTS = 8


class BadScenario(Exception):
    """The file cannot be played; the message names the file, the field, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """`host` is in that state by a time and not before another; with `never`, it is at no time between the two. `kind` is the
    certificate's. With `says`, what counts is that it says that."""

    host: str
    state: str
    never: bool
    after: float = 0.0
    by: float | None = None
    kind: str = ""
    says: str = ""

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        times = (f" after {self.after:g} s" if self.after else "") + (f" by {self.by:g} s" if self.by is not None else "")
        if self.says:
            return f"{self.host} says {self.says!r}{times}"
        return f"{self.host} {'never' if self.never else 'is'} {self.state}{kind}{times}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file. `rows` are the rows of the matrix that it plays."""

    file: str
    schedule: Schedule
    expectations: tuple[Expectation, ...]
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it: `failures` are broken expectations and findings, in words."""

    outcome: Outcome
    failures: tuple[str, ...]


def run(scenario: Scenario) -> Played:
    """Play it and compare."""
    outcome = play(scenario.schedule, listen=True)
    failures = [f"{finding.rule}: {finding.sentence}" for finding in outcome.findings]
    for expectation in scenario.expectations:
        why = _broken(expectation, outcome)
        if why:
            failures.append(f"expected: {expectation}; {why}")
    return Played(outcome, tuple(failures))


def _broken(expected: Expectation, outcome: Outcome) -> str:
    times = [at - outcome.began for at in _when(expected, outcome)]
    if expected.never:
        wrong = [at for at in times if at >= expected.after and (expected.by is None or at <= expected.by)]
        return f"it was, at {wrong[0]:.1f} s" if wrong else ""
    late = expected.by if expected.by is not None else outcome.schedule.seconds
    if not times:
        return "it never was"
    if expected.says or (expected.state == "certified" and expected.kind):
        return "" if any(expected.after <= at <= late for at in times) else f"it was at {', '.join(f'{at:.1f}' for at in times)} s"
    return "" if expected.after <= times[0] <= late else f"it was at {times[0]:.1f} s"


def _when(expected: Expectation, outcome: Outcome) -> list[float]:
    """The times at which the host came into that state, after the beginning."""
    monitor, index = outcome.monitor, int(expected.host[1:])
    if expected.state == "certified":
        kind = expected.kind.upper()
        return [c.at for c in monitor.certificates if c.victim == index and (not kind or c.issued.evidence.name == kind)]
    return [e.at for e in monitor.log if e.at >= outcome.began and _shows(e, expected)]


def _shows(entry: Entry, expected: Expectation) -> bool:
    if expected.says:
        return entry.host == expected.host and entry.kind == "words" and expected.says in entry.what
    if expected.state == "evicted":
        return entry.kind == "eviction" and entry.what.startswith(f"evicts {expected.host}/")
    if entry.host != expected.host:
        return False
    match expected.state:
        case "armed" | "fencing" | "disarmed" | "refused":
            return entry.kind == "phase" and entry.what.startswith(expected.state)
        case "dead":
            return entry.kind == "death"
        case "evicting":
            return entry.kind == "eviction"
        case "storageless":
            return entry.kind == "storageless" and entry.what.startswith("lives")
        case _:
            return entry.kind == "vms" and entry.what == "its VMs are gone"


# reading


def load(path: Path) -> Scenario:
    """The scenario in that file. Raises BadScenario."""
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadScenario(f"{path}: {error}") from error
    return parse(given, str(path))


def parse(given: object, file: str) -> Scenario:
    """The scenario in data that came from YAML. Raises BadScenario."""
    top = _Reader(given, file, "")
    known = (
        "name", "row", "rows", "hosts", "disks", "seed", "weights", "seconds", "events", "expect", "cold", "timing", "profile", "demands",
    )  # fmt: skip
    top.only(known)
    hosts = int(top.number("hosts", 1, _MOST_HOSTS, whole=True))
    names = [f"h{i}" for i in range(hosts)]
    weights = top.mapping("weights")
    for name in weights:
        if name not in names:
            raise top.wrong("weights", f"{name} is not a host; the hosts are {', '.join(names)}")
    events = tuple(_event(one, file, f"events[{i}]", names) for i, one in enumerate(top.listing("events")))
    expectations = tuple(_expectation(one, file, f"expect[{i}]", names) for i, one in enumerate(top.listing("expect")))
    timing = top.mapping("timing")
    try:
        durations = Timing(float(timing["licence"]), float(timing["watchdog"])) if timing else TIMING
    except (KeyError, TypeError, ValueError) as error:
        raise top.wrong("timing", f"licence and watchdog, in seconds, are needed: {error}") from error
    last = max((e.at + (e.length or 0.0) for e in events), default=0.0)
    schedule = Schedule(
        seed=int(top.number("seed", 0, 2**63, whole=True, default=1)),
        hosts=hosts,
        events=tuple(sorted(events, key=lambda e: e.at)),
        seconds=top.number("seconds", 1, 10_000, default=last + 40),
        disks=int(top.number("disks", 1, 3, whole=True, default=1)),
        weights={int(name[1:]): int(value) for name, value in weights.items()},
        demands=tuple(str(one) for one in top.listing("demands")),
        profile=str(top.get("profile", "")),
        cold=bool(top.get("cold", False)),
        name=str(top.get("name", Path(file).stem)),
        timing=durations,
    )
    rows = tuple(int(row) for row in (top.listing("rows") or ([top.get("row", 0)] if top.get("row", 0) else [])))
    return Scenario(file, schedule, expectations, rows)


def dump(schedule: Schedule, name: str) -> str:
    """The schedule as a scenario file without expectations."""
    fields: dict[str, Any] = {
        "name": name,
        "hosts": schedule.hosts,
        "disks": schedule.disks,
        "seed": schedule.seed,
        "seconds": schedule.seconds,
    }
    if schedule.weights:
        fields["weights"] = {f"h{i}": weight for i, weight in schedule.weights.items()}
    if schedule.demands:
        fields["demands"] = list(schedule.demands)
    if schedule.cold:
        fields["cold"] = True
    if schedule.timing != TIMING:
        fields["timing"] = {"licence": schedule.timing.licence_seconds, "watchdog": schedule.timing.watchdog_seconds}
    head = yaml.safe_dump(fields, sort_keys=False, width=130)
    lines = [
        yaml.safe_dump(
            {"at": e.at, "do": e.do, **e.arguments, **({"for": e.length} if e.length is not None else {})},
            default_flow_style=True,
            sort_keys=False,
            width=1000,
        ).strip()
        for e in schedule.events
    ]
    return head + ("events:\n" + "".join(f"  - {line}\n" for line in lines) if lines else "")


def _event(given: object, file: str, where: str, names: list[str]) -> Event:
    reader = _Reader(given, file, where)
    word = str(reader.get("do", ""))
    if word not in VOCABULARY:
        raise reader.wrong("do", f"{word!r} is no word; there are {', '.join(sorted(VOCABULARY))}")
    fields = VOCABULARY[word].fields
    reader.only(("at", "do", "for", *fields))
    arguments = {}
    for name, kind in fields.items():
        value = reader.get(name)
        if value is None:
            if not kind.endswith("?"):
                raise reader.wrong(name, f"is missing; {word} needs it")
            continue
        arguments[name] = _checked(reader, name, kind.rstrip("?"), value, names)
    length = reader.number("for", 0, 10_000) if reader.get("for") is not None else None
    return Event(reader.number("at", 0, 10_000), word, arguments, length)


_CHOICES = {
    "operation": ("all", "write", "read", "look"),
    "process": ("pulse", "loop", "keeper", "both"),
    "strategy": ("late", "reopen"),
}


def _checked(reader: _Reader, name: str, kind: str, value: object, names: list[str]) -> object:
    fine = False
    match kind:
        case "host":
            fine = value in names
        case "hosts":
            fine = value == "all" or value in names or (isinstance(value, list) and all(one in names for one in value))
        case "sides":
            flat = [one for side in value for one in side] if isinstance(value, list) and all(isinstance(s, list) for s in value) else []
            fine = bool(flat) and len(set(flat)) == len(flat) and all(one in names for one in flat)
        case "flag":
            fine = isinstance(value, bool)
        case "share":
            fine = _is_number(value) and 0 <= value <= 1  # type: ignore[operator]
        case "seconds":
            fine = _is_number(value) and value >= 0  # type: ignore[operator]
        case "count":
            fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "disk":
            fine = _is_disk(value)
        case "disks":
            fine = isinstance(value, list) and 1 <= len(value) <= MAX_DISKS and all(map(_is_disk, value)) and len(set(value)) == len(value)
        case "timing":
            fine = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
            if fine:
                _refuse_bad_timing(reader, name, *value)  # type: ignore[misc]
        case "range":
            fine = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and 0 <= value[0] <= value[1]
        case _:
            fine = value in _CHOICES[kind]
    if not fine:
        choice = f"; one of {', '.join(_CHOICES[kind])}" if kind in _CHOICES else ""
        of = f"; the hosts are {', '.join(names)}" if kind in ("host", "hosts", "sides") else ""
        raise reader.wrong(name, f"{value!r} is not {_KINDS.get(kind, kind)}{choice}{of}")
    return value


_KINDS = {
    "host": "a host",
    "hosts": "a host, a list of hosts, or all",
    "sides": "a list of lists of hosts, each host once",
    "flag": "true or false",
    "share": "a number from 0 to 1",
    "seconds": "a number of seconds",
    "count": "a whole number from 0",
    "range": "[least, most] in seconds",
    "disk": f"the number of a disk, from 0 to {MOST_DISKS - 1}",
    "disks": f"a list of 1 to {MAX_DISKS} different numbers of disks, each from 0 to {MOST_DISKS - 1}",
    "timing": "[licence, watchdog] in seconds",
}


def _is_disk(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_DISKS


def _refuse_bad_timing(reader: _Reader, name: str, licence: float, watchdog: float) -> None:
    try:
        Timing(licence, watchdog)
    except ValueError as error:
        raise reader.wrong(name, str(error)) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _expectation(given: object, file: str, where: str, names: list[str]) -> Expectation:
    reader = _Reader(given, file, where)
    reader.only(("host", "is", "never", "says", "by", "after", "kind"))
    host = reader.get("host")
    if host not in names:
        raise reader.wrong("host", f"{host!r} is not a host; the hosts are {', '.join(names)}")
    if sum(reader.get(name) is not None for name in ("is", "never", "says")) != 1:
        raise reader.wrong("is", "one of is, never and says is needed")
    state, never = str(reader.get("is") or reader.get("never") or ""), reader.get("never") is not None
    says = str(reader.get("says") or "")
    if not says and state not in STATES:
        raise reader.wrong("never" if never else "is", f"{state!r} is no state; there are {', '.join(STATES)}")
    kind = str(reader.get("kind", ""))
    if kind not in ("", "silence", "eviction", "confirmed"):
        raise reader.wrong("kind", f"{kind!r} is not silence, eviction or confirmed")
    by = reader.number("by", 0, 10_000) if reader.get("by") is not None else None
    return Expectation(str(host), state, never, reader.number("after", 0, 10_000, default=0.0), by, kind, says)


class _Reader:
    """Fields of one mapping, with errors that say where."""

    def __init__(self, given: object, file: str, where: str) -> None:
        self._file, self._where = file, where
        if not isinstance(given, Mapping):
            raise BadScenario(f"{file}: {where or 'the file'}: a mapping is needed, not {type(given).__name__}")
        self._given = given

    def wrong(self, name: str, why: str) -> BadScenario:
        """The error for that field."""
        return BadScenario(f"{self._file}: {self._where + '.' if self._where else ''}{name}: {why}")

    def only(self, known: tuple[str, ...]) -> None:
        """Refuse every other field."""
        for name in self._given:
            if name not in known:
                raise self.wrong(str(name), f"no such field; there are {', '.join(known)}")

    def get(self, name: str, default: object = None) -> Any:
        """The field, unchecked."""
        return self._given.get(name, default)

    def number(self, name: str, least: float, most: float, *, whole: bool = False, default: float | None = None) -> float:
        """A number within bounds."""
        value = self._given.get(name, default)
        if not _is_number(value) or not least <= value <= most or (whole and value != int(value)):
            raise self.wrong(name, f"{value!r} is not a {'whole ' if whole else ''}number from {least:g} to {most:g}")
        return float(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A mapping, empty if it is not there."""
        value = self._given.get(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, "a mapping is needed")
        return value

    def listing(self, name: str) -> list[Any]:
        """A list, empty if it is not there."""
        value = self._given.get(name, [])
        if not isinstance(value, list):
            raise self.wrong(name, "a list is needed")
        return value

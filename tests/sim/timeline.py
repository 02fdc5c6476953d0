"""A run as text: one row for each host, one column for each part of a second, and the list of what happened."""

from collections.abc import Iterable

from .invariants import Entry
from .schedule import Outcome

_WIDTH = 100
_LEGEND = "· not armed  █ armed  ~ armed without storage  F fencing  x dead  d disarmed  r refused; ! certified dead  e evicted  > boots"
_PHASE = {"starting": "·", "joining": "·", "armed": "█", "fencing": "F", "disarmed": "d", "refused": "r"}
_LOUD = ("fault", "death", "boot", "certificate", "eviction", "storageless", "vms", "phase")


def draw(outcome: Outcome, *, words: bool = False) -> str:
    """The rows, the scale, the legend and the events. Times count from the moment that all hosts were armed."""
    hosts = [h.name for h in outcome.world.hosts]
    seconds = max(1.0, outcome.world.now - outcome.began)
    step = seconds / _WIDTH
    rows = [f"{name:>4} {_row(name, outcome, step)}" for name in hosts]
    kinds = (*_LOUD, "words") if words else _LOUD
    events = [
        f"{entry.at - outcome.began:8.2f} s  {entry.host:4} {entry.what}"
        for entry in outcome.monitor.log
        if entry.at >= outcome.began - 1e-9 and entry.kind in kinds
    ]
    return "\n".join([*rows, f"     {_scale(step)}", f"     {_LEGEND}", "", *events])


def _row(name: str, outcome: Outcome, step: float) -> str:
    cells = []
    state = "·"
    entries = [e for e in outcome.monitor.log if e.host == name or _names(e, name)]
    number = 0
    for column in range(_WIDTH):
        until = outcome.began + (column + 1) * step
        mark = ""
        while number < len(entries) and entries[number].at < until:
            state, told = _after(state, entries[number], name)
            mark = told or mark
            number += 1
        cells.append(mark or state)
    return "".join(cells)


def _names(entry: Entry, name: str) -> bool:
    return entry.kind in ("certificate", "eviction") and f" {name}/" in entry.what


def _after(state: str, entry: Entry, name: str) -> tuple[str, str]:
    """The state after an entry, and the mark that it leaves."""
    if _names(entry, name):
        return state, "!" if entry.kind == "certificate" else "e"
    match entry.kind:
        case "phase":
            word = entry.what.split(":")[0]
            return _PHASE.get(word, "?"), ""
        case "death":
            return "x", ""
        case "boot":
            return "·", ">"
        case "storageless":
            return ("~", "") if entry.what.startswith("lives") else ("█" if state == "~" else state, "")
        case _:
            return state, ""


def _scale(step: float) -> str:
    every = 20
    marks: Iterable[str] = (f"{column * step:.0f} s".ljust(every) for column in range(0, _WIDTH, every))
    return "".join(marks)

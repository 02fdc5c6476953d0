"""Makes a schedule that finds something as small as it can: fewer faults, fewer hosts, shorter."""

from collections.abc import Callable
from dataclasses import replace

from .faults import Event
from .schedule import Schedule, play

Fails = Callable[[Schedule], bool]
MOST_TRIES = 400


def finds(rule: str) -> Fails:
    """Whether a schedule still finds that."""

    def again(schedule: Schedule) -> bool:
        try:
            return any(f.rule == rule for f in play(schedule).findings)
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
            return rule == "crash"

    return again


def shrink(schedule: Schedule, fails: Fails) -> Schedule:
    """The smallest schedule found that still fails; the given one if it does not fail at all."""
    tries = 0

    def still(candidate: Schedule) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MOST_TRIES and fails(candidate)

    if not still(schedule):
        return schedule
    # What a demand rests on is no fault: without the last boot, nobody could be whole again.
    kept = tuple(e for e in schedule.events if "whole" in schedule.demands and e.do == "boot")
    best = replace(schedule, events=_fewer(schedule, kept, still))
    best = _simpler(best, still)
    return best if schedule.demands else _shorter(best, still)


def _fewer(schedule: Schedule, kept: tuple[Event, ...], still: Fails) -> tuple[Event, ...]:
    """Delta debugging: leave out ever smaller parts as long as it still fails."""
    events = tuple(e for e in schedule.events if e not in kept)

    def whole(rest: tuple[Event, ...]) -> tuple[Event, ...]:
        return tuple(sorted((*rest, *kept), key=lambda e: e.at))

    parts = 2
    while len(events) >= 1:
        size = max(1, len(events) // parts)
        for start in range(0, len(events), size):
            rest = events[:start] + events[start + size :]
            if still(replace(schedule, events=whole(rest))):
                events, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(events), parts * 2)
    return whole(events)


def _simpler(schedule: Schedule, still: Fails) -> Schedule:
    for change in (replace(schedule, disks=1), replace(schedule, weights={})):
        if change != schedule and still(change):
            schedule = change
    for index, event in enumerate(schedule.events):
        for name in event.arguments:
            slim = replace(event, arguments={k: v for k, v in event.arguments.items() if k != name})
            longer = event if schedule.demands else replace(event, length=None)
            for other in (slim, longer, replace(event, at=float(round(event.at)))):
                changed = replace(schedule, events=(*schedule.events[:index], other, *schedule.events[index + 1 :]))
                if other != event and _whole(other) and still(changed):
                    schedule, event = changed, other
                    break
    return schedule


def _whole(event: Event) -> bool:
    from .faults import VOCABULARY

    return all(name in event.arguments for name, kind in VOCABULARY[event.do].fields.items() if not kind.endswith("?"))


def _shorter(schedule: Schedule, still: Fails) -> Schedule:
    for share in (0.5, 0.7, 0.85):
        candidate = replace(schedule, seconds=round(schedule.seconds * share, 1))
        if still(candidate):
            return candidate
    return schedule

"""Schedules about the heartbeat disks: several of them that fail in turn, and pools whose disks, members or timing change.

Assumption 4 of the promise is kept: what was sent lands within q of the end of its sender, or of its own failure.
"""

from __future__ import annotations

import random
from typing import Any

from quorate_core.timing import Timing

from . import drawing
from .disks import MOST_DISKS
from .faults import Event
from .schedule import Schedule
from .world import TIMING

_LATEST = 4.9
"""Just less than q."""


def lose_disks(dice: random.Random, seed: int) -> Schedule:
    """Several disks of which each host loses another one, for a while or for good; a partition; writes that land after their error; agents
    and hosts that are restarted in the middle of it; slots that had another owner."""
    hosts, disks, timing = dice.choice([2, 2, 3]), dice.choice([3, 3, 3, 3, 2]), dice.choice([TIMING, TIMING, drawing.STANDARD])
    at = dice.uniform(1, 3)
    # An eviction follows about then.
    later = at + dice.uniform(1.1, 1.8) * timing.network_timeout_seconds
    events = [*_grim(dice), Event(at, "split", {"sides": drawing.sides(dice, hosts)})]
    for index in range(hosts):
        events += _lost_disk(dice, f"h{index}", disks, timing, later + dice.uniform(-1, 1))
    for _ in range(dice.choice([0, 0, 1, 2])):
        events.append(_restart(dice, hosts, later + dice.uniform(-3, 4)))
    if dice.random() < 0.3:
        events += _power_cycle(dice, drawing.name(dice, hosts), dice.uniform(0, 2) * later, timing)
    cold = dice.random() < 0.25
    if cold:
        events = _after_leftovers(dice, hosts, disks, timing, events)
    extra = drawing.end_seconds(timing) + drawing.rest_seconds(timing)
    return Schedule(seed, hosts, disks=disks, cold=cold, timing=timing, **drawing.ended(events, extra))


def _grim(dice: random.Random) -> list[Event]:
    """Keepers that end their hosts as late as they can, and VMs that cannot be stopped."""
    return [
        Event(0.0, "hostile_keeper", {"host": "all", "strategy": dice.choice(["late", "reopen"])}),
        Event(0.0, "vms_stop", {"host": "all"}),
    ]


def _lost_disk(dice: random.Random, host: str, disks: int, timing: Timing, when: float) -> list[Event]:
    """One host's trouble with one disk, or with one after the other."""
    first, brief = dice.randrange(disks), timing.storage_interval_seconds + 0.02
    late = {"operation": "write", "lands": True, "late": round(dice.uniform(2, _LATEST), 2)}
    way = dice.choice(["hang", "fail"])
    return dice.choice(
        [
            [
                Event(when, "fail", {"host": host, "disk": first, **late}, brief),
                Event(when + brief, "hang", {"host": host, "disk": (first + 1) % disks}),
            ],
            [
                Event(dice.uniform(0, when), "hang", {"host": host, "disk": first}),
                Event(when, "pause", {"host": host, "seconds": round(dice.uniform(0.3, 0.8) * timing.licence_seconds, 2)}),
            ],
            [Event(when, way, {"host": host, "disk": first}, dice.uniform(1, 20))],
            [Event(dice.uniform(0, when), way, {"host": host, "disk": first})],
            [
                Event(when, "hang", {"host": host, "disk": first, "fails": True, **dice.choice([{}, late])}, dice.uniform(1, 4)),
                Event(when + dice.uniform(3, 9), way, {"host": host, "disk": (first + 1) % disks}, dice.choice([None, dice.uniform(1, 9)])),
            ],
            [Event(0.0, way, {"host": host, "disk": first}), _late_hang(dice, host, (first + 1) % disks, timing)],
        ]
    )


def _late_hang(dice: random.Random, host: str, disk: int, timing: Timing) -> Event:
    """A write that hangs and lands long after it was sent, but before its host can have been without a licence for q."""
    at = dice.uniform(0, 3)
    latest = timing.restart_budget_seconds + _LATEST - timing.storage_interval_seconds - at
    late = round(dice.uniform(2, max(_LATEST, latest)), 2)
    wrong: dict[str, Any] = {"fails": True} if dice.random() < 0.5 else {}
    return Event(at, "hang", {"host": host, "disk": disk, "operation": "write", "lands": True, "late": late, **wrong}, late + 0.5)


def _restart(dice: random.Random, hosts: int, at: float) -> Event:
    away = round(dice.choice([dice.uniform(0.05, 0.5), dice.uniform(0.1, 3)]), 2)
    return Event(max(0.0, at), "kill", {"host": drawing.name(dice, hosts), "process": "pulse", "away": away})


def _power_cycle(dice: random.Random, host: str, at: float, timing: Timing) -> list[Event]:
    off = dice.choice([1.0, 4.0, 12.0, timing.values.release_after_silence_seconds + 5])
    return [Event(at, "power_off", {"host": host}), Event(at + off, "boot", {"host": host})]


def _after_leftovers(dice: random.Random, hosts: int, disks: int, timing: Timing, events: list[Event]) -> list[Event]:
    """The same from power on: slots had another owner, and a host may never have had a way to one of the disks."""
    left, wait = [], 2 * timing.storage_timeout_seconds + 8
    for index in dice.sample(range(hosts), dice.randrange(1, hosts + 1)):
        armed: dict[str, Any] = {"armed": True} if dice.random() < 0.3 else {}
        where = dice.choice([{}, {}, {"disk": dice.randrange(disks)}])
        number = dice.choice([{}, {}, {"sequence": dice.choice([1, 2**45, 9 * 2**45])}])
        left.append(Event(0.0, "leftover", {"host": f"h{index}", **armed, **where, **number}))
        if armed:
            wait = timing.values.release_after_silence_seconds + timing.storage_timeout_seconds + 8
        if disks == 3 and dice.random() < 0.5:
            way, length = dice.choice(["hang", "fail"]), dice.choice([None, wait + dice.uniform(-5, 20)])
            left.append(Event(0.0, way, {"host": f"h{index}", "disk": dice.randrange(disks)}, length))
    return [*left, *(Event(e.at + wait, e.do, e.arguments, e.length) for e in events)]


# configuration


def reconfigure(dice: random.Random, seed: int) -> Schedule:
    """A pool is paused, or a host excluded, while some are without the API and so stay armed; then its disks, members or timing are
    changed, and it is enabled again. Agents are restarted, hosts are cut off and lose storage or power in between."""
    hosts, disks = dice.choice([2, 3, 3, 4]), dice.choice([1, 1, 2, 3])
    timing, other = dice.sample([TIMING, drawing.STANDARD], 2) if dice.random() < 0.3 else (TIMING, drawing.STANDARD)
    names = [f"h{i}" for i in range(hosts)]
    silent = dice.sample(names, dice.choice([1, 1, 2]) if hosts > 2 else 1)
    off = dice.uniform(2, 5)
    changed = off + dice.uniform(2, 15)
    back = changed + dice.uniform(2, 20)
    events = _grim(dice)
    for name in silent:
        gone = dice.uniform(0, off - 1.5)
        events.append(Event(gone, "outage", {"host": name}, dice.choice([None, changed - gone + dice.uniform(-3, 4), back + 30])))
    pause, resume = dice.choice(_pauses([name for name in names if name not in silent]))
    events += [Event(off, "configure", pause), Event(back, "configure", resume)]
    for _ in range(dice.choice([1, 1, 2])):
        events += _change(dice, names, disks, other, changed + dice.uniform(0, 3))
    for _ in range(dice.choice([0, 1, 2, 3])):
        events.append(_restart(dice, hosts, dice.uniform(off - 1, back + 8)))
    for name in silent:
        if dice.random() < 0.3:
            events.append(Event(changed + dice.uniform(3, 12), "kill", {"host": name, "away": 0.2}))
        if dice.random() < 0.4:
            events.append(Event(back + dice.uniform(0, 40), "configure", {"exclude": [name]}))
    for _ in range(dice.choice([1, 1, 2, 3])):
        events += _blow(dice, names, silent, timing, dice.choice([dice.uniform(off, changed), dice.uniform(changed, back + 12)]))
    extra = drawing.end_seconds(drawing.STANDARD) + drawing.rest_seconds(drawing.STANDARD)
    return Schedule(seed, hosts, disks=disks, timing=timing, **drawing.ended(events, extra))


def _pauses(others: list[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    whole: tuple[dict[str, Any], dict[str, Any]] = {"enabled": False}, {"enabled": True}
    return [whole, whole, *(({"exclude": [name]}, {"include": [name]}) for name in others)]


def _change(dice: random.Random, names: list[str], disks: int, timing: Timing, at: float) -> list[Event]:
    """One change of the configuration; a host that has left may come back."""
    one = dice.choice(names)
    match dice.randrange(6):
        case 0:
            left = Event(at, "configure", {"remove": [one]})
            again = at + dice.choice([dice.uniform(0.3, 4), dice.uniform(1, 30)])
            return [left, Event(again, "configure", {"add": [one]})] if dice.random() < 0.6 else [left]
        case 1:
            return [Event(at, "configure", {"timing": [timing.licence_seconds, timing.watchdog_seconds]})]
        case _:
            return [Event(at, "disks", {"use": _other_disks(dice, disks)})]


def _other_disks(dice: random.Random, disks: int) -> list[int]:
    """More, fewer, others, or the same in another order."""
    present = list(range(disks))
    new = list(range(disks, MOST_DISKS))
    return dice.choice(
        [
            [*present, *new][:3],
            dice.sample(present, dice.randrange(1, disks + 1)),
            dice.sample(new, dice.randrange(1, 4)),
            dice.sample([*present, *new], dice.randrange(1, 4)),
            present[::-1],
        ]
    )


def _blow(dice: random.Random, names: list[str], silent: list[str], timing: Timing, at: float) -> list[Event]:
    """What befalls the pool in the middle of it: the silent ones are cut off, or somebody is deaf, slow, or loses storage, power or its
    marker."""
    others = [name for name in names if name not in silent]
    who, length = dice.choice(names), dice.choice([None, dice.uniform(2, 30)])
    disk: dict[str, Any] = dice.choice([{}, {"disk": dice.randrange(MOST_DISKS)}])
    return dice.choice(
        [
            [Event(at, "split", {"sides": [others, silent]}, length)],
            [Event(at, "split", {"sides": [others, silent]}, length)],
            [Event(at, "split", {"sides": drawing.sides(dice, len(names))}, length)],
            [Event(at, dice.choice(["hang", "fail"]), {"host": dice.choice([who, others]), **disk}, length)],
            _power_cycle(dice, who, at, timing),
            [Event(at, "power_off", {"host": who})],
            [Event(at, "cut", {"from": "all", "to": who}, length)],
            [
                Event(
                    at, "slow", {"host": who, "seconds": [round(dice.uniform(0, 2), 2), round(dice.uniform(2, _LATEST), 2)], **disk}, length
                )
            ],
            [Event(at, "lose_marker", {"host": who}, length)],
        ]
    )


# leaving


def leave(dice: random.Random, seed: int) -> Schedule:
    """A host, or the pool, leaves its licence just as somebody is evicted. That host has lost a disk, on which the life that it gave back
    stays beside the next one, and the others see first one of the other disks and then the other; then it falls silent, or comes back."""
    hosts, timing = dice.choice([2, 2, 3]), TIMING
    names = [f"h{i}" for i in range(hosts)]
    one, split = dice.choice(names), dice.uniform(0.6, 1.5)
    decided = split + 6.85
    lost, *seen = dice.sample(range(3), 3)
    off: dict[str, Any] = dice.choice([{"exclude": [one]}, {"exclude": [one]}, {"enabled": False}])
    on: dict[str, Any] = {"include": [one]} if "exclude" in off else {"enabled": True}
    leaves = decided + dice.choice([dice.uniform(-2.5, 0), dice.uniform(-1, 1), dice.uniform(0, 8)])
    events = [*_grim(dice), Event(leaves, "configure", off)]
    events.append(Event(split, "split", {"sides": drawing.sides(dice, hosts)}, dice.choice([None, None, dice.uniform(6, 12)])))
    if dice.random() < 0.8:
        events += _without(dice, one, lost, dice.choice([dice.uniform(0, 1), leaves + dice.uniform(-2, 1)]))
    for name in names:
        turn = decided + dice.uniform(-0.5, 2)
        if dice.random() < 0.6:
            events.append(Event(dice.uniform(0, 0.5), "fail", {"host": name, "disk": seen[0]}, turn))
            events.append(Event(turn, "fail", {"host": name, "disk": seen[1]}, dice.choice([None, None, 20.0])))
        if dice.random() < 0.5:
            events.append(Event(decided + dice.uniform(-0.5, 0.5), "pause", {"host": name, "seconds": round(dice.uniform(1, 2.5), 2)}))
        if dice.random() < 0.5:
            events.append(Event(0.2, "outage", {"host": name}, dice.choice([None, decided + dice.uniform(0, 20)])))
        if dice.random() < 0.2:
            events.append(_restart(dice, hosts, dice.choice([decided, leaves]) + dice.uniform(-1, 4)))
    if dice.random() < 0.6:
        silent = leaves + dice.uniform(1, 5)
        events.append(Event(silent, dice.choice(["hang", "fail"]), {"host": one}, dice.choice([None, None, dice.uniform(5, 30)])))
    if dice.random() < 0.4:
        events.append(Event(leaves + dice.choice([dice.uniform(0.5, 6), dice.uniform(3, 40)]), "configure", on))
    if dice.random() < 0.2:
        events += _power_cycle(dice, dice.choice(names), decided + dice.uniform(-0.5, 6), timing)
    extra = drawing.end_seconds(timing) + drawing.rest_seconds(timing)
    return Schedule(seed, hosts, disks=3, timing=timing, **drawing.ended(events, extra))


# exchange


def exchange(dice: random.Random, seed: int) -> Schedule:
    """The pool's disks are exchanged by the book, but for one or two that are kept, beside hosts that lose one just then, that died before,
    or whose slot another one had meanwhile; then each host is without a disk, and they are parted or die, twice."""
    hosts, disks, timing = dice.choice([2, 2, 2, 3]), dice.choice([1, 3, 3]), TIMING
    names, kept = [f"h{i}" for i in range(hosts)], dice.randrange(disks)
    use = [kept, *dice.sample([n for n in range(MOST_DISKS) if n != kept], dice.choice([2, 2, 2, 0]))]
    bound = timing.values.release_after_silence_seconds
    off = dice.choice([dice.uniform(2, 6), dice.uniform(bound + 8, bound + 20)])
    changed = off + dice.uniform(6, 14)
    back = changed + dice.uniform(6, 20)
    armed = back + dice.uniform(14, 24)
    events = [
        *_grim(dice),
        Event(off, "configure", {"enabled": False}),
        Event(changed, "disks", {"use": use}),
        Event(back, "configure", {"enabled": True}),
    ]
    one = dice.choice(names)
    if dice.random() < 0.8:
        events += _away(dice, one, use, off, changed, back)
    if dice.random() < 0.6:
        events += _without(dice, one, kept, dice.choice([dice.uniform(0, 3), dice.uniform(changed - 4, back)]))
    for name in names:
        if dice.random() < 0.6:
            events += _without(
                dice, name, dice.choice(use), dice.choice([dice.uniform(changed, armed), dice.uniform(armed - 3, armed + 3)])
            )
    if dice.random() < 0.3:
        events.append(_restart(dice, hosts, dice.choice([dice.uniform(off, back), dice.uniform(back, armed)])))
    if dice.random() < 0.6:
        # Who should have obeyed its eviction, and did not, falls silent when that is over.
        evicted = armed + timing.values.release_after_eviction_seconds + dice.uniform(5, 17)
        events.append(Event(armed, "split", {"sides": drawing.sides(dice, hosts)}, dice.choice([None, None, None, dice.uniform(5, 40)])))
        events.append(Event(evicted, "fail", {"host": dice.choice([name for name in names if name != one])}))
    else:
        events += _last_blow(dice, names, timing, armed)
        events += _last_blow(dice, names, timing, armed + dice.uniform(3, bound + 15))
    extra = drawing.end_seconds(timing) + drawing.rest_seconds(timing)
    return Schedule(seed, hosts, disks=disks, timing=timing, **drawing.ended(events, extra))


def _without(dice: random.Random, host: str, disk: int, at: float) -> list[Event]:
    """A host loses its way to a disk; its last write may land later."""
    late: dict[str, Any] = {"operation": "write", "lands": True, "late": round(dice.uniform(1, _LATEST), 2)}
    length = dice.choice([None, None, None, dice.uniform(1, 40)])
    if dice.random() < 0.4:
        return [
            Event(at, "fail", {"host": host, "disk": disk, **late}, 1.05),
            Event(at + 1.05, "fail", {"host": host, "disk": disk}, length),
        ]
    return [Event(at, dice.choice(["fail", "fail", "hang"]), {"host": host, "disk": disk}, length)]


def _away(dice: random.Random, host: str, use: list[int], off: float, changed: float, back: float) -> list[Event]:
    """A host is off from before the change, or during it, until after; its slot may have another owner meanwhile."""
    gone, again = dice.choice([dice.uniform(0.5, 3), dice.uniform(off + 4, changed + 2)]), dice.uniform(changed + 1, back + 5)
    events = [Event(gone, "power_off", {"host": host}), Event(again, "boot", {"host": host})]
    if again - changed > 3 and dice.random() < 0.3:
        where = dice.choice([{}, {"disk": dice.choice(use)}])
        events += [
            Event(again - 2.5, "configure", {"remove": [host]}),
            Event(again - 2.4, "leftover", {"host": host, "sequence": 9 * 2**45, **where}),
            Event(again - 0.3, "configure", {"add": [host]}),
        ]
    return events


def _last_blow(dice: random.Random, names: list[str], timing: Timing, at: float) -> list[Event]:
    who = dice.choice(names)
    return dice.choice(
        [
            [Event(at, "fail", {"host": who})],
            [Event(at, "fail", {"host": who})],
            [Event(at, "power_off", {"host": who})],
            _power_cycle(dice, who, at, timing),
            [Event(at, "pause", {"host": who, "seconds": round(dice.uniform(2, 12), 2)})],
        ]
    )


# nobody may be harmed


def steady(dice: random.Random, hosts: int, longest_away: float) -> list[Event]:
    """Troubles of three disks of which a majority is left to everybody, but for less than two cycles; and short restarts of pulse. One
    whose request hangs cannot be restarted before it is answered: none is then."""
    names = [f"h{i}" for i in range(hosts)]
    restarts_until, disks = 20.0, dice.sample(range(3), 3)
    events = []
    match dice.randrange(4):
        case 0:
            events = [Event(dice.uniform(0, 20), "fail", {"host": name, "disk": dice.randrange(3)}, 1.9) for name in names]
        case 1:
            for name in names:
                length = dice.choice([None, dice.uniform(0.5, 30)])
                events.append(Event(12 + dice.uniform(0, 9), "hang", {"host": name, "disk": dice.randrange(3)}, length))
            restarts_until = 3.0
        case 2:
            began, who = 12 + dice.uniform(0, 6), dice.choice(["all", dice.choice(names)])
            fails: dict[str, Any] = {"fails": True} if dice.random() < 0.3 else {}
            events = [
                Event(began, "hang", {"host": "all", "disk": disks[0], **fails}, dice.choice([None, dice.uniform(0.5, 40)])),
                Event(began + dice.uniform(4, 20), "fail", {"host": who, "disk": disks[1]}, dice.uniform(0.1, 1.9)),
            ]
            restarts_until = 3.0
        case _:
            began = dice.uniform(4, 10)
            events = [
                Event(began, "fail", {"host": dice.choice(["all", dice.choice(names)]), "disk": disks[0]}, 1.9),
                Event(began + dice.uniform(4, 12), "fail", {"host": dice.choice(["all", dice.choice(names)]), "disk": disks[1]}, 1.9),
            ]
    for name in names:
        if dice.random() < 0.4:
            away = round(dice.uniform(0.1, longest_away), 2)
            events.append(Event(dice.uniform(0, restarts_until), "kill", {"host": name, "away": away}))
    return events

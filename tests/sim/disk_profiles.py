"""Schedules in which hosts see different disks of several, or in which the disks, the members or the timing of the pool change."""

from __future__ import annotations

import random
from typing import Any

from quorate_core.timing import Timing

from .drawing import ended, name, rest, sides
from .faults import Event
from .schedule import Schedule
from .world import TIMING

_STANDARD = Timing(20, 8)


def several(dice: random.Random, seed: int) -> Schedule:
    """Several disks of which each host loses another one, for a while or for good; a partition; restarts; writes that land after their
    error; and what former owners have left."""
    hosts, count, timing = dice.choice([2, 2, 3]), dice.choice([2, 3, 3, 3]), dice.choice([TIMING, TIMING, _STANDARD])
    licence, cold = timing.licence_seconds, dice.random() < 0.2
    # A pool that begins with this schedule is armed by then.
    at = dice.uniform(1, 3) + (6 * licence if cold else 0)
    events = [
        Event(0.0, "hostile_keeper", {"host": "all", "strategy": dice.choice(["late", "reopen"])}),
        Event(0.0, "vms_stop", {"host": "all"}),
    ]
    if cold:
        for index in range(hosts):
            if dice.random() < 0.6:
                left = {"host": f"h{index}", "disk": dice.randrange(count), "armed": dice.random() < 0.3}
                events.append(Event(0.0, "leftover", left))
    for index in range(hosts):
        host = f"h{index}"
        for _ in range(dice.choice([1, 1, 2])):
            events += _disk_trouble(dice, host, count, 0.0 if cold and dice.random() < 0.5 else at, licence)
        for _ in range(dice.choice([0, 0, 1, 2])):
            away = round(dice.uniform(0.1, 0.3 * licence), 2)
            events.append(Event(at + dice.uniform(0, 3 * licence), "kill", {"host": host, "away": away}))
        if dice.random() < 0.15:
            off = Event(at + dice.uniform(0, 4 * licence), "power_off", {"host": host})
            events += [off, Event(off.at + dice.choice([1.0, 5.0, 30.0]), "boot", {"host": host})]
    if dice.random() < 0.7:
        events.append(Event(at + dice.choice([0.0, dice.uniform(0, 2 * licence)]), "split", {"sides": sides(dice, hosts)}))
    return Schedule(seed, hosts, disks=count, timing=timing, cold=cold, **ended(events, 15 + licence + rest(timing)))


def _disk_trouble(dice: random.Random, host: str, count: int, at: float, licence: float) -> list[Event]:
    first, when = dice.randrange(count), at + dice.uniform(0.2, 1.5) * licence
    second, length = (first + 1) % count, dice.choice([None, dice.uniform(0.1, 3) * licence])
    late: dict[str, Any] = {"operation": "write", "lands": True, "late": round(dice.uniform(2, 4.9), 2)}
    one: dict[str, Any] = {"host": host, "disk": first}
    kind = {"operation": dice.choice(["all", "all", "write", "read"])}
    match dice.randrange(6):
        case 0:
            return [Event(when, "fail", {**one, **late}, 1.02), Event(when + 1.02, "hang", {"host": host, "disk": second}, length)]
        case 1:
            pause = Event(when, "pause", {"host": host, "seconds": round(dice.uniform(0.3, 0.9) * licence, 2)})
            return [Event(at + dice.uniform(0, licence), "hang", one), pause]
        case 2:
            return [Event(when, dice.choice(["hang", "fail"]), {**one, **kind}, length)]
        case 3:
            hung = {**one, "operation": "write", "lands": True, "late": round(dice.uniform(0.1, 1.2) * licence, 2)}
            return [Event(when, "hang", hung, dice.uniform(0.5, 1.5) * licence)]
        case 4:
            # Another majority after the other.
            step = dice.uniform(0.2, 1) * licence
            return [Event(when + n * step, "fail", {"host": host, "disk": (first + n) % count, **kind}, step) for n in range(4)]
        case _:
            ends = {**one, "fails": dice.random() < 0.6, "operation": dice.choice(["write", "read", "all"])}
            return [Event(when, "hang", ends, dice.uniform(0.2, 1.2) * licence)]


def reconfigure(dice: random.Random, seed: int) -> Schedule:
    """A paused pool, or one with a host in maintenance, changes its disks, members or timing, while some hosts cannot hear of it."""
    hosts, count = dice.choice([2, 3, 3, 4]), dice.choice([1, 1, 2, 3])
    at, deaf = dice.uniform(2, 5), name(dice, hosts)
    pausing = dice.random() < 0.7
    off: dict[str, Any] = {"enabled": False} if pausing else {"exclude": [name(dice, hosts)]}
    on: dict[str, Any] = {"enabled": True} if pausing else {"include": off["exclude"]}
    events = [
        Event(0.0, "hostile_keeper", {"host": "all", "strategy": dice.choice(["late", "reopen"])}),
        Event(0.0, "vms_stop", {"host": "all"}),
        Event(at - 0.1, "outage", {"host": deaf}, dice.choice([None, None, dice.uniform(5, 60)])),
        Event(at, "configure", off),
    ]
    changed = at + dice.uniform(0.5, 12)
    for _ in range(dice.choice([1, 1, 2])):
        change: dict[str, Any] = dice.choice(
            [
                {"disks": dice.sample(range(count + 3), dice.choice([1, 2, 3]))},
                {"disks": dice.sample(range(count + 1), dice.choice([1, min(2, count + 1)]))},
                {"remove": [dice.choice([deaf, name(dice, hosts)])]},
                {"timing": [6.0, 2.5]},
            ]
        )
        events.append(Event(changed, "configure", change))
        if "remove" in change and dice.random() < 0.6:
            events.append(Event(changed + dice.uniform(1, 20), "configure", {"add": change["remove"]}))
        changed += dice.uniform(0.5, 8)
    back = changed + dice.uniform(2, 10)
    events.append(Event(back, "configure", on))
    for index in range(hosts):
        host = f"h{index}"
        if dice.random() < 0.4:
            killed: dict[str, Any] = {"process": dice.choice(["pulse", "both"]), "away": round(dice.uniform(0.1, 2), 2)}
            events.append(Event(dice.uniform(at - 1, back + 5), "kill", {"host": host, **killed}))
        if dice.random() < 0.3:
            one: dict[str, Any] = {"host": host} if dice.random() < 0.4 else {"host": host, "disk": dice.randrange(count)}
            length = dice.choice([None, dice.uniform(2, 20)])
            events.append(Event(dice.uniform(at - 1, back + 10), dice.choice(["hang", "fail"]), one, length))
        if dice.random() < 0.15:
            gone = dice.uniform(at, back + 10)
            events += [Event(gone, "power_off", {"host": host}), Event(gone + dice.choice([1.0, 10.0]), "boot", {"host": host})]
    if dice.random() < 0.6:
        others = [f"h{i}" for i in range(hosts) if f"h{i}" != deaf]
        events.append(Event(dice.uniform(at, back), "split", {"sides": [others, [deaf]] if dice.random() < 0.7 else sides(dice, hosts)}))
    if dice.random() < 0.5:
        events.append(Event(back + dice.uniform(5, 20), "configure", {"exclude": [deaf]}))
    return Schedule(seed, hosts, disks=count, **ended(events, 15 + rest(TIMING)))

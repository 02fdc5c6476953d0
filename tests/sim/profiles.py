"""Schedules from numbers: each profile draws from another kind of trouble. The same number always makes the same schedule.

What is always watched is the promise (`invariants`); some profiles promise more, and say so in `demands`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from . import disk_profiles, drawing
from .faults import Event
from .schedule import Schedule, quiet_from
from .world import TIMING

R_S = TIMING.values.release_after_silence_seconds
REST_SECONDS = drawing.rest_seconds()


def generate(seed: int, profile: str = "") -> Schedule:
    """The schedule of that number; of a given profile if one is named."""
    dice = random.Random(f"schedule {seed}")
    drawn = dice.choices(list(PROFILES), weights=[share for share, _ in PROFILES.values()])[0]
    name = profile or drawn
    made = PROFILES[name][1](dice, seed)
    return replace(made, profile=name)


def _havoc(dice: random.Random, seed: int) -> Schedule:
    pool = drawing.pool(dice, most=6)
    events: list[Event] = []
    for _ in range(dice.randrange(2, 9)):
        events += _trouble(dice, pool["hosts"], dice.uniform(0, 30))
    return Schedule(seed, **pool, **drawing.ended(events))


def _trouble(dice: random.Random, hosts: int, at: float) -> list[Event]:
    """One fault of any kind, hostile keepers and brief storms more often than not."""
    host = drawing.name(dice, hosts)
    length = dice.choice([None, dice.uniform(0.5, 6), dice.uniform(3, 12), dice.uniform(10, 30)])
    brief = dice.choice([dice.uniform(0.5, 6), dice.uniform(3, 25)])
    seconds = [round(dice.uniform(0, 2), 2), round(dice.uniform(2, 5), 2)]
    late: dict[str, Any] = {"lands": True, "late": round(dice.uniform(0.5, 12), 2)}
    lands: dict[str, Any] = dice.choice([{}, {"lands": True}, late])
    operation = {"operation": dice.choice(["all", "write", "read", "look"])}
    disk: dict[str, Any] = {} if dice.random() < 0.6 else {"disk": 0}
    who = dice.choice([host, "all", host])
    kind = dice.randrange(19)
    match kind:
        case 0:
            return [Event(at, "split", {"sides": drawing.sides(dice, hosts)}, length)]
        case 1:
            return [
                Event(at, "cut", {"from": host, "to": dice.choice(["all", drawing.name(dice, hosts)]), "both": dice.random() < 0.5}, length)
            ]
        case 2:
            return [Event(at, "lose", {"share": round(dice.uniform(0.2, 1), 2), "from": who}, brief)]
        case 3:
            return [Event(at, "delay", {"seconds": seconds, "from": who}, brief)]
        case 4:
            return [Event(at, "duplicate", {"share": 0.5}, brief), Event(at + dice.uniform(0, 20), "replay", {"host": host})]
        case 5:
            return [Event(at, "hang", {"host": who, **operation, **lands, **disk}, length)]
        case 6:
            return [Event(at, "fail", {"host": who, "share": dice.choice([0.3, 0.7, 1.0]), **operation, **lands, **disk}, length)]
        case 7 | 8:
            return [Event(at, "slow", {"host": who, "seconds": seconds, **disk}, length)]
        case 9:
            return [Event(at, "stale", {"host": host, **disk}, brief)]
        case 10:
            return [Event(at, "torn", {"host": host, "share": 0.5}, brief)]
        case 11:
            return [Event(at, "old_write", {"host": host, "age": dice.randrange(1, 20)})]
        case 12 | 13:
            return [
                Event(at, "pause", {"host": host, "process": dice.choice(["pulse", "loop", "keeper", "both"]), "seconds": round(brief, 2)})
            ]
        case 14:
            away = round(dice.choice([dice.uniform(0.05, 2), dice.uniform(1, 8)]), 2)
            return [Event(at, "kill", {"host": host, "process": dice.choice(["pulse", "keeper", "both"]), "away": away})]
        case 15 | 16:
            off = Event(at, "power_off", {"host": who if dice.random() < 0.2 else host})
            back = Event(at + dice.choice([1.0, 3.0, 10.0, 30.0]), "boot", off.arguments)
            return [off, back] if dice.random() < 0.6 else [off]
        case 17:
            change: dict[str, Any] = dice.choice([{"exclude": [host]}, {"enabled": False}, {"weight": 3, "of": [host]}])
            undo = {"include": [host]} if "exclude" in change else {"enabled": True} if "enabled" in change else {"weight": 0, "of": [host]}
            events = [Event(at, "configure", change), Event(at + dice.uniform(1, 20), "configure", undo)]
            return events + ([Event(at - 1 if at > 1 else at, "outage", {"host": host}, brief)] if dice.random() < 0.4 else [])
        case _:
            events = [Event(at, "hostile_keeper", {"host": who, "strategy": dice.choice(["late", "reopen"])}, None)]
            return events + ([Event(at, "vms_stop", {"host": who})] if dice.random() < 0.7 else [])


def _silence(dice: random.Random, seed: int) -> Schedule:
    """One host falls silent in an ugly way, its keeper as hostile as it can be; the observers are disturbed."""
    pool = drawing.pool(dice, most=4)
    victim, at = drawing.name(dice, pool["hosts"]), dice.choice([dice.uniform(0.5, 5), dice.uniform(10, 20)])
    late = {"lands": True, "late": round(dice.uniform(0.2, 9), 2)}
    way = dice.choice(
        [
            Event(at, "hang", {"host": victim}),
            Event(at, "hang", {"host": victim, "lands": True}),
            Event(at, "hang", {"host": victim, **late}),
            Event(at, "fail", {"host": victim, **dice.choice([{}, late])}),
            Event(at, "slow", {"host": victim, "seconds": [1.0, 6.0]}),
            Event(at, "slow", {"host": victim, "seconds": [1.9, 2.05]}, dice.uniform(4, 20)),
            Event(at, "pause", {"host": victim, "seconds": 200.0}),
            Event(at, "pause", {"host": victim, "seconds": round(dice.uniform(3, 9), 2)}),
            Event(at, "kill", {"host": victim, "away": 200.0}),
            Event(at, "hang", {"host": victim, "operation": "read"}),
        ]
    )
    events = [way, Event(0.0, "hostile_keeper", {"host": victim, "strategy": dice.choice(["late", "reopen"])})]
    if dice.random() < 0.7:
        events.append(Event(0.0, "vms_stop", {"host": victim}))
    if dice.random() < 0.5:
        events.append(Event(0.0, "slow", {"host": victim, "seconds": [1.5, 1.98]}))
    if dice.random() < 0.5:
        events.append(Event(at, "cut", {"from": victim, "to": "all", "both": True}))
    for index in range(pool["hosts"]):
        if f"h{index}" != victim and dice.random() < 0.3:
            events.append(Event(dice.uniform(0, 25), "pause", {"host": f"h{index}", "seconds": 2.5}))
    return Schedule(seed, **pool, events=drawing.in_order(events), seconds=at + 22 + REST_SECONDS)


def _eviction(dice: random.Random, seed: int) -> Schedule:
    """A partition whose losers do not want to die, and winners that fail in the middle of it."""
    pool = drawing.pool(dice, least=3, most=5)
    hosts, at = pool["hosts"], dice.uniform(0.5, 3)
    events = [
        Event(at, "split", {"sides": drawing.sides(dice, hosts)}, dice.choice([None, None, dice.uniform(4, 15)])),
        Event(0.0, "hostile_keeper", {"host": "all", "strategy": dice.choice(["late", "reopen"])}),
        Event(0.0, "vms_stop", {"host": "all", **dice.choice([{}, {"seconds": [0.1, 9.0]}])}),
    ]
    for _ in range(dice.randrange(0, 4)):
        host, when = drawing.name(dice, hosts), at + dice.choice([dice.uniform(0, 14), dice.uniform(10, 28)])
        events += dice.choice(
            [
                [Event(when, "power_off", {"host": host}), Event(when + 4, "boot", {"host": host})],
                [Event(when, "power_off", {"host": host})],
                [Event(when, "slow", {"host": host, "seconds": [0.5, 2.1]}, 15.0)],
                [Event(when, "pause", {"host": host, "seconds": round(dice.uniform(0.5, 6), 2)})],
                [Event(when, "old_write", {"host": host, "age": dice.randrange(1, 15)})],
                [Event(when, "fail", {"host": host, "operation": "write", "lands": True, "late": round(dice.uniform(1, 6), 2)}, 4.0)],
                [Event(when, "kill", {"host": host, "process": "pulse", "away": round(dice.uniform(0.1, 3), 2)})],
                [Event(when, "hang", {"host": host, "lands": True}, dice.uniform(2, 12))],
                [Event(when, "hang", {"host": host})],
                [Event(when, "pause", {"host": host, "seconds": 100.0})],
            ]
        )
    return Schedule(seed, **pool, **drawing.ended(events, 15 + REST_SECONDS))


def _comeback(dice: random.Random, seed: int) -> Schedule:
    """A host is certified; the others then lose their storage and live without it; the dead one comes back with storage and judges them."""
    hosts = dice.choice([2, 3, 3, 4])
    names = [f"h{i}" for i in range(hosts)]
    victim = dice.choice(names)
    others = [name for name in names if name != victim]
    lost = dice.uniform(24.5, 30)
    events = [
        Event(1.0, "power_off", {"host": victim}),
        Event(lost, "hang", {"host": others}, dice.choice([None, None, dice.uniform(5, 30)])),
        Event(lost + dice.uniform(0, 3), "split", {"sides": [others, [victim]]}),
        Event(lost + dice.uniform(0, 8), "boot", {"host": victim}),
        Event(0.0, "vms_stop", {"host": "all"}),
    ]
    for name in others:
        when, late = lost - dice.uniform(1.5, 5), {"operation": "write", "lands": True, "late": round(dice.uniform(1, 4.9), 2)}
        events += dice.choice(
            [
                [Event(when, "fail", {"host": name, **late}, 1.05)],
                [Event(dice.uniform(5, 24), "kill", {"host": name, "away": 0.2})],
                [Event(when, "old_write", {"host": name, "age": dice.randrange(1, 8)})],
                [],
            ]
        )
    return Schedule(seed, hosts, **drawing.ended(events, R_S + 15 + REST_SECONDS))


def _maintenance(dice: random.Random, seed: int) -> Schedule:
    """A host, or the pool, is disarmed and armed again while hosts are cut off, evicted, or without the API; then it falls silent."""
    hosts = dice.choice([2, 2, 3, 3, 4])
    host, at = drawing.name(dice, hosts), dice.uniform(6, 11)
    choices: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"exclude": [host]}, {"include": [host]}),
        ({"enabled": False}, {"enabled": True}),
    ]
    off, on = dice.choice(choices)
    events = [
        Event(at, "configure", off),
        Event(0.0, "vms_stop", {"host": "all"}),
        Event(at + dice.uniform(3, 8), dice.choice(["hang", "fail"]), {"host": host}, dice.choice([None, None, dice.uniform(3, 15)])),
    ]
    if dice.random() < 0.4:
        events.append(Event(at + dice.uniform(0.5, 8), "configure", on))
    for index in range(hosts):
        other = f"h{index}"
        if dice.random() < 0.5:
            events.append(Event(1.0, "outage", {"host": other}, dice.choice([None, dice.uniform(8, 14)])))
        if dice.random() < 0.5:
            events.append(Event(0.0, "slow", {"host": other, "seconds": [1.0, 1.95]}))
        if dice.random() < 0.3:
            late = {"operation": "write", "lands": True, "late": round(dice.uniform(1, 4.9), 2)}
            events.append(Event(at + dice.uniform(-2, 3), "fail", {"host": other, **late}, 1.05))
        if dice.random() < 0.3:
            process, away = dice.choice(["pulse", "keeper", "both"]), round(dice.uniform(0.1, 2), 2)
            events.append(Event(at + dice.uniform(-1, 6), "kill", {"host": other, "process": process, "away": away}))
    if dice.random() < 0.8:
        # An eviction takes about seven seconds from the cut, so it falls into the same moment.
        events.append(Event(at - dice.uniform(6, 8.5) if at > 8.5 else 0.5, "split", {"sides": drawing.sides(dice, hosts)}))
    return Schedule(seed, hosts, **drawing.ended(events, 10 + REST_SECONDS))


def _partition(dice: random.Random, seed: int) -> Schedule:
    """Links are cut once and for all, on a calm pool: exactly the best mutually connected set lives."""
    hosts = dice.choice([2, 3, 3, 4, 4, 5, 5, 6])
    weights = {i: dice.randrange(1, 4) for i in range(hosts)} if dice.random() < 0.25 else {}
    pairs = list(itertools.combinations(range(hosts), 2))
    share = dice.choice([0.2, 0.4, 0.6])
    broken = [pair for pair in pairs if dice.random() < share] or [dice.choice(pairs)]
    at = dice.uniform(0.5, 3)
    events = []
    for a, b in broken:
        one, other = (a, b) if dice.random() < 0.5 else (b, a)
        events.append(Event(at, "cut", {"from": f"h{one}", "to": f"h{other}", "both": dice.random() < 0.6}))
    survivors = " ".join(f"h{i}" for i in best_side(hosts, set(broken), weights))
    return Schedule(seed, hosts, weights=weights, demands=(f"live: {survivors}",), **drawing.ended(events, 22 + REST_SECONDS))


def best_side(hosts: int, broken: set[tuple[int, int]], weights: dict[int, int]) -> tuple[int, ...]:
    """By trying all sets: the one in which all hear each other with the largest weight, then the most hosts, then the lowest slots."""
    sets = (s for size in range(1, hosts + 1) for s in itertools.combinations(range(hosts), size))
    whole = (s for s in sets if not any(pair in broken for pair in itertools.combinations(s, 2)))
    return min(whole, key=lambda s: (-sum(weights.get(i, 0) for i in s), -len(s), s))


def _storageless(dice: random.Random, seed: int) -> Schedule:
    """All lose their storage; then the network, a host, or the storage of some comes or goes."""
    pool = drawing.pool(dice, most=4)
    hosts, at = pool["hosts"], dice.uniform(0.5, 3)
    events: list[Event] = []
    for index in range(hosts):
        way = dice.choice([("hang", {}), ("fail", {}), ("hang", {"lands": True, "late": round(dice.uniform(1, 8), 2)})])
        when, length = at + dice.choice([0.0, dice.uniform(0, 2), dice.uniform(0, 6)]), dice.choice([None, dice.uniform(5, 30)])
        events.append(Event(when, way[0], {"host": f"h{index}", **way[1]}, length))
    for _ in range(dice.randrange(0, 4)):
        events += _trouble(dice, hosts, at + dice.uniform(0, 25))
    if dice.random() < 0.6:
        events.append(Event(0.0, "hostile_keeper", {"host": "all", "strategy": dice.choice(["late", "reopen"])}))
        events.append(Event(0.0, "vms_stop", {"host": "all"}))
    return Schedule(seed, **pool, **drawing.ended(events))


def _mild(dice: random.Random, seed: int) -> Schedule:
    """Disturbances within the limits: nobody may be harmed by them. The worse the network is, the shorter may a process be away: the time
    from the last packet before to the first one that arrives after stays within T_n."""
    pool = drawing.pool(dice, most=5)
    hosts, several = pool["hosts"], pool["disks"] == 3
    timing = dice.choice([TIMING, drawing.STANDARD]) if several else TIMING
    lost, late = dice.choice([(0, 0.0), (1, 0.0), (1, 0.8), (3, 0.0), (3, 0.8)])
    network = timing.network_timeout_seconds - (lost + 1) * timing.network_interval_seconds - late - 0.1
    bearable = min(network, timing.restart_budget_seconds - 0.4)
    # Before a restarted pulse speaks again it has to find its keeper and to read the disk once.
    away = bearable - 0.5
    events = disk_profiles.steady(dice, hosts, away) if several else _mild_troubles(dice, hosts, bearable, away)
    if lost:
        events.append(Event(0.0, "lose", {"share": 0.3, "most": lost}, 40.0))
    if late:
        events.append(Event(0.0, "delay", {"seconds": [0.0, late]}, 40.0))
    if dice.random() < 0.3:
        events.append(Event(dice.uniform(0, 20), "outage", {}, 20.0))
    return Schedule(seed, **pool, timing=timing, demands=("calm",), **drawing.ended(events, 10))


def _mild_troubles(dice: random.Random, hosts: int, bearable: float, away: float) -> list[Event]:
    events = []
    for host in (f"h{index}" for index in range(hosts)):
        match dice.randrange(6):
            case 0:
                events.append(Event(dice.uniform(0, 5), "slow", {"host": host, "seconds": [0.0, 1.9]}, 30.0))
            case 1:
                events.append(Event(dice.uniform(0, 20), "fail", {"host": host}, 1.9))
            case 2:
                events += [
                    Event(8.0 * n + dice.uniform(0, 2), "pause", {"host": host, "seconds": round(dice.uniform(0.2, 1) * bearable, 2)})
                    for n in range(4)
                ]
            case 3:
                events += [
                    Event(4.0 * n + dice.uniform(0, 2), "pause", {"host": host, "process": "keeper", "seconds": 0.4}) for n in range(8)
                ]
            case 4:
                events.append(Event(dice.uniform(0, 20), "kill", {"host": host, "away": round(dice.uniform(0.1, away), 2)}))
            case _:
                pass
    return events


def _return(dice: random.Random, seed: int) -> Schedule:
    """Hosts fall and come back while others fall; when all is over and all are powered, the pool must be whole again."""
    pool = drawing.pool(dice, most=4)
    hosts, events = pool["hosts"], []
    for _ in range(dice.randrange(1, 5)):
        for event in _trouble(dice, hosts, dice.uniform(0, 25)):
            kept = event.do not in ("configure", "hostile_keeper")
            lasting = event.length is None and event.do in ("split", "cut", "hang", "fail", "slow")
            events += [replace(event, length=20.0) if lasting else event] if kept else []
    last = quiet_from(tuple(events))
    # Those that are about to be reset are, before all are booted.
    events += [Event(last + 20 + n * R_S, "boot", {"host": "all"}) for n in range(2)]
    return Schedule(seed, **pool, demands=("whole",), **drawing.ended(events, 2 * R_S + 25))


Maker = Callable[[random.Random, int], Schedule]
PROFILES: dict[str, tuple[int, Maker]] = {
    "havoc": (30, _havoc),
    "silence": (15, _silence),
    "eviction": (20, _eviction),
    "disks": (10, disk_profiles.lose_disks),
    "reconfigure": (7, disk_profiles.reconfigure),
    "exchange": (4, disk_profiles.exchange),
    "leave": (4, disk_profiles.leave),
    "comeback": (8, _comeback),
    "maintenance": (8, _maintenance),
    "partition": (10, _partition),
    "storageless": (15, _storageless),
    "mild": (5, _mild),
    "return": (5, _return),
}

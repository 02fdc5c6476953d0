"""What all makers of schedules draw with: names, sides, and the end of a schedule."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

from quorate_core.timing import WATCHDOG_GRANULARITY_SECONDS, Timing

from .faults import Event
from .invariants import slack_seconds
from .schedule import paused_for, quiet_from
from .world import TIMING

STANDARD = Timing(20, 8)


def rest_seconds(timing: Timing = TIMING) -> float:
    """From the last fault to the end of a schedule: time for every certificate that is due."""
    return timing.values.release_after_silence_seconds + timing.network_timeout_seconds + slack_seconds(timing) + 1


def end_seconds(timing: Timing) -> float:
    """From the last proof of life of a host to its reset: L + 3 (W + g)."""
    values = timing.values
    return values.licence_seconds + values.kappa * (values.watchdog_seconds + WATCHDOG_GRANULARITY_SECONDS)


def ended(events: list[Event], extra: float | None = None) -> dict[str, Any]:
    """The events in order, and so many seconds after the last that ends (if none are given, what a certificate takes)."""
    last = max((quiet_from((e,)) for e in events if paused_for(e) < 100), default=0.0)
    return {"events": in_order(events), "seconds": last + (rest_seconds() if extra is None else extra)}


def in_order(events: list[Event]) -> tuple[Event, ...]:
    """By their time, in milliseconds."""
    return tuple(sorted((_rounded(e) for e in events), key=lambda e: e.at))


def _rounded(event: Event) -> Event:
    return replace(event, at=round(event.at, 3), length=None if event.length is None else round(event.length, 3))


def pool(dice: random.Random, least: int = 2, most: int = 5) -> dict[str, Any]:
    """Hosts, disks, and weights."""
    hosts = dice.choice([n for n in (2, 3, 3, 3, 4, 4, 5, 6, 8) if least <= n <= most])
    weights = {i: dice.randrange(1, 4) for i in range(hosts) if dice.random() < 0.3} if dice.random() < 0.2 else {}
    return {"hosts": hosts, "disks": dice.choice([1, 1, 1, 1, 2, 3]), "weights": weights}


def name(dice: random.Random, hosts: int) -> str:
    """One of the hosts."""
    return f"h{dice.randrange(hosts)}"


def sides(dice: random.Random, hosts: int) -> list[list[str]]:
    """All hosts, in two parts or three."""
    names = [f"h{i}" for i in range(hosts)]
    dice.shuffle(names)
    cuts = sorted(dice.sample(range(1, hosts), dice.choice([1, 1, 1, min(2, hosts - 1)])))
    return [sorted(names[a:b]) for a, b in itertools.pairwise([0, *cuts, hosts])]

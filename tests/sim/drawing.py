"""What every profile draws alike: hosts, sides of a cut, and when a schedule is over."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

from quorate_core.timing import Timing

from .faults import Event
from .schedule import paused_for, quiet_from
from .world import TIMING

R_S = TIMING.values.release_after_silence_seconds
REST_SECONDS = R_S + 11
"""From the last fault to the end of a schedule: time for every certificate that is due."""


def rest(timing: Timing) -> float:
    """The same for another timing."""
    return timing.values.release_after_silence_seconds + timing.network_timeout_seconds + 7


def ended(events: list[Event], extra: float = REST_SECONDS) -> dict[str, Any]:
    last = max((quiet_from((e,)) for e in events if paused_for(e) < 100), default=0.0)
    return {"events": in_order(events), "seconds": last + extra}


def in_order(events: list[Event]) -> tuple[Event, ...]:
    return tuple(sorted((rounded(e) for e in events), key=lambda e: e.at))


def rounded(event: Event) -> Event:
    return replace(event, at=round(event.at, 3), length=None if event.length is None else round(event.length, 3))


def name(dice: random.Random, hosts: int) -> str:
    return f"h{dice.randrange(hosts)}"


def sides(dice: random.Random, hosts: int) -> list[list[str]]:
    names = [f"h{i}" for i in range(hosts)]
    dice.shuffle(names)
    cuts = sorted(dice.sample(range(1, hosts), dice.choice([1, 1, 1, min(2, hosts - 1)])))
    return [sorted(names[a:b]) for a, b in itertools.pairwise([0, *cuts, hosts])]

"""A schedule: a pool, a seed for chance, a list of faults, and what must hold at the end; and how it is played."""

from __future__ import annotations

from dataclasses import dataclass, field

from quorate_core.timing import Timing

from . import faults
from .faults import Event
from .invariants import Finding, Monitor
from .world import TIMING, World

ARMING_SECONDS = 60.0
_STILL_SECONDS = 12.0
"""So long after the last fault something may still begin to follow from it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`events` count their time from the moment that all hosts are armed; with `cold`, from power on. `demands`: "calm" (nobody may be
    disturbed), "whole" (all are armed at the end), "live: h0 h1" (exactly these live at the end)."""

    seed: int
    hosts: int
    events: tuple[Event, ...] = ()
    seconds: float = 60.0
    disks: int = 1
    weights: dict[int, int] = field(default_factory=dict)
    demands: tuple[str, ...] = ()
    profile: str = ""
    cold: bool = False
    name: str = ""
    timing: Timing = TIMING


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    schedule: Schedule
    world: World
    began: float

    @property
    def findings(self) -> list[Finding]:
        """What must not happen and has."""
        return self.world.monitor.findings

    @property
    def monitor(self) -> Monitor:
        """What was seen."""
        return self.world.monitor


def play(schedule: Schedule, *, listen: bool = False) -> Outcome:
    """Run it, and check at the end what must hold then."""
    world = World(schedule.hosts, schedule.seed, disks=schedule.disks, weights=schedule.weights, timing=schedule.timing)
    world.monitor.listens = listen
    if not schedule.cold and not world.engine.run_until(world.armed, ARMING_SECONDS):
        why = "; ".join(f"{h.name}: {h.heart.phase.name.lower()}: {h.heart.message}" for h in world.hosts)
        world.monitor.find("not armed", f"a healthy pool has not armed within {ARMING_SECONDS:g} s: {why}")
        return Outcome(schedule, world, world.now)
    began = world.now
    for event in schedule.events:
        world.engine.at(began + event.at, faults.begin, world, event)
    ends = began + schedule.seconds
    world.engine.run(min(schedule.seconds, quiet_from(schedule.events) + _STILL_SECONDS))
    while world.now < ends and (listen or not world.settled()):
        world.engine.run(min(2.0, ends - world.now))
    check(world, schedule.demands)
    return Outcome(schedule, world, began)


def quiet_from(events: tuple[Event, ...]) -> float:
    """When the last fault that ends has ended."""
    return max((e.at + (e.length or 0.0) + e.arguments.get("late", 0.0) + paused_for(e) for e in events), default=0.0)


def paused_for(event: Event) -> float:
    """How long a pause lasts; 0 for anything else."""
    return float(event.arguments["seconds"]) if event.do == "pause" else 0.0


def check(world: World, demands: tuple[str, ...]) -> None:
    """What must hold at the end."""
    monitor = world.monitor
    monitor.check_the_dead_are_certified()
    for demand in demands:
        if demand == "calm":
            monitor.check_nobody_was_disturbed()
        elif demand == "whole":
            monitor.check_everybody_is_armed()
        elif demand.startswith("live:"):
            monitor.check_exactly_these_live(frozenset(demand.removeprefix("live:").split()))

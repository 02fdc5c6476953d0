"""The vocabulary of what can go wrong: every word with its fields, how it begins and how it ends. A schedule is a list of these words.

A fault is data until it begins, so a schedule can be generated, shrunk, saved as YAML and played again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from quorate_core.timing import Timing

from . import disk_faults
from .disk_faults import Arguments, End

if TYPE_CHECKING:
    from .host import Host
    from .network import Link
    from .world import World


@dataclass(frozen=True, slots=True)
class Event:
    """Something happens `at` so many seconds, for `length` seconds (None: for good)."""

    at: float
    do: str
    arguments: Arguments = field(default_factory=dict)
    length: float | None = None

    def __str__(self) -> str:
        words = ", ".join(f"{name}: {value}" for name, value in self.arguments.items())
        lasting = f", for: {self.length:g}" if self.length is not None else ""
        return f"{{at: {self.at:g}, do: {self.do}{', ' if words else ''}{words}{lasting}}}"


@dataclass(frozen=True, slots=True)
class Word:
    """One word: its fields by kind ("?" at the end: may be left out), and what begins it. What begins may return what ends it."""

    fields: Mapping[str, str]
    begin: Callable[[World, Arguments], End | None]


def begin(world: World, event: Event) -> None:
    """Let it begin now; it ends by itself."""
    touched = _touched(world, event)
    for index in touched:
        world.monitor.touch(index)
    world.monitor.note("", "fault", str(event))
    end = VOCABULARY[event.do].begin(world, event.arguments)

    def over() -> None:
        for index in touched:
            world.monitor.touch(index)
        if end is not None:
            end()

    if event.length is not None:
        world.engine.after(event.length, over)
    elif _disturbs_for_good(world, event):
        for index in touched:
            world.monitor.touch(index, for_good=True)


def _disturbs_for_good(world: World, event: Event) -> bool:
    """Whether from now on cycles fail at times, without an end."""
    limit = world.config.timing.cycle_limit_seconds
    return event.do in ("fail", "torn") or (event.do == "slow" and max(event.arguments["seconds"]) > limit)


def _touched(world: World, event: Event) -> list[int]:
    named = set()
    for name in ("host", "hosts", "from", "to", "sides"):
        value = event.arguments.get(name)
        for one in _flat(value):
            named.add(one)
    everybody = not named or "all" in named or event.do in ("configure", "split")
    return [h.index for h in world.hosts if everybody or h.name in named]


def _flat(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else []


# network


def _split(world: World, given: Arguments) -> End:
    side = {name: number for number, names in enumerate(given["sides"]) for name in names}
    apart = [
        link for (a, b), link in world.network.links.items() if side.get(f"h{a}", -1 - a) != side.get(f"h{b}", -1 - b)
    ]  # fmt: skip
    return _cut_links(apart)


def _cut(world: World, given: Arguments) -> End:
    links = _links(world, given)
    if given.get("both", False):
        links += _links(world, {"from": given.get("to", "all"), "to": given.get("from", "all")})
    return _cut_links(links)


def _cut_links(links: list[Link]) -> End:
    for link in links:
        link.cuts += 1

    def mend() -> None:
        for link in links:
            link.cuts -= 1

    return mend


def _links(world: World, given: Arguments) -> list[Link]:
    senders = {h.index for h in world.named(given.get("from", "all"))}
    receivers = {h.index for h in world.named(given.get("to", "all"))}
    return [link for (a, b), link in world.network.links.items() if a in senders and b in receivers]


def _lose(world: World, given: Arguments) -> End:
    links = _links(world, given)
    for link in links:
        link.losses.append(given["share"])
        link.most_lost_in_a_row = given.get("most", 0)

    def mend() -> None:
        for link in links:
            link.losses.remove(given["share"])

    return mend


def _delay(world: World, given: Arguments) -> End:
    links, seconds = _links(world, given), (given["seconds"][0], given["seconds"][1])
    for link in links:
        link.delays.append(seconds)

    def mend() -> None:
        for link in links:
            link.delays.remove(seconds)

    return mend


def _duplicate(world: World, given: Arguments) -> End:
    links = _links(world, given)
    for link in links:
        link.repeats.append(given["share"])

    def mend() -> None:
        for link in links:
            link.repeats.remove(given["share"])

    return mend


def _replay(world: World, given: Arguments) -> None:
    world.network.replay(world.host(given["host"]).index)


# processes and power


def _pause(world: World, given: Arguments) -> None:
    host, seconds = world.host(given["host"]), given["seconds"]
    if host.alive:
        what = given.get("process", "pulse")
        if what in ("pulse", "both"):
            host.pulse.pause(seconds)
        if what == "loop":
            host.pulse.pause(seconds, loop_only=True)
        if what in ("keeper", "both"):
            host.keeper.pause(seconds)


def _kill(world: World, given: Arguments) -> None:
    host = world.host(given["host"])
    away, what, life = given.get("away", 0.5), given.get("process", "pulse"), host.life
    if not host.alive:
        return
    if what in ("pulse", "both"):
        host.pulse.kill()
        world.engine.after(away, _if_same(host, life, host.start_pulse))
    if what in ("keeper", "both"):
        host.kill_keeper()
        world.engine.after(away, _if_same(host, life, host.start_keeper))


def _if_same(host: Host, life: int, what: Callable[[], None]) -> Callable[[], None]:
    def maybe() -> None:
        if host.alive and host.life == life:
            what()

    return maybe


def _hostile_keeper(world: World, given: Arguments) -> End:
    hosts = world.named(given["host"])
    for host in hosts:
        host.keeper_strategy = given.get("strategy", "late")

    def calm() -> None:
        for host in hosts:
            host.keeper_strategy = ""

    return calm


def _power_off(world: World, given: Arguments) -> None:
    for host in world.named(given["host"]):
        host.power_off("loses power")


def _boot(world: World, given: Arguments) -> None:
    for host in world.named(given["host"]):
        if not host.alive:
            world.monitor.note(host.name, "boot", "boots")
            host.boot()


def _flag(name: str) -> Callable[[World, Arguments], End]:
    def set_it(world: World, given: Arguments) -> End:
        hosts = world.named(given["host"])
        for host in hosts:
            setattr(host, name, True)

        def unset() -> None:
            for host in hosts:
                setattr(host, name, False)

        return unset

    return set_it


def _vms_stop(world: World, given: Arguments) -> None:
    seconds = given.get("seconds")
    for host in world.named(given["host"]):
        host.vms_stop_seconds = None if seconds is None else (seconds[0], seconds[1])


# configuration


def _configure(world: World, given: Arguments) -> None:
    for name in ("exclude", "include"):
        for host in world.named(given.get(name, [])):
            world.change_member(host.index, excluded=name == "exclude")
    for name in ("remove", "add"):
        for host in world.named(given.get(name, [])):
            world.change_membership(host.index, member=name == "add")
    if "weight" in given:
        for host in world.named(given.get("of", [])):
            world.change_member(host.index, weight=given["weight"])
    if "timing" in given:
        world.configure(replace(world.config, timing=Timing(*given["timing"])))
    if "enabled" in given:
        reason = "" if given["enabled"] else "paused by the user"
        world.configure(replace(world.config, enabled=given["enabled"], disabled_reason=reason))


def _use_disks(world: World, given: Arguments) -> None:
    world.use_disks(given["use"])


def _outage(world: World, given: Arguments) -> End:
    indexes = [h.index for h in world.named(given.get("host", "all"))]
    for index in indexes:
        world.api_leaves(index)
    return partial(_back, world, indexes)


def _back(world: World, indexes: list[int]) -> None:
    for index in indexes:
        world.api_returns(index)


VOCABULARY: dict[str, Word] = {
    "split": Word({"sides": "sides"}, _split),
    "cut": Word({"from": "hosts?", "to": "hosts?", "both": "flag?"}, _cut),
    "lose": Word({"from": "hosts?", "to": "hosts?", "share": "share", "most": "count?"}, _lose),
    "delay": Word({"from": "hosts?", "to": "hosts?", "seconds": "range"}, _delay),
    "duplicate": Word({"from": "hosts?", "to": "hosts?", "share": "share"}, _duplicate),
    "replay": Word({"host": "host"}, _replay),
    "hang": Word(
        {"host": "hosts", "disk": "disk?", "operation": "operation?", "lands": "flag?", "late": "seconds?", "fails": "flag?"},
        disk_faults.hang,
    ),
    "fail": Word(
        {"host": "hosts", "disk": "disk?", "operation": "operation?", "lands": "flag?", "late": "seconds?", "share": "share?"},
        disk_faults.fail,
    ),
    "slow": Word({"host": "hosts", "disk": "disk?", "seconds": "range"}, disk_faults.slow),
    "stale": Word({"host": "hosts", "disk": "disk?"}, disk_faults.show_old),
    "torn": Word({"host": "hosts", "disk": "disk?", "share": "share?"}, disk_faults.tear),
    "old_write": Word({"host": "host", "disk": "disk?", "age": "count?"}, disk_faults.bring_back),
    "reformat": Word({"disk": "disk?"}, disk_faults.reformat),
    "wipe": Word({"disk": "disk"}, disk_faults.wipe),
    "leftover": Word({"host": "host", "disk": "disk?", "sequence": "count?", "armed": "flag?"}, disk_faults.leave),
    "pause": Word({"host": "host", "process": "process?", "seconds": "seconds"}, _pause),
    "kill": Word({"host": "host", "process": "process?", "away": "seconds?"}, _kill),
    "hostile_keeper": Word({"host": "hosts", "strategy": "strategy?"}, _hostile_keeper),
    "power_off": Word({"host": "hosts"}, _power_off),
    "boot": Word({"host": "hosts"}, _boot),
    "lose_marker": Word({"host": "hosts"}, _flag("marker_fails")),
    "no_watchdog": Word({"host": "hosts"}, _flag("watchdog_problem")),
    "deaf_watchdog": Word({"host": "hosts"}, _flag("watchdog_is_deaf")),
    "failed_watchdog": Word({"host": "hosts"}, _flag("watchdog_has_failed")),
    "vms_stop": Word({"host": "hosts", "seconds": "range?"}, _vms_stop),
    "configure": Word(
        {
            "exclude": "hosts?",
            "include": "hosts?",
            "remove": "hosts?",
            "add": "hosts?",
            "weight": "count?",
            "of": "hosts?",
            "enabled": "flag?",
            "timing": "timing?",
        },
        _configure,
    ),
    "disks": Word({"use": "disks"}, _use_disks),
    "outage": Word({"host": "hosts?"}, _outage),
}

"""The words for what can go wrong with a heartbeat disk, or with a host's way to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quorate_core import slot
from quorate_core.statement import Phase, Statement

from .disks import POOL_ID, Effect

if TYPE_CHECKING:
    from .world import World

Arguments = Mapping[str, Any]
End = Callable[[], None]

_FORMER_SEQUENCE = 3 * 2**45  # of a third life of that slot (`numbers`)
_FORMER_INCARNATION = 0xDEAD
_EVERYBODY = 2**64 - 1


def hang(world: World, given: Arguments) -> End:
    """Requests are answered when it is over; with `fails`, with an error then."""
    fails, lands = given.get("fails", False), given.get("lands", False)
    return _place(world, given, Effect(_kinds(given), fails=fails, hangs=True, lands=lands, late_seconds=given.get("late")))


def fail(world: World, given: Arguments) -> End:
    """Requests are answered with an error, at once."""
    share = given.get("share", 1.0)
    effect = Effect(_kinds(given), fails=True, lands=given.get("lands", False), late_seconds=given.get("late"), share=share)
    return _place(world, given, effect)


def slow(world: World, given: Arguments) -> End:
    """Cycles take so long."""
    return _place(world, given, Effect(slow=(given["seconds"][0], given["seconds"][1])))


def show_old(world: World, given: Arguments) -> End:
    """Reads show what stands there now."""
    return _place(world, given, Effect(stale=True))


def tear(world: World, given: Arguments) -> End:
    """Only the first sectors of a write land."""
    return _place(world, given, Effect(torn=given.get("share", 1.0)))


def bring_back(world: World, given: Arguments) -> None:
    """An old write of a host lands again."""
    host = world.host(given["host"])
    for number in _numbers(world, given):
        world.disks[number].bring_back(host.index, int(given.get("age", 1)))
    world.monitor.sign(host.index)


def reformat(world: World, given: Arguments) -> None:
    """Somebody gives the disk to another pool."""
    for number in _numbers(world, given):
        world.disks[number].header = slot.encode_header(bytes(range(101, 117)))


def wipe(world: World, given: Arguments) -> None:
    """A disk that is none of the pool's at present is emptied."""
    assert str(given["disk"]) not in world.config.disks, "a disk of the pool keeps what was written on it (assumption 4)"
    disk = world.disks[given["disk"]]
    disk.header = bytes(slot.BLOCK_BYTES)
    disk.blocks.clear()


def leave(world: World, given: Arguments) -> None:
    """The slot shows what its former owner has left there: another host, on a disk that is this pool's already."""
    host, armed = world.host(given["host"]), given.get("armed", False)
    phase = Phase.ARMED if armed else Phase.DISARMED
    said = Statement("gone", host.index, _FORMER_INCARNATION, given.get("sequence", _FORMER_SEQUENCE), bytes(32), phase)
    left = slot.Slot(
        POOL_ID,
        b"a boot before...",
        said,
        world.config.timing.values,
        watchdog_armed=armed,
        required=_EVERYBODY,
        disks_digest=world.config.disks_digest,
    )
    for number in _numbers(world, given):
        world.disks[number].header = slot.encode_header(POOL_ID)
        world.disks[number].write(host.index, slot.encode(left))
    world.monitor.sign(host.index)


def _place(world: World, given: Arguments, effect: Effect) -> End:
    """On the ways to those disks."""
    placed = []
    for host in world.named(given["host"]):
        for number in _numbers(world, given):
            own = replace(effect, waiting=[])
            host.paths[number].add(own)
            placed.append((host.paths[number], own))

    def mend() -> None:
        for path, own in placed:
            path.remove(own)

    return mend


def _numbers(world: World, given: Arguments) -> list[int]:
    """Of the disk that is named, also if the pool uses it only later; of all that there are now, if none is."""
    world.reach(given.get("disk", 0))
    return [number for number in range(len(world.disks)) if given.get("disk") in (None, number)]


def _kinds(given: Arguments) -> frozenset[str]:
    operation = given.get("operation", "all")
    return frozenset(("look", "write", "read") if operation == "all" else (operation,))

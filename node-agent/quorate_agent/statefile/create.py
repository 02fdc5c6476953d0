"""Binds a disk to a pool: writes the header on an empty disk, or, with force, makes a used one empty first.

A wrong path here destroys somebody's data, and a live pool's disk is worse than that: everything is looked at before anything is written.
"""

import time
from collections.abc import Callable

from quorate_agent.statefile.device import Device, Unusable
from quorate_core import backup, slot
from quorate_core.statement import Malformed, Phase

_LOOK_EVERY_SECONDS = 1.0
_SHORTEST_WATCH_SECONDS = 10.0


def create(path: str, pool_id: bytes, typed: str | None, say: Callable[[str], None]) -> None:
    """Write the header of that pool on that disk. `typed`: the pool id given with --force; None: no force. Raises Unusable."""
    with Device(path, write=True, alone=True) as device:
        if device.size_bytes < slot.DISK_BYTES:
            raise Unusable(
                f"{path}: it is too small: {device.size_bytes} bytes; a heartbeat disk needs {slot.DISK_BYTES}, and {backup.END_BYTES} "
                "with the backup"
            )
        found = _content(device)
        if found and typed is None:
            raise Unusable(f"{path}: {found}; nothing was written. If that is to be destroyed: --force POOL_ID")
        if found:
            if typed != pool_id.hex():
                raise Unusable(f"{path}: --force {typed}: type the id of the pool that the disk is to belong to: {pool_id.hex()}")
            say(f"{path}: {found}; it will be destroyed")
            _refuse_live(device, say)
            _wipe(device)
        # The header last: a disk without one carries nothing.
        device.write(0, slot.encode_header(pool_id))
        if device.header() != slot.encode_header(pool_id):
            raise Unusable(f"{path}: the header did not come back as it was written")
        say(f"{path}: belongs to pool {pool_id.hex()}; {slot.DISK_BYTES // slot.BLOCK_BYTES - 1} slots of {slot.BLOCK_BYTES} bytes")
        if device.size_bytes < backup.END_BYTES:
            say(f"{path}: has no room for the backup: {device.size_bytes} bytes, {backup.END_BYTES} are needed")


def _content(device: Device) -> str:
    """What the disk holds, for people; "" for nothing."""
    header = device.header()
    try:
        return f"it belongs to pool {slot.decode_header(header).hex()}"
    except Malformed as why:
        if not slot.is_empty(header):
            return f"its first block is not empty: {why}"
    return device.content()


def _refuse_live(device: Device, say: Callable[[str], None]) -> None:
    before = device.slots()
    seconds = max([_SHORTEST_WATCH_SECONDS, *map(_may_be_silent_for, before)]) if any(map(any, before)) else 0.0
    if seconds:
        say(f"{device.path}: watching its slots for {seconds:g} s: a pool that lives writes them")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_EVERY_SECONDS))
        for index, (old, new) in enumerate(zip(before, device.slots(), strict=True)):
            if old != new:
                who = f"{_writer(new)} is writing slot {index}"
                raise Unusable(f"{device.path}: {who}: the disk is in use; stop the agents that use it first")


def _may_be_silent_for(block: bytes) -> float:
    # Its host may live that long after its last write, if it was armed.
    try:
        found = slot.decode(block)
    except Malformed:
        return 0.0
    armed = found.watchdog_armed and found.statement.phase in (Phase.ARMED, Phase.FENCING)
    return found.timing.release_after_silence_seconds if armed else 0.0


def _writer(block: bytes) -> str:
    try:
        return slot.decode(block).statement.host
    except Malformed:
        return "something"


def _wipe(device: Device) -> None:
    # The header first, so that an agent which comes up meanwhile writes nothing here.
    end = min(device.size_bytes, backup.END_BYTES) // slot.BLOCK_BYTES * slot.BLOCK_BYTES
    device.write(0, bytes(end))

"""When a new incarnation may write its slot for the first time.

What is in the slot may belong to another life of this host, or to another machine that was given the same slot. It is overwritten only once
that other one is certified dead, or has not written for as long as it could still be alive; while the slot changes, somebody else uses it.
So a fast reboot never hides the old incarnation from those who have to certify it, and two machines never share a slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quorate_core import slot
from quorate_core.statement import Malformed
from quorate_core.timing import Timing


@dataclass(frozen=True, slots=True)
class Claim:
    """What the own slot showed on each disk, since when (own monotonic seconds) it shows it, and whether it has changed before our eyes."""

    blocks: Mapping[int, bytes]
    since: float
    changed: bool = False


def look(claim: Claim | None, blocks: Mapping[int, bytes], at: float) -> Claim:
    """The claim after one more read of the own slot, completed at that time. A disk that is seen for the first time is no change."""
    if claim is None:
        return Claim(dict(blocks), at)
    both = {**claim.blocks, **blocks}
    if both == claim.blocks:
        return claim
    changed = claim.changed or any(disk in claim.blocks and claim.blocks[disk] != block for disk, block in blocks.items())
    return Claim(both, at, changed)


def objection(claim: Claim, read_issued_at: float, host: str, boot_id: bytes, pool_id: bytes, dead: frozenset[int], timing: Timing) -> str:
    """Why the slot must not be written yet, by a read asked for at that time; "" if it may be."""
    wait, whose = max(_wait(block, host, boot_id, pool_id, dead, timing) for block in claim.blocks.values())
    silent = read_issued_at - claim.since
    if not wait or silent >= wait:
        return ""
    if claim.changed:
        return f"its slot is being written by {whose}; two machines may share one slot"
    return f"its slot still belongs to {whose}; waiting {wait:g} s for a sign of life from it, or for its certificate"


def _wait(block: bytes, host: str, boot_id: bytes, pool_id: bytes, dead: frozenset[int], timing: Timing) -> tuple[float, str]:
    """How long to wait for whom: not for what is certified dead, nor for an earlier start of this agent that was never armed."""
    if slot.is_empty(block):
        return 0.0, ""
    try:
        found = slot.decode(block)
    except Malformed as why:
        return timing.storage_timeout_seconds, f"something unreadable ({why})"
    said = found.statement
    if found.pool_id == pool_id and said.host == host and said.incarnation in dead:
        return 0.0, ""
    if found.was_armed:
        return found.timing.release_after_silence_seconds, f"incarnation {said.incarnation:016x} of {said.host}, which was armed"
    if said.host == host and found.boot_id == boot_id:
        return 0.0, ""
    return timing.storage_timeout_seconds, f"incarnation {said.incarnation:016x} of {said.host}"

"""The licence: which storage cycle proves that a host may go on running its VMs, and until when.

A thread that merely runs is no evidence. A cycle counts only if, within T_c of the moment before it began, this host's own block was
written, all slots were read, the own block came back as written, and no member's slot declares this incarnation dead or evicted.
Doubt is resolved toward not renewing: the worst that follows is that this host is reset.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from quorate_core import slot
from quorate_core.pool import PoolConfig
from quorate_core.statement import Malformed


@dataclass(frozen=True, slots=True)
class Cycle:
    """One storage cycle as it came back. Times are this host's seconds since boot; `issued_at` was taken before the write was asked for.

    `blocks` is empty if the read failed; `written` is None for a cycle that only read. `found` is what stood in the own slot just before it
    was written; empty if nobody looked. `blank` names, by number, the heartbeat disks on which nothing was ever written.

    Of several disks `carried_by` are the majority that answers for it; `reads` has the blocks of each that was read, by number, and
    `blocks` of each slot one that is not empty; of the own slot one that is not what was written, if there is one. `failed_at` is when a
    write to a disk that carried this cycle was last found to have failed, this one or an older one: until it must have landed
    (`timing.SETTLE_SECONDS`) it may lie over what was written since. `refused`: the error will not pass by itself, such as a disk that is
    too small.
    """

    number: int
    issued_at: float
    read_issued_at: float
    completed_at: float
    written: bytes | None
    header: bytes = b""
    blocks: Mapping[int, bytes] = field(default_factory=dict)
    error: str = ""
    found: bytes = b""
    blank: tuple[int, ...] = ()
    reads: Mapping[int, Mapping[int, bytes]] = field(default_factory=dict)
    carried_by: frozenset[int] = frozenset()
    failed_at: float | None = None
    refused: bool = False

    def copies(self, index: int) -> dict[int, bytes]:
        """The blocks of one slot, by disk. What one disk's worker has read has no `reads`."""
        if not self.reads:
            return {0: self.blocks[index]} if index in self.blocks else {}
        return {disk: blocks[index] for disk, blocks in self.reads.items() if index in blocks}


@dataclass(frozen=True, slots=True)
class Evidence:
    """This host was connected to its pool at `at`; it may run until `at` plus the licence."""

    at: float

    def deadline(self, licence_seconds: float) -> float:
        """E + L, on this host's monotonic clock."""
        return self.at + licence_seconds


@dataclass(frozen=True, slots=True)
class NoEvidence:
    """Why a cycle proves nothing. `condemned`: a member has declared this incarnation dead or evicted; nothing renews it any more."""

    reason: str
    condemned: bool = False


def judge(
    cycle: Cycle,
    slots: Mapping[int, Collection[slot.Slot]],
    config: PoolConfig,
    my_slot: int,
    my_incarnation: int,
    limit_seconds: float,
    claimed_over: Collection[bytes] = (),
    buried: Collection[int] = (),
) -> Evidence | NoEvidence:
    """What a cycle proves. `slots` are the copies of members' slots that hold: any of them condemns, but an eviction only
    from the disks on which this host proves its life: elsewhere nobody can certify it, and what stands there may be left of long ago.
    `claimed_over` is what this host may have overwritten. `buried`: incarnations that are certified dead: only such a life
    itself reckoned with its records, and those who had adopted them have their own."""
    if cycle.error:
        return NoEvidence(cycle.error)
    if cycle.written is None:
        return NoEvidence("a cycle that did not write")
    took = cycle.completed_at - cycle.issued_at
    if took > limit_seconds:
        return NoEvidence(f"the storage cycle took {took:.1f} s (limit {limit_seconds:g} s)")
    try:
        owner = slot.decode_header(cycle.header)
    except Malformed as why:
        return NoEvidence(f"the heartbeat disk's header cannot be read: {why}")
    if owner != config.pool_id:
        return NoEvidence(f"the heartbeat disk now belongs to pool {owner.hex()}")
    for other in (one for index, held in slots.items() if index != my_slot for one in held):
        counts = other.disks_digest == config.disks_digest and other.statement.incarnation not in buried
        if (my_slot, my_incarnation) in other.evictions and counts:
            return NoEvidence(f"{other.statement.host} has evicted this host", condemned=True)
        if any((c.slot, c.incarnation) == (my_slot, my_incarnation) for c in other.certificates):
            return NoEvidence(f"{other.statement.host} has certified this host dead", condemned=True)
    if cycle.blocks.get(my_slot) != cycle.written:
        return NoEvidence("this host's own slot did not come back as it was written")
    # What cannot be read names nobody: a torn write of one's own is healed by the next.
    stranger = slot.legible(cycle.found) if cycle.found not in claimed_over else None
    if stranger is not None and (writer := stranger.statement.incarnation) != my_incarnation:
        # Those who read only the other one would count this one's silence while it lives.
        return NoEvidence(f"incarnation {writer:016x} wrote this host's own slot; two agents or machines may share it")
    return Evidence(cycle.issued_at)

"""The countdown after which a silent host is known to be dead, and the certificate that says so.

Nothing is restarted without a certificate, and every doubt ends in none. The proof is in the design's liveness page; its rules, here:

* counted on the observer's own clock from the *completion* of the read that first showed the last change, with the *victim's* timing;
* the last read was *issued* after R_s - q and still shows no change, so no renewal can have happened unseen;
* a gap between two reads longer than 2 h_s + T_c starts the count again: what happened meanwhile is not known;
* only an incarnation that was armed under a running watchdog: nothing resets any other;
* not while packets of that incarnation still arrive;
* only by one whose word the silent host would need to live without storage (`storageless.py`): this one has not given it;
* only on a cycle that is itself evidence for the observer: a host that cannot prove its own life does not declare another's death.

When a new incarnation appears in the slot, the count for the old one goes on: the newcomer is not a sign of the old one's life. But if it
comes from the same boot of the host, nothing has reset that host, and no silence proves anything about the old one: it was released from
its licence, while this observer could not read, and its VMs may run. A watch of it ends then, without a certificate.
"""

from dataclasses import dataclass, replace

from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase
from quorate_core.timing import TimingValues

_OTHERS_KEPT = 4
"""Copies of one slot on several disks, torn ones among them, that may be seen in turns."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One incarnation under observation. `since` is when the read completed that first showed its last change, `stopped_at` when one
    completed that first showed it fenced and without any VM. `required`: whose word it needs to live without storage.
    `boot_id`: the boot of its host.

    `block` is the newest that was seen of it, of the highest `sequence`. A block with a lower one is an old write that landed late, or an
    older copy on another disk: it says nothing, and only its first sight (`others`) is a change.
    """

    incarnation: int
    since: float
    armed: bool
    timing: TimingValues
    block: bytes
    required: int = 0
    sequence: int = 0
    stopped_at: float | None = None
    others: tuple[bytes, ...] = ()
    boot_id: bytes = b""

    @property
    def bound_seconds(self) -> float:
        """R_s of the watched host."""
        return self.timing.release_after_silence_seconds


def observe(watch: Watch | None, seen: Slot | None, block: bytes, cycle: Cycle, *, after_gap: bool) -> Watch | None:
    """The watch after one more read. `seen` is None where the block holds no valid slot of that member."""
    at = cycle.completed_at
    newcomer = seen is not None and (watch is None or seen.statement.incarnation != watch.incarnation)
    if seen is not None and newcomer and watch is not None and seen.boot_id == watch.boot_id:
        if seen.statement.sequence <= watch.sequence:
            return replace(watch, since=at)  # which of the two is the newer cannot be told, so nothing is counted while it stands there
        watch = None
    if seen is not None and newcomer and (watch is None or not watch.armed):
        return _with_newest(Watch(seen.statement.incarnation, at, False, seen.timing, block), seen, block, at)
    if watch is None:
        return None
    if newcomer:
        return replace(watch, since=at) if after_gap else watch
    fresh = block != watch.block and block not in watch.others
    watch = replace(watch, since=at) if fresh or after_gap else watch
    if seen is not None and seen.statement.sequence >= watch.sequence:
        return _with_newest(watch, seen, block, at)
    # Unreadable, or older than what was seen: somebody writes, or has written, while such blocks keep coming that were not there before.
    return replace(watch, others=(*watch.others, block)[-_OTHERS_KEPT:]) if fresh else watch


def _with_newest(watch: Watch, seen: Slot, block: bytes, at: float) -> Watch:
    others = () if seen.statement.sequence > watch.sequence else watch.others
    return replace(
        watch,
        armed=_is_armed(seen),
        timing=seen.timing,
        block=block,
        required=seen.required,
        boot_id=seen.boot_id,
        sequence=seen.statement.sequence,
        stopped_at=_stopped_at(watch.stopped_at, seen, at),
        others=others,
    )


def confirmed(watch: Watch, slot_index: int, cycle: Cycle) -> Issued | None:
    """The certificate of a host that says itself that it is fenced and without any VM: dead as soon as its last writes have landed."""
    drain = watch.timing.drain_seconds
    if not watch.armed or watch.stopped_at is None or cycle.read_issued_at - watch.stopped_at < drain:
        return None
    return Issued(slot_index, watch.incarnation, round(cycle.read_issued_at - watch.stopped_at, 3), drain, Evidence.CONFIRMED)


def verdict(
    watch: Watch, slot_index: int, cycle: Cycle, heard_at: float | None, network_timeout_seconds: float, my_slot: int
) -> Issued | str:
    """The certificate, or why there is none yet. `heard_at` is when the last packet of that incarnation came."""
    if not watch.armed:
        return "it was not armed: no watchdog is bound to reset it, so nothing proves that its VMs have stopped"
    if not watch.required >> my_slot & 1:
        return "it did not count this host among those whose word it needs, and may live without it"
    silent = cycle.read_issued_at - watch.since
    bound = watch.bound_seconds
    # Demanding that the last read was issued after R_s is stricter than R_s - q and costs one cycle at most.
    if silent < bound:
        return f"silent for {max(0.0, silent):.0f} s of {bound:g} s"
    if heard_at is not None and cycle.completed_at - heard_at <= network_timeout_seconds:
        return f"its packets still arrive ({cycle.completed_at - heard_at:.1f} s ago)"
    return Issued(slot_index, watch.incarnation, round(silent, 3), bound)


def _stopped_at(before: float | None, seen: Slot, at: float) -> float | None:
    if not (seen.stopped and seen.statement.phase is Phase.FENCING):
        return None
    return before if before is not None else at


def _is_armed(seen: Slot) -> bool:
    # A host that says it is fencing was armed, and its watchdog still runs: fencing ends in a reset, not in disarming.
    return seen.watchdog_armed and seen.statement.phase in (Phase.ARMED, Phase.FENCING)

"""The countdown after which a silent host is known to be dead, and the certificate that says so.

Nothing is restarted without a certificate, and every doubt ends in none. The proof is in docs/guarantee.md; its rules, here:

* counted on the observer's own clock from the *completion* of the read that first showed the last change, with the *victim's* timing;
* a change is whatever a disk had not shown before: on any disk, and a disk that is read for the first time has changed. What proves the
  victim's life stands on a majority, every read that counts has met it on one disk at least, and an older block that landed over it there
  is itself a change. So no order among the copies is needed, and none is trusted;
* the last read was *issued* R_s or more after that and still shows no change, so no renewal can have happened unseen;
* a gap between two reads longer than 2 h_s + T_c starts the count again: what happened meanwhile is not known;
* only an incarnation that was armed under a running watchdog: nothing resets any other;
* not while packets of that incarnation still arrive;
* only by one whose word the silent host would need to live without storage (`storageless.py`): this one has not given it;
* only on the disks on which the silent host proves its life, by its own newest slot;
* only on a cycle that is itself evidence for the observer: a host that cannot prove its own life does not declare another's death.

When a new incarnation appears in the slot, the count for the old one goes on: the newcomer is not a sign of the old one's life. But if it
comes from the same boot of the host, nothing has reset that host, and no silence proves anything about the old one: it was released from
its licence, while this observer could not read, and its VMs may run. A watch of it ends then, without a certificate.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from quorate_core import numbers
from quorate_core.copies import Found, age, newest
from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase
from quorate_core.timing import CLOCK_RATE_BOUND, TimingValues


@dataclass(frozen=True, slots=True)
class Judge:
    """Who wants to certify: its slot, and the digest of its heartbeat disks."""

    slot: int
    disks_digest: int


@dataclass(frozen=True, slots=True)
class Watch:
    """One incarnation under observation. `since` is when the read completed that first showed its last change, `stopped_at` when one
    completed that first showed it fenced and without any VM. `required`: whose word it needs to live without storage. `disks`: the digest
    of those on which it proves its life. `boot_id`: the boot of its host. `sequence`: the highest that was seen of it."""

    incarnation: int
    since: float
    armed: bool
    timing: TimingValues
    required: int = 0
    disks_digest: int = 0
    sequence: int = 0
    stopped_at: float | None = None
    boot_id: bytes = b""

    @property
    def bound_seconds(self) -> float:
        """R_s of the watched host."""
        return self.timing.release_after_silence_seconds


def observe(
    watch: Watch | None, found: Found, fresh: Collection[int], at: float, candidates: Collection[int], *, after_gap: bool
) -> Watch | None:
    """The watch after one more read of its slot, completed `at`, that showed something new on the disks `fresh`; `after_gap`: the own reads
    before it left a gap that is too long. It may begin for one of these incarnations, an armed one if there is one."""
    copies = found.intact.values()
    mine = [one for one in copies if watch is not None and one.statement.incarnation == watch.incarnation]
    if watch is not None:
        highest = numbers.in_boot(max([watch.sequence, *(one.statement.sequence for one in mine)]))
        kin = [one for one in copies if one.statement.incarnation != watch.incarnation and one.boot_id == watch.boot_id]
        if any(numbers.in_boot(one.statement.sequence) > highest for one in kin):
            watch = None
        elif kin and not mine:
            # Which of the two is the newer cannot be told, so nothing is counted while it stands there.
            return replace(watch, since=at)
    if watch is None or not watch.armed:
        # What another owner of the slot (or a later life of the same boot: then it does not hold) has found there and written over
        # elsewhere may be anything but the last word of its life: it may have been released.
        lives = [one for one in found.holding() if one.statement.incarnation in candidates and age(one) >= found.foreign]
        chosen = max(lives, key=lambda one: (one.was_armed, one.statement.sequence), default=None)
        if chosen is not None and (watch is None or chosen.statement.incarnation != watch.incarnation):
            return _with_newest(Watch(chosen.statement.incarnation, at, False, chosen.timing), chosen, at)
    if watch is None:
        return None
    # What cannot be read may be its own; a newcomer of another boot is no sign of it.
    if after_gap or any(_may_be_of(watch, found.intact.get(disk)) for disk in fresh):
        watch = replace(watch, since=at)
    last = newest(mine)
    return watch if last is None or last.statement.sequence < watch.sequence else _with_newest(watch, last, at)


def _may_be_of(watch: Watch, copy: Slot | None) -> bool:
    return copy is None or copy.statement.incarnation == watch.incarnation


def _with_newest(watch: Watch, seen: Slot, at: float) -> Watch:
    return replace(
        watch,
        armed=seen.was_armed,
        timing=seen.timing,
        required=seen.required,
        disks_digest=seen.disks_digest,
        boot_id=seen.boot_id,
        sequence=seen.statement.sequence,
        stopped_at=_stopped_at(watch.stopped_at, seen, at),
    )


def objection(required: int, disks_digest: int, judge: Judge) -> str:
    """Why that judge may say nothing about a host that needs their word and proves its life on those disks; "" if it may."""
    if not required >> judge.slot & 1:
        return "it did not count this host among those whose word it needs, and may live without it"
    if disks_digest != judge.disks_digest:
        return "it proves its life on other heartbeat disks than this host reads"
    return ""


def confirmed(watch: Watch, slot_index: int, cycle: Cycle) -> Issued | None:
    """The certificate of a host that says itself that it is fenced and without any VM: dead as soon as its last writes have landed."""
    if not watch.armed or watch.stopped_at is None:
        return None
    drain, waited = watch.timing.drain_seconds, cycle.read_issued_at - watch.stopped_at
    if waited < drain * (1 + CLOCK_RATE_BOUND):
        return None
    return Issued(slot_index, watch.incarnation, round(waited, 3), drain, Evidence.CONFIRMED)


def verdict(
    watch: Watch, slot_index: int, cycle: Cycle, heard_at: float | None, network_timeout_seconds: float, judge: Judge
) -> Issued | str:
    """The certificate, or why there is none yet. `heard_at` is when the last packet of that incarnation came."""
    if not watch.armed:
        return "it was not armed: no watchdog is bound to reset it, so nothing proves that its VMs have stopped"
    if why := objection(watch.required, watch.disks_digest, judge):
        return why
    silent = cycle.read_issued_at - watch.since
    bound = watch.bound_seconds
    # R_s - q would do; it costs one cycle at most.
    if silent < bound:
        return f"silent for {max(0.0, silent):.0f} s of {bound:g} s"
    if heard_at is not None and cycle.completed_at - heard_at <= network_timeout_seconds:
        return f"its packets still arrive ({cycle.completed_at - heard_at:.1f} s ago)"
    return Issued(slot_index, watch.incarnation, round(silent, 3), bound)


def _stopped_at(before: float | None, seen: Slot, at: float) -> float | None:
    if not (seen.stopped and seen.statement.phase is Phase.FENCING):
        return None
    return before if before is not None else at

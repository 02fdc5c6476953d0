"""A record in the evictor's own slot that puts one incarnation of another host out of the pool, and when that one is dead by it.

The evicted host may hold evidence from before the record was readable, none from after. So it has stopped R_e after the evictor's write
had completed; by its own published timing. Every survivor that reads a record adopts it and counts from its own write: the first evictor
may die.

* counted from the completion of the first own cycle that wrote the record and read it back;
* before each write the own slot is looked at: if the record was not there, or nobody can tell, it counts anew; and only from a cycle that
  began when no older write (one that failed, or one of the pulse before) could land any more on what carried it;
* only while its newest slot says that it is under its watchdog, and not once the same boot of its host has another incarnation: it may have
  been disarmed before it could read the record;
* only by one whose word the evicted host would need to live without storage: it has no longer given it since then; and on its disks;
* a host that still gives signs of life when R_e is over was not reset: its watchdog lies, and there is no certificate, but an alarm.
"""

from dataclasses import dataclass, replace

from quorate_core import certificate, slot
from quorate_core.certificate import Judge
from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.timing import TimingValues


@dataclass(frozen=True, slots=True)
class Eviction:
    """One record, with what the evicted host has published: its timing, and whose word it needs to live without storage. `since` is the
    completion of the cycle that first wrote the record and read it back, in own monotonic seconds; None before. `disks`: the digest of
    those on which it looks for records. `boot_id`: the boot of the evicted host; empty if it was not seen."""

    slot: int
    incarnation: int
    timing: TimingValues
    required: int = 0
    since: float | None = None
    disks_digest: int = 0
    boot_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Why an evicted incarnation that should be dead is not certified: a person must see to it."""

    slot: int
    incarnation: int
    why: str

    def sentence(self, host: str) -> str:
        """For the log and the HAHost of the one who says it, with the name of the evicted host."""
        return f"ALARM: {host}: {self.why}; power it off"


def of(index: int, seen: Slot) -> Eviction:
    """A new record of the host with that slot."""
    return Eviction(index, seen.statement.incarnation, seen.timing, seen.required, disks_digest=seen.disks_digest, boot_id=seen.boot_id)


def escaped(record: Eviction, seen: Slot) -> bool:
    """Whether the evicted incarnation was disarmed before it could read the record: by its newest slot, or because its host has come to
    another one without a reset. It may live on without a licence, and nothing is bound to reset it."""
    if seen.statement.incarnation != record.incarnation:
        return seen.boot_id == record.boot_id
    return not seen.was_armed


def doubt(record: Eviction, cycle: Cycle) -> Eviction:
    """The record when a cycle has ended, whatever it proved: counted anew if it did not stand there before, or nobody can tell."""
    before = None if cycle.error else slot.legible(cycle.found)
    stood = before is not None and (record.slot, record.incarnation) in before.evictions
    return record if stood or record.since is None else replace(record, since=None)


def confirm(record: Eviction, written: Slot, cycle: Cycle, *, settled: bool) -> Eviction:
    """The record after a cycle that was evidence and wrote `written`. It counts from one that was `settled`: that began when no older write
    could land any more on what carried it."""
    if record.since is not None or (record.slot, record.incarnation) not in written.evictions or not settled:
        return record
    return replace(record, since=cycle.completed_at)


def observe(record: Eviction, seen: Slot | None, me: Judge) -> Eviction:
    """The record after a read of the evicted host's slot: the longest timing that it has published binds us, and the newest of the
    rest. It counts anew while this host is not one of those whose slots the evicted one reads."""
    if seen is None or seen.statement.incarnation != record.incarnation:
        return record
    since = None if certificate.objection(seen.required, seen.disks_digest, me) else record.since
    longest = max(record.timing, seen.timing, key=lambda values: values.release_after_eviction_seconds)
    return replace(record, timing=longest, required=seen.required, disks_digest=seen.disks_digest, boot_id=seen.boot_id, since=since)


def verdict(record: Eviction, cycle: Cycle, last_sign_at: float | None, grace_seconds: float, judge: Judge) -> Issued | Alarm | str:
    """The certificate, or why there is none yet. `last_sign_at` is when the evicted incarnation last wrote or was heard; a sign within
    `grace_seconds` counts as life."""
    if why := certificate.objection(record.required, record.disks_digest, judge):
        return why
    if record.since is None:
        return "its eviction is not yet on the disk"
    bound = record.timing.release_after_eviction_seconds
    waited = round(cycle.read_issued_at - record.since, 3)
    if waited < bound:
        return f"evicted for {max(0.0, waited):.0f} s of {bound:g} s"
    if last_sign_at is not None and cycle.completed_at - last_sign_at <= grace_seconds:
        why = f"it still gives signs of life more than {bound:g} s after its eviction: its watchdog has not reset it"
        return Alarm(record.slot, record.incarnation, why)
    return Issued(record.slot, record.incarnation, waited, bound, Evidence.EVICTION)

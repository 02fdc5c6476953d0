"""The admission ledger: changes that were admitted but may not be visible in the API yet.

Without it two changes that are fine alone but not together would both pass: neither decision would see the other. Every
admitted change is written here before its request is answered, and every decision starts from `reserve(snapshot, ledger)`.
Pure: where the ledger is stored, and who reads the clock, is the controller's business.

The invariant: snapshot plus ledger never counts less than what was admitted. An entry may therefore leave only when one of
two things is certain.

1. *The snapshot counts it* (`Sight.COUNTED`): a started VM's launcher pod is bound, a ProtectedVM says Protected, and so on.
   Every later snapshot counts it too, or counts that it was undone. The snapshot must have been read after the entry was written
   (it could show the launcher pod of an earlier run), so no entry leaves in the turn that first sees it, and one that was
   admitted while the old launcher pod was still there stays for `RESTART_SECONDS`. A VM whose specification says "run" while its launcher
   pod is not bound yet (`Sight.SHOWN`) takes no memory in any snapshot, so its entry stays, however long that lasts.
2. *It can no longer come* (`Sight.UNSEEN` for longer than `PERSISTENCE_SECONDS`): the request may have failed after it was
   admitted, which nobody tells a webhook. The API server bounds every request, admission included, by its request timeout (60 s):
   after that the write it was admitted for cannot happen. The entry was written during that request, so whoever has had it in
   sight for 60 s *of its own monotonic clock* knows that the request is over; 30 s more cover a write that was already under
   way to the database and the time a snapshot takes to read. A new reaper starts counting anew: it may keep an entry
   too long, never too short. No clocks of two machines are compared.

A request that is sent again (the API server repeats a conflicting update, people repeat commands) replaces its own entry,
which starts a new age and keeps the host it had: the launcher pod of the first attempt may already be on its way there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from quorate_core.facts import Host, HostPhase, Protection, Snapshot, Vm

PERSISTENCE_SECONDS = 90.0
"""How long an unseen entry stays after the reaper first saw it; see the argument above."""

RESTART_SECONDS = 330.0
"""How long the entry of a restart stays: the old launcher pod may take its grace period to end (180 s by KubeVirt's templates), and
while it is bound nothing shows the new run. An entry of a VM that runs costs no memory."""


class ReservationKind(StrEnum):
    """What was admitted."""

    START = "Start"
    GROW = "Grow"
    PROTECT = "Protect"
    TOLERATE = "Tolerate"
    MAINTAIN = "Maintain"


class Sight(StrEnum):
    """How much of an admitted change a snapshot shows."""

    COUNTED = "Counted"
    SHOWN = "Shown"
    UNSEEN = "Unseen"


@dataclass(frozen=True, slots=True)
class Reservation:
    """One admitted change. `request` is the uid of the admission request; `subject` is a VM key, a host name, or the pool's name.

    `size_bytes` is what the VM will need in all, `hugepages_bytes` what it needs beside it (Start, Grow); `apart` as in `facts.Vm` (Start).
    `host` is where a starting VM is counted; `pinned` says that its launcher pod is to be kept there. `restart` says that the VM still
    had a launcher pod when its start was admitted, so that a bound pod proves nothing yet. `tolerate` is the wished number (Tolerate).
    """

    kind: ReservationKind
    subject: str
    request: str
    size_bytes: int = 0
    host: str | None = None
    pinned: bool = False
    restart: bool = False
    protection: Protection = Protection.UNPROTECTED
    priority: int = 0
    allowed: frozenset[str] | None = None
    tolerate: int = 0
    hugepages_bytes: int = 0
    apart: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if min(self.size_bytes, self.hugepages_bytes, self.tolerate) < 0:
            raise ValueError(f"reservation {self.kind} {self.subject}: sizes and numbers must not be negative")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of one pool; at most one of each kind per subject.

    `shown_at`: by kind of object, the resource version at which what left the ledger was counted. A reader who does not read afresh
    must have come so far: else it would miss an admitted change that is in the ledger no more.
    """

    entries: tuple[Reservation, ...] = ()
    shown_at: Mapping[str, int] = field(default_factory=dict)

    def find(self, kind: ReservationKind, subject: str) -> Reservation | None:
        """The entry of that kind for that subject, or None."""
        return next((e for e in self.entries if e.kind == kind and e.subject == subject), None)

    def add(self, new: Reservation) -> "Ledger":
        """The ledger with this entry. One for the same subject is replaced; the larger demand of both stays, since either may still win."""
        old = self.find(new.kind, new.subject)
        if old is None:
            return replace(self, entries=(*self.entries, new))
        merged = replace(
            new,
            size_bytes=max(new.size_bytes, old.size_bytes),
            tolerate=max(new.tolerate, old.tolerate),
            hugepages_bytes=max(new.hugepages_bytes, old.hugepages_bytes),
            apart=new.apart | old.apart,
        )
        if old.protection == Protection.PROTECTED:
            merged = replace(merged, protection=old.protection, priority=min(old.priority, new.priority))
        return replace(self, entries=tuple(merged if e is old else e for e in self.entries))

    def without(self, gone: Iterable[Reservation]) -> "Ledger":
        """The ledger without these entries; one that was replaced meanwhile (another request) stays."""
        dropped = frozenset(gone)
        return replace(self, entries=tuple(e for e in self.entries if e not in dropped))

    def shown(self, versions: Mapping[str, int]) -> "Ledger":
        """The ledger that says so of its readers; what it said before stays said."""
        return replace(self, shown_at={k: max(v, self.shown_at.get(k, 0)) for k, v in {**self.shown_at, **versions}.items()})


def reserve(snapshot: Snapshot, reservations: Iterable[Reservation]) -> Snapshot:
    """The snapshot as it will be when every reservation has come true. What it already counts is not counted twice."""
    hosts = {h.name: h for h in snapshot.hosts}
    vms = {v.key: v for v in snapshot.vms}
    pool = snapshot.pool
    for entry in reservations:
        match entry.kind:
            case ReservationKind.START:
                _start(entry, hosts, vms)
            case ReservationKind.GROW:
                _grow(entry, hosts, vms)
            case ReservationKind.PROTECT:
                if (vm := vms.get(entry.subject)) is not None and vm.protection != Protection.PROTECTED:
                    vms[vm.key] = replace(vm, protection=Protection.PROTECTED, priority=entry.priority)
            case ReservationKind.TOLERATE:
                pool = replace(pool, host_failures_to_tolerate=max(pool.host_failures_to_tolerate, entry.tolerate))
            case ReservationKind.MAINTAIN:
                if (host := hosts.get(entry.subject)) is not None:
                    hosts[host.name] = replace(
                        host,
                        accepts_vms=False,
                        leaving=True,
                        phase=HostPhase.MAINTENANCE,
                        why_not=host.why_not or "admitted for maintenance",
                    )
    return replace(snapshot, pool=pool, hosts=tuple(hosts.values()), vms=tuple(vms.values()))


def _start(entry: Reservation, hosts: dict[str, Host], vms: dict[str, Vm]) -> None:
    vm = vms.get(entry.subject)
    if vm is None:
        vm = Vm(key=entry.subject, size_bytes=entry.size_bytes, priority=entry.priority, allowed=entry.allowed)
    if entry.protection == Protection.PROTECTED:
        vm = replace(vm, protection=Protection.PROTECTED)
    if vm.host is None:
        at = entry.host if entry.host in hosts else None
        vm = replace(
            vm,
            should_run=True,
            host=at,
            size_bytes=max(vm.size_bytes, entry.size_bytes),
            hugepages_bytes=max(vm.hugepages_bytes, entry.hugepages_bytes),
            apart=vm.apart | entry.apart,
        )
        if at is not None:
            hosts[at] = _taken(hosts[at], vm.size_bytes, vm.hugepages_bytes)
    elif not vm.should_run:  # its old launcher pod is still ending
        vm = replace(vm, should_run=True)
    vms[vm.key] = vm


def _grow(entry: Reservation, hosts: dict[str, Host], vms: dict[str, Vm]) -> None:
    vm = vms.get(entry.subject)
    if vm is None or (vm.size_bytes >= entry.size_bytes and vm.hugepages_bytes >= entry.hugepages_bytes):
        return
    grown = replace(vm, size_bytes=max(vm.size_bytes, entry.size_bytes), hugepages_bytes=max(vm.hugepages_bytes, entry.hugepages_bytes))
    if vm.host is not None and (host := hosts.get(vm.host)) is not None:
        hosts[host.name] = _taken(host, grown.size_bytes - vm.size_bytes, grown.hugepages_bytes - vm.hugepages_bytes)
    vms[vm.key] = grown


def _taken(host: Host, size_bytes: int, hugepages_bytes: int) -> Host:
    return replace(host, used_bytes=host.used_bytes + size_bytes, used_hugepages_bytes=host.used_hugepages_bytes + hugepages_bytes)


def sight(entry: Reservation, snapshot: Snapshot) -> Sight:
    """How much of the entry a snapshot *without reservations* shows."""
    match entry.kind:
        case ReservationKind.START:
            return _sight_of_start(entry, snapshot.vm(entry.subject))
        case ReservationKind.GROW:
            vm = snapshot.vm(entry.subject)
            counted = vm is not None and vm.size_bytes >= entry.size_bytes and vm.hugepages_bytes >= entry.hugepages_bytes
        case ReservationKind.PROTECT:
            vm = snapshot.vm(entry.subject)
            counted = vm is not None and vm.protection == Protection.PROTECTED
        case ReservationKind.TOLERATE:
            counted = snapshot.pool.host_failures_to_tolerate >= entry.tolerate
        case ReservationKind.MAINTAIN:
            host = snapshot.host(entry.subject)
            counted = host is None or not host.accepts_vms
    return Sight.COUNTED if counted else Sight.UNSEEN


def _sight_of_start(entry: Reservation, vm: Vm | None) -> Sight:
    if vm is None:
        return Sight.UNSEEN
    if entry.protection == Protection.PROTECTED and vm.protection != Protection.PROTECTED:
        return Sight.SHOWN if vm.should_run and vm.host is None else Sight.UNSEEN
    if vm.host is not None:
        return Sight.COUNTED
    return Sight.SHOWN if vm.should_run else Sight.UNSEEN


@dataclass(frozen=True, slots=True)
class Ages:
    """What the reaper remembers between its turns: when, on its own monotonic clock, it first saw each entry (by request and kind)."""

    first_seen_seconds: Mapping[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reaping:
    """The verdict of one turn: what may leave and why, in words."""

    ages: Ages
    gone: tuple[Reservation, ...] = ()
    why: tuple[str, ...] = ()


def reap(ages: Ages, ledger: Ledger, snapshot: Snapshot, monotonic_seconds: float) -> Reaping:
    """Which entries may leave. `snapshot` holds no reservations and was read after `monotonic_seconds` and after the turn of `ages`."""
    first_seen: dict[tuple[str, str, str], float] = {}
    gone: list[Reservation] = []
    why: list[str] = []
    for entry in ledger.entries:
        key = (entry.request, entry.kind.value, entry.subject)
        since = ages.first_seen_seconds.get(key, monotonic_seconds)
        age_seconds = monotonic_seconds - since
        seen = sight(entry, snapshot)
        earlier = key in ages.first_seen_seconds
        if seen is Sight.COUNTED and earlier and (not entry.restart or age_seconds > RESTART_SECONDS):
            gone.append(entry)
            why.append(f"{entry.kind} {entry.subject}: seen in the cluster")
        elif seen is Sight.UNSEEN and age_seconds > PERSISTENCE_SECONDS:
            gone.append(entry)
            why.append(f"{entry.kind} {entry.subject}: not seen for {age_seconds:.0f} s, its request can no longer succeed")
        else:
            first_seen[key] = since
    return Reaping(Ages(first_seen), tuple(gone), tuple(why))

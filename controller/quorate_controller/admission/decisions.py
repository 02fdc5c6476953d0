"""The decision on one change: a snapshot with all reservations in, an answer out. Pure, and the only place that says no.

Decides on the *achieved* number k = min(wish, proven number now), as XenServer does: a change is refused only if a plan for k
exists now and would be gone after it. Where no plan exists, nothing can be made worse. What cannot be proven counts as no.
"""

from dataclasses import dataclass, replace
from typing import assert_never

import quorate_planner as planner
from quorate_controller.admission import messages
from quorate_controller.admission.proofs import Proofs
from quorate_controller.admission.requests import OVERRIDE
from quorate_core.facts import Host, OvercommitPolicy, Protection, Snapshot, Vm
from quorate_core.ledger import Reservation, ReservationKind


@dataclass(frozen=True, slots=True)
class Allow:
    """The change may happen; what it will take is reserved."""

    warnings: tuple[str, ...] = ()
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """The change may not happen, and why, for people."""

    message: str


Verdict = Allow | Refuse


@dataclass(frozen=True, slots=True)
class Start:
    """A VM starts. `vm` is what it will be."""

    vm: Vm


@dataclass(frozen=True, slots=True)
class Grow:
    """A VM's memory or constraints change. `vm` is what it will be."""

    vm: Vm


@dataclass(frozen=True, slots=True)
class Protect:
    """A VM becomes protected. `vm` is what it will be."""

    vm: Vm


@dataclass(frozen=True, slots=True)
class Stop:
    """A person stops or deletes a VM."""

    key: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Tolerate:
    """The pool's wish is raised."""

    number: int


@dataclass(frozen=True, slots=True)
class Maintain:
    """A host leaves for maintenance."""

    host: str
    may_lower: bool


Change = Start | Grow | Protect | Stop | Tolerate | Maintain


@dataclass(frozen=True, slots=True)
class Asked:
    """A change with what the answer needs besides: whose request, which object, and whether the person insists."""

    request: str
    subject: str
    change: Change
    override: bool = False
    exists: bool = True


def achieved(snapshot: Snapshot, proofs: Proofs | None = None) -> int | None:
    """k: the number of failures that a plan covers now, at most the wish. None: not even the VMs that wait now have a place."""
    wish = snapshot.pool.host_failures_to_tolerate
    if proofs.achieved(snapshot, wish) if proofs is not None else planner.holds(snapshot, wish):
        return wish
    plan = planner.plan(snapshot)
    return min(wish, plan.lower) if plan.waiting_placed else None


def decide(asked: Asked, snapshot: Snapshot, proofs: Proofs | None = None) -> Verdict:
    """The answer to one change. `snapshot` contains every reservation made before; `proofs` remembers what was proven last."""
    proofs = proofs or Proofs()
    if not snapshot.pool.armed:
        return Allow((messages.disarmed(snapshot),))
    snapshot = _drained(snapshot, proofs)
    change = asked.change
    match change:
        case Start():
            verdict = _start(asked, change.vm, snapshot, proofs)
        case Grow():
            verdict = _grow(asked, change.vm, snapshot, proofs)
        case Protect():
            verdict = _protect(asked, change.vm, snapshot, proofs)
        case Stop():
            verdict = _stop(change, snapshot)
        case Tolerate():
            verdict = _tolerate(asked, change.number, snapshot, proofs)
        case Maintain():
            verdict = _maintain(asked, change, snapshot, proofs)
        case _:
            assert_never(change)
    return verdict if isinstance(verdict, Allow) else _softened(verdict, asked, snapshot)


def _drained(snapshot: Snapshot, proofs: Proofs) -> Snapshot:
    """The pool without the hosts that were admitted for maintenance: what comes next must go with all of their VMs elsewhere, or two
    maintenances that are fine alone would both be let in. As it is, where those VMs have no place elsewhere anyway."""
    leaving = [host.name for host in snapshot.hosts if host.leaving]
    after = snapshot
    for name in leaving:
        after = planner.apply(after, planner.WithoutHost(name))
    return after if leaving and achieved(after, proofs) is not None else snapshot


def _softened(refusal: Refuse, asked: Asked, snapshot: Snapshot) -> Verdict:
    """The refusal as a warning where the person insists or the pool only warns."""
    if asked.override:
        why = f"{asked.subject} has the annotation {OVERRIDE}"
    elif snapshot.pool.overcommit_policy is OvercommitPolicy.WARN and not isinstance(asked.change, Stop):
        why = f"pool {snapshot.pool.name} has overcommitPolicy Warn"
    else:
        return Refuse(f"{refusal.message} {messages.how_to_override(asked.subject, asked.exists)}")
    return Allow((messages.allowed_anyway(refusal.message, why),), _taken_anyway(asked, snapshot))


def _taken_anyway(asked: Asked, snapshot: Snapshot) -> tuple[Reservation, ...]:
    """What a change takes that was allowed without a plan: it still counts against the next ones."""
    match asked.change:
        case Start(vm):
            host = _roomiest(vm, snapshot)
            return (_reserved_start(asked, vm, host.name if host else None, pinned=False),)
        case Grow(vm):
            return (_reserved_growth(asked, vm),)
        case Protect(vm):
            return (_reserved_protection(asked, vm),)
        case Tolerate(number):
            return (Reservation(ReservationKind.TOLERATE, snapshot.pool.name, asked.request, tolerate=number),)
        case Maintain(host=name):
            return (Reservation(ReservationKind.MAINTAIN, name, asked.request),)
        case Stop():
            return ()


def _start(asked: Asked, vm: Vm, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    present = snapshot.vm(vm.key)
    if present is not None and present.protection is Protection.PROTECTED and vm.protection is not Protection.PROTECTED:
        # Its protection was admitted a moment ago; whoever looked at the request could not see it yet.
        vm = replace(vm, protection=present.protection, priority=present.priority)
    if vm.protection is Protection.PROTECTED and (ties := _ties(vm)):
        return Refuse(messages.not_agile(vm, ties))
    if present is not None and present.host is not None:
        return _start_again(asked, vm, present, snapshot, proofs)
    k = achieved(snapshot, proofs)
    if k is None:
        return Allow((messages.no_plan_now(snapshot),), _taken_anyway(asked, snapshot))
    # NB: the planner keeps a VM that is not agile to its own host; an unprotected one may start wherever its constraints let it.
    host = proofs.start_host(snapshot, vm if vm.protection is Protection.PROTECTED else replace(vm, not_agile=()), k)
    if host is not None:
        return Allow((), (_reserved_start(asked, vm, host, pinned=True),))
    best = _roomiest(vm, snapshot)
    if best is None:
        waits = messages.fits_nowhere(vm, snapshot)
        # Where nothing is protected there is no promise to break: the VM may wait, as on any cluster.
        return Refuse(waits) if any(v.protection is Protection.PROTECTED for v in (vm, *snapshot.vms)) else Allow((f"Quorate: {waits}",))
    rest = planner.apply(snapshot, planner.RemoveVm(vm.key)) if present is not None else snapshot
    after = planner.plan(planner.apply(rest, planner.AddVm(replace(vm, host=best.name, should_run=True))))
    what = f"Starting VirtualMachine {vm.key} ({messages.gib(vm.size_bytes)})"
    return Refuse(messages.would_break(what, snapshot, k, after, f" (on {best.name}, where most memory is free)"))


def _start_again(asked: Asked, vm: Vm, present: Vm, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    """A VM that has its place already: a restart, or a request that is repeated. It keeps that place."""
    kept = replace(_reserved_start(asked, vm, present.host, pinned=True), restart=True)
    verdict = _grow(asked, vm, snapshot, proofs)
    counted = present.should_run and present.protection is Protection.PROTECTED
    if isinstance(verdict, Allow) and vm.protection is Protection.PROTECTED and not counted:
        # No plan counts it now: it was stopped and its pod is still ending, or it was not protected. Others may have been admitted since.
        sizes = max(vm.size_bytes, present.size_bytes), max(vm.hugepages_bytes, present.hugepages_bytes)
        grown = planner.apply(snapshot, planner.GrowVm(vm.key, *sizes))
        runs = replace(present, size_bytes=sizes[0], hugepages_bytes=sizes[1], should_run=True, protection=Protection.UNPROTECTED)
        before = replace(grown, vms=tuple(runs if v.key == vm.key else v for v in grown.vms))
        verdict = _protect(asked, vm, before, proofs)
    return verdict if isinstance(verdict, Refuse) else Allow(verdict.warnings, (kept, *verdict.reservations))


def _grow(asked: Asked, vm: Vm, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    present = snapshot.vm(vm.key)
    if present is None or not grows(vm, present):
        return Allow()
    if present.host is None:
        return _start(asked, vm, snapshot, proofs) if present.should_run else Allow()
    k = achieved(snapshot, proofs)
    if k is None:
        return Allow((messages.no_plan_now(snapshot),), _taken_anyway(asked, snapshot))
    host = snapshot.host(present.host)
    room = max(0, host.allocatable_bytes - host.used_bytes) if host is not None else 0
    if vm.size_bytes - present.size_bytes > room:
        return Refuse(messages.grows_past_its_host(present, vm.size_bytes, room))
    pages = max(0, host.allocatable_hugepages_bytes - host.used_hugepages_bytes) if host is not None else 0
    if vm.hugepages_bytes - present.hugepages_bytes > pages:
        return Refuse(messages.hugepages_past_its_host(present, vm.hugepages_bytes, pages))
    more = max(vm.size_bytes, present.size_bytes), max(vm.hugepages_bytes, present.hugepages_bytes)
    grown = planner.apply(snapshot, planner.GrowVm(vm.key, *more))
    if proofs.holds(grown, k):
        return Allow((), (_reserved_growth(asked, vm),))
    what = f"Growing VirtualMachine {vm.key} from {messages.gib(present.size_bytes)} to {messages.gib(vm.size_bytes)}"
    return Refuse(messages.would_break(what, snapshot, k, planner.plan(grown)))


def _protect(asked: Asked, vm: Vm, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    if ties := _ties(vm):
        return Refuse(messages.not_agile(vm, ties))
    present = snapshot.vm(vm.key)
    if present is not None and present.protection is Protection.PROTECTED:
        return Allow()
    reserved = (_reserved_protection(asked, vm),)
    if present is None or not present.should_run:
        return Allow((), reserved)
    k = achieved(snapshot, proofs)
    if k is None:
        return Allow((messages.no_plan_now(snapshot),), reserved)
    after = planner.apply(snapshot, planner.SetProtection(vm.key, Protection.PROTECTED, vm.priority))
    if proofs.holds(after, k):
        return Allow((), reserved)
    what = f"Protecting VirtualMachine {vm.key} ({messages.gib(vm.size_bytes)})"
    return Refuse(messages.would_break(what, snapshot, k, planner.plan(after)))


def _ties(vm: Vm) -> tuple[str, ...]:
    """Why there is no second host for a VM. One that is off and may run on one host only is not tied yet, but will be once it runs."""
    if vm.not_agile or vm.allowed is None or len(vm.allowed) > 1:
        return vm.not_agile
    return (f"only {next(iter(vm.allowed))} may run it" if vm.allowed else "no host of the pool may run it",)


def _stop(change: Stop, snapshot: Snapshot) -> Verdict:
    vm = snapshot.vm(change.key)
    if vm is None or vm.protection is not Protection.PROTECTED:
        return Allow()
    return Refuse(messages.protected_stays(vm.key, change.deleted))


def _tolerate(asked: Asked, number: int, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    if number <= snapshot.pool.host_failures_to_tolerate:
        return Allow()
    if proofs.holds(snapshot, number):
        return Allow((), (Reservation(ReservationKind.TOLERATE, snapshot.pool.name, asked.request, tolerate=number),))
    return Refuse(messages.above_maximum(snapshot, number, planner.plan(snapshot, tolerate=number)))


def _maintain(asked: Asked, change: Maintain, snapshot: Snapshot, proofs: Proofs) -> Verdict:
    host = snapshot.host(change.host)
    if host is None or not host.accepts_vms:
        return Allow()
    k = achieved(snapshot, proofs)
    reserved = (Reservation(ReservationKind.MAINTAIN, host.name, asked.request),)
    if k is None:
        return Allow((messages.no_plan_now(snapshot),), reserved)
    after = planner.apply(snapshot, planner.WithoutHost(host.name))
    if proofs.holds(after, k):
        return Allow((), reserved)
    if change.may_lower and k > 1 and proofs.holds(after, k - 1):
        return Allow((f"Quorate: while {host.name} is in maintenance the plan covers {messages.failures(k - 1)} instead of {k}",), reserved)
    what = f"Maintenance of HAHost {host.name}"
    hint = " maintenancePolicy LowerTolerance would allow one failure less." if not change.may_lower and k > 1 else ""
    return Refuse(messages.would_break(what, snapshot, k, planner.plan(after), " (its protected VMs placed elsewhere)") + hint)


def grows(vm: Vm, present: Vm) -> bool:
    """Whether what a VM will be takes more than what it is."""
    return vm.size_bytes > present.size_bytes or vm.hugepages_bytes > present.hugepages_bytes


def _roomiest(vm: Vm, snapshot: Snapshot) -> Host | None:
    fitting = [h for h in snapshot.hosts if planner.usable_for(snapshot, replace(vm, not_agile=()), h)]
    return max(fitting, key=lambda host: (host.free_bytes, host.name), default=None)


def _reserved_start(asked: Asked, vm: Vm, host: str | None, *, pinned: bool) -> Reservation:
    return Reservation(
        ReservationKind.START,
        vm.key,
        asked.request,
        size_bytes=vm.size_bytes,
        host=host,
        pinned=pinned,
        protection=vm.protection,
        priority=vm.priority,
        allowed=vm.allowed,
        hugepages_bytes=vm.hugepages_bytes,
        apart=vm.apart,
    )


def _reserved_growth(asked: Asked, vm: Vm) -> Reservation:
    return Reservation(ReservationKind.GROW, vm.key, asked.request, size_bytes=vm.size_bytes, hugepages_bytes=vm.hugepages_bytes)


def _reserved_protection(asked: Asked, vm: Vm) -> Reservation:
    return Reservation(ReservationKind.PROTECT, vm.key, asked.request, protection=Protection.PROTECTED, priority=vm.priority)

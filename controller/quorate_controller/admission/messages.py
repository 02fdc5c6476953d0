"""What admission says to people: every refusal names what would break, the numbers before and after, and how to go on anyway."""

from collections.abc import Sequence

from quorate_controller.admission.requests import OVERRIDE
from quorate_core.facts import Snapshot, Vm
from quorate_planner import Plan

_GIB = 1 << 30
_SHORT = {"VirtualMachine": "vm", "ProtectedVM": "pvm", "HAPool": "hap", "HAHost": "hah"}


def gib(size_bytes: int) -> str:
    """Bytes as GiB for people."""
    return f"{size_bytes / _GIB:.1f} GiB"


def failures(number: int) -> str:
    """A number of host failures, in words."""
    return "1 host failure" if number == 1 else f"{number} host failures"


def override(subject: str) -> str:
    """How to do it anyway. `subject` is kind and name, as in `VirtualMachine ns/name`."""
    kind, _, name = subject.partition(" ")
    namespace, _, plain = name.rpartition("/")
    where = f" -n {namespace}" if namespace else ""
    return f"To do it anyway: kubectl annotate {_SHORT.get(kind, kind.lower())} {plain}{where} {OVERRIDE}=true, and repeat."


def how_to_override(subject: str, exists: bool) -> str:
    """The same for an object that is being created: it has no annotations yet."""
    return override(subject) if exists else f'To do it anyway: give it the annotation {OVERRIDE}: "true".'


def would_break(what: str, snapshot: Snapshot, before: int, after: Plan, where: str = "") -> str:
    """The change leaves no plan. `what` is the change in words, `where` what was assumed about it."""
    witness = after.witness
    number = min(after.lower, after.host_failures_to_tolerate) if after.waiting_placed else None
    then = "VMs that should run would have no place" if number is None else f"the plan would cover {failures(number)}"
    proof = "" if after.exact else f" for certain and at most {after.upper}"
    if after.upper >= before:
        proof += f" (that {failures(before)} would still be covered was not proven in time, which counts as no)"
    lost = ""
    if witness is not None:
        named = ", ".join(witness.unplaceable[:3]) + (f" and {len(witness.unplaceable) - 3} more" if len(witness.unplaceable) > 3 else "")
        if witness.failed_hosts:
            lost = f": if {_list(witness.failed_hosts)} failed, {named or 'a protected VM'} would not fit anywhere"
        else:
            lost = f": {named or 'a protected VM'} would not fit anywhere"
    return (
        f"{what} would break the failover plan of pool {snapshot.pool.name}. The plan covers {failures(before)} now; "
        f"after this{where} {then}{proof}{lost}."
    )


def fits_nowhere(vm: Vm, snapshot: Snapshot) -> str:
    """No host has the memory for a VM that is to start, or each is closed to it by a VM that must not be beside it."""
    usable = [host for host in snapshot.hosts if vm.may_run_on(host.name)]
    most = max(usable, key=lambda host: (host.free_bytes, host.name), default=None)
    if most is None:
        return f"VirtualMachine {vm.key}: no host of pool {snapshot.pool.name} may run it{_why(vm.not_agile)}."
    roomy = [host for host in usable if host.accepts_vms and host.has_room_for(vm)]
    if roomy:
        other = snapshot.beside(vm, roomy[0].name)
        where = f"{other.key} on {roomy[0].name}" if other is not None else "not even one that has room"
        return f"VirtualMachine {vm.key}: each host with room for it runs a VM that it must not share a host with ({where})."
    if most.free_bytes >= vm.size_bytes and vm.hugepages_bytes:
        pages = max(usable, key=lambda host: (host.free_hugepages_bytes, host.name))
        return (
            f"VirtualMachine {vm.key} needs {gib(vm.size_bytes)} and {gib(vm.hugepages_bytes)} of hugepages, but no host of pool "
            f"{snapshot.pool.name} that may run it has both free: {pages.name} has most hugepages, {gib(pages.free_hugepages_bytes)}."
        )
    return (
        f"VirtualMachine {vm.key} needs {gib(vm.size_bytes)}, but no host of pool {snapshot.pool.name} that may run it has so much free: "
        f"{most.name} has most, {gib(most.free_bytes)}."
    )


def grows_past_its_host(vm: Vm, size_bytes: int, free_bytes: int) -> str:
    """A running VM's new memory does not fit on its host."""
    return (
        f"VirtualMachine {vm.key}: spec.template.spec.domain: it grows from {gib(vm.size_bytes)} to {gib(size_bytes)}, "
        f"but its host {vm.host} has only {gib(free_bytes)} free."
    )


def hugepages_past_its_host(vm: Vm, size_bytes: int, free_bytes: int) -> str:
    """A running VM's new hugepages do not fit on its host."""
    return (
        f"VirtualMachine {vm.key}: spec.template.spec.domain: its hugepages grow from {gib(vm.hugepages_bytes)} to {gib(size_bytes)}, "
        f"but its host {vm.host} has only {gib(free_bytes)} of them free."
    )


def not_agile(vm: Vm, reasons: Sequence[str]) -> str:
    """A VM that can run nowhere else cannot be protected."""
    return (
        f"VirtualMachine {vm.key} cannot be protected: it cannot be started on another host{_why(reasons)}. "
        "Choose protection BestEffort for it, or remove what ties it to one host."
    )


def above_maximum(snapshot: Snapshot, wish: int, plan: Plan) -> str:
    """The wished number is more than the pool can tolerate."""
    most = f"at most {failures(plan.lower)}" if plan.exact else f"{failures(plan.lower)} for certain and at most {plan.upper}"
    lost = ""
    if plan.witness is not None and plan.witness.failed_hosts:
        lost = (
            f": if {_list(plan.witness.failed_hosts)} failed, {', '.join(plan.witness.unplaceable[:3]) or 'a protected VM'} would not fit"
        )
    return (
        f"HAPool {snapshot.pool.name}: spec.hostFailuresToTolerate: {wish} is above the maximum. The pool tolerates {most} now{lost}; "
        f"the present wish is {snapshot.pool.host_failures_to_tolerate}."
    )


def protected_stays(vm: str, deleted: bool) -> str:
    """A protected VM is not stopped or deleted by a person."""
    return (
        f"VirtualMachine {vm} is protected, so it is not {'deleted' if deleted else 'stopped'}: unprotect it first "
        f"(quorate unprotect {vm}, or set its protection to Unprotected)."
    )


def disarmed(snapshot: Snapshot) -> str:
    """Nothing is checked while the pool does not restart VMs."""
    return f"Quorate: pool {snapshot.pool.name} is not armed; this change was not checked against a failover plan"


def no_plan_now(snapshot: Snapshot) -> str:
    """There is nothing left to protect from this change."""
    return (
        f"Quorate: pool {snapshot.pool.name} has no failover plan at present (protected VMs wait for a place); this change was not refused"
    )


def allowed_anyway(refusal: str, why: str) -> str:
    """A refusal that was overridden, as a warning."""
    return f"Quorate: allowed because {why}: {refusal}"


def undecided(why: str) -> str:
    """Nothing could be proven in time, which counts as no."""
    return f"Quorate could not decide on this change ({why}), so it is refused; try again."


def _why(reasons: Sequence[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

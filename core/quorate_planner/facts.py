"""From what is known of a pool to its planning problem.

Only protected VMs that should run are VMs of the problem. Everything else that runs is memory already used, and never moves.
"""

from quorate_core.facts import Protection, Snapshot, Vm
from quorate_planner.problem import Problem, ProblemHost, ProblemVm


def problem_of(snapshot: Snapshot, *, tolerate: int | None = None) -> Problem:
    """The planning problem of a snapshot; `tolerate` replaces the pool's wish. A VM on a host that is not there counts as off."""
    names = frozenset(host.name for host in snapshot.hosts)
    by_domain = snapshot.pool.failure_domain_key is not None
    return Problem(
        tuple(ProblemHost(host.name, host.free_bytes, host.domain if by_domain else None) for host in snapshot.hosts),
        tuple(planned(vm, names) for vm in snapshot.vms if vm.protection is Protection.PROTECTED and vm.should_run),
        wish=snapshot.pool.host_failures_to_tolerate if tolerate is None else tolerate,
        pool=snapshot.pool.name,
    )


def planned(vm: Vm, names: frozenset[str]) -> ProblemVm:
    """A VM as the planner sees it among hosts of these names. What is not agile may run only where it is."""
    host = vm.host if vm.host in names else None
    allowed = vm.allowed
    if vm.not_agile:
        allowed = frozenset() if vm.host is None and allowed is None else frozenset({vm.host} if vm.host is not None else allowed or ())
    if allowed is not None and not allowed <= names:
        allowed &= names
    return ProblemVm(vm.key, max(1, vm.size_bytes), host, allowed, vm.priority)

"""From what is known of a pool to its planning problem.

Only protected VMs that should run are VMs of the problem. Everything else that runs is memory already used, and never moves; a host where
an unprotected VM runs is closed to the VMs that must not be beside it.
"""

from collections.abc import Mapping
from dataclasses import replace

from quorate_core.facts import Protection, Snapshot, Vm
from quorate_planner.problem import Problem, ProblemHost, ProblemVm

Taken = Mapping[str, frozenset[str]]
"""By label of `apart`: hosts where a VM with that label runs which is not a VM of the problem, or a pod that is no VM."""


def problem_of(snapshot: Snapshot, *, tolerate: int | None = None) -> Problem:
    """The planning problem of a snapshot; `tolerate` replaces the pool's wish. A VM on a host that is not there counts as off."""
    names = frozenset(host.name for host in snapshot.hosts)
    by_domain = snapshot.pool.failure_domain_key is not None
    beside = taken(snapshot)
    return Problem(
        tuple(
            ProblemHost(host.name, host.free_bytes, host.domain if by_domain else None, host.free_hugepages_bytes)
            for host in snapshot.hosts
        ),
        tuple(planned(vm, names, beside) for vm in snapshot.vms if counts(vm)),
        wish=snapshot.pool.host_failures_to_tolerate if tolerate is None else tolerate,
        pool=snapshot.pool.name,
    )


def counts(vm: Vm) -> bool:
    """Whether it is a VM of the problem."""
    return vm.protection is Protection.PROTECTED and vm.should_run


def taken(snapshot: Snapshot) -> Taken:
    """Where labels are taken by what is not planned for."""
    found: dict[str, set[str]] = {}
    for host in snapshot.hosts:
        for label in host.apart:
            found.setdefault(label, set()).add(host.name)
    for vm in snapshot.vms:
        if vm.apart and vm.host is not None and not counts(vm):
            for label in vm.apart:
                found.setdefault(label, set()).add(vm.host)
    return {label: frozenset(hosts) for label, hosts in found.items()}


def tried(vm: Vm) -> Vm:
    """A VM that has lost its host, as it is placed: one that nothing was promised to is tried if only uncounted rules are against it."""
    return replace(vm, not_agile=()) if vm.tried_anyway else vm


def planned(vm: Vm, names: frozenset[str], beside: Taken | None = None) -> ProblemVm:
    """A VM as the planner sees it among hosts of these names. What is not agile may run only where it is."""
    host = vm.host if vm.host in names else None
    allowed = vm.allowed
    if vm.not_agile:
        allowed = frozenset() if vm.host is None and allowed is None else frozenset({vm.host} if vm.host is not None else allowed or ())
    if beside and vm.apart:
        closed = frozenset[str]().union(*(beside.get(label, frozenset()) for label in vm.apart)) - {host}
        if closed:
            allowed = (names if allowed is None else allowed) - closed
    if allowed is not None and not allowed <= names:
        allowed &= names
    return ProblemVm(vm.key, max(1, vm.size_bytes), host, allowed, vm.priority, vm.hugepages_bytes, vm.apart)

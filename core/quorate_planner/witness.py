"""The witness of an upper bound: hosts whose failure no plan survives, and VMs that are left without a place, in words."""

from bisect import bisect_left, insort
from dataclasses import dataclass

from quorate_planner import bounds, tally
from quorate_planner.problem import Problem

UNPLACEABLE_NAMED = 16
"""A witness names at most so many VMs."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Hosts whose failure leaves VMs without a place: all at once, or in that order where `reason` says so. No hosts: VMs that wait now
    have none as it is.

    `unplaceable` are the VMs left over when the others are placed; another choice may leave others, but never none.
    """

    failed_hosts: tuple[str, ...]
    unplaceable: tuple[str, ...]
    reason: str


def witness_of(problem: Problem, counted: tally.Tally, ceiling: bounds.Ceiling) -> Witness:
    """The ceiling of the problem as a witness."""
    failed = frozenset(name for name, group in zip(counted.names, counted.group, strict=True) if group in ceiling.breaking)
    left = _left_over(problem, failed)
    names = ", ".join(sorted(failed))
    if not failed:
        reason = f"VMs that wait to be started have no place as it is: {ceiling.why}"
    else:
        reason = (
            f"if {names} {'fails' if len(failed) == 1 else 'fail'}, {left[0] if left else 'a VM'} cannot be started again: {ceiling.why}"
        )
    return Witness(tuple(sorted(failed)), tuple(left[:UNPLACEABLE_NAMED]), reason)


def _left_over(problem: Problem, failed: frozenset[str]) -> list[str]:
    """VMs without a place when each in turn takes the tightest host: by priority, then the largest first."""
    room = sorted((host.free, host.name) for host in problem.hosts if host.name not in failed)
    moving = sorted((vm for vm in problem.vms if vm.host is None or vm.host in failed), key=lambda vm: (vm.priority, -vm.size, vm.name))
    left = []
    for vm in moving:
        at = bisect_left(room, (vm.size, ""))
        while at < len(room) and vm.allowed is not None and room[at][1] not in vm.allowed:
            at += 1
        if at == len(room):
            left.append(vm.name)
        else:
            free, name = room.pop(at)
            insort(room, (free - vm.size, name))
    return left

"""What VMs take of their zones, in blocks or in bytes: between a certificate and the layout that is kept. Decides nothing."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quorate_core.layout import LaidZone, Layout
from quorate_planner.certificate import Certificate
from quorate_planner.problem import Problem

ROUNDING_ALIKE = 0.02
"""Zones that round a VM by so little more than the best are equally good homes for it."""


def layout_of(problem: Problem, certificate: Certificate) -> Layout:
    """The certificate in the form that is kept: each zone's memory with its VMs that run there, or lists and no zones."""
    if certificate.lists:
        return Layout(lists=certificate.lists)
    memory = [dict(zone.memory) for zone in certificate.zones]
    for vm in problem.vms:
        at = certificate.bind.get(vm.name)
        if at is not None and vm.host is not None:
            zone = certificate.zones[at]
            memory[at][vm.host] = memory[at].get(vm.host, 0) + rounded(zone.chain, vm.size, zone.hugepages, vm.hugepages)
    zones = tuple(LaidZone(zone.chain, kept, zone.hugepages) for zone, kept in zip(certificate.zones, memory, strict=True))
    return Layout(zones, dict(certificate.bind))


def level_of(chain: tuple[int, ...], size: int, beside: tuple[int, ...] | None = None, hugepages: int = 0) -> int:
    """The level of the smallest block that holds so much memory, and so many bytes of hugepages beside it; len(chain) if none does."""
    level = bisect_left(chain, size)
    if not hugepages:
        return level
    return len(chain) if beside is None else max(level, bisect_left(beside, hugepages))


def rounded(chain: tuple[int, ...] | None, size: int, beside: tuple[int, ...] | None = None, hugepages: int = 0) -> int:
    """What a VM takes of its zone, in bytes of memory."""
    if chain is None:
        return size
    level = level_of(chain, size, beside, hugepages)
    return chain[level] if level < len(chain) else -(-size // chain[-1]) * chain[-1]


def zones_of_groups(chains: Sequence[tuple[int, ...] | None], bind: Mapping[str, int], groups: Mapping[str, int]) -> list[int | None]:
    """For each zone the group of VMs kept apart that it belongs to, if any: that of one block size in which most of the group are."""
    votes: dict[tuple[int, int], int] = {}
    for name, group in groups.items():
        at = bind.get(name, -1)
        if 0 <= at < len(chains) and len(chains[at] or ()) == 1:
            votes[(group, at)] = votes.get((group, at), 0) + 1
    only: list[int | None] = [None] * len(chains)
    for (group, at), _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if group not in only and only[at] is None:
            only[at] = group
    return only


@dataclass(slots=True)
class Load:
    """VMs of one kind in an any zone, in bytes: those on each host, those that wait, and how many there are of each size."""

    own: list[int]
    off: int = 0
    sizes: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "Load":
        return Load(list(self.own), self.off, dict(self.sizes))

    def count(self, size: int, host: int | None, times: int) -> None:
        if host is None:
            self.off += size * times
        else:
            self.own[host] += size * times
        self.sizes[size] = self.sizes.get(size, 0) + times
        if not self.sizes[size]:
            del self.sizes[size]

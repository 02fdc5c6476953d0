"""A problem counted once: what every bound reads, so that none of them walks over single VMs.

A *group* is what fails at once: a host, or all hosts of a failure domain. A *kind* is the set of hosts a VM may be started on;
VMs that may use every host with free memory share the kind None. This module counts and decides nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from quorate_planner.problem import Problem, ProblemVm

Kind = frozenset[int] | None
"""Hosts, by index, that a VM may be started on; None means that no host with free memory is closed to it."""

Counts = Mapping[int, int]
"""VM size in bytes -> number of VMs of that size."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Hosts are indices into `names`; `group[i]` is the failure group of host i.

    `own[kind][i]` counts the protected VMs on host i, `off[kind]` those that wait to be placed first. `extras`: some of them need
    hugepages or must not share a host, which is not counted here: bounds from above hold, those from below must answer "nothing".
    """

    names: tuple[str, ...]
    free: tuple[int, ...]
    group: tuple[int, ...]
    groups: int
    own: Mapping[Kind, tuple[Counts, ...]]
    off: Mapping[Kind, Counts]
    sizes: tuple[int, ...]
    extras: bool = False

    def keyed(self, vms: Iterable[ProblemVm]) -> Iterator[tuple[ProblemVm, tuple[Kind, int, int | None]]]:
        """Each of these VMs of the problem, and where it is counted: its kind, size and host."""
        index = self.index
        useful = frozenset(i for i, free in enumerate(self.free) if free > 0)
        kinds: dict[frozenset[str] | None, Kind] = {}
        for vm in vms:
            if vm.allowed not in kinds:
                kinds[vm.allowed] = _kind(vm.allowed, index, useful)
            yield vm, (kinds[vm.allowed], vm.size, None if vm.host is None else index[vm.host])

    @property
    def index(self) -> dict[str, int]:
        """The number of each host."""
        return {name: i for i, name in enumerate(self.names)}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Every kind that some VM has, None first, in a fixed order."""
        return tuple(sorted({*self.own, *self.off}, key=lambda kind: (kind is not None, sorted(kind or ()))))

    def by_group(self, value_of_host: Iterable[int]) -> list[int]:
        """The values of the hosts summed over what fails at once."""
        if self.groups == len(self.names):
            return list(value_of_host)
        sums = [0] * self.groups
        for index, value in enumerate(value_of_host):
            sums[self.group[index]] += value
        return sums

    def with_running(self, size: int, host: int, allowed: frozenset[str] | None, *, protected: bool) -> "Tally":
        """The same pool after one more VM was started on that host."""
        free = (*self.free[:host], max(0, self.free[host] - size), *self.free[host + 1 :])
        if not protected:
            return replace(self, free=free)
        kind = _kind(allowed, self.index, frozenset(i for i, amount in enumerate(self.free) if amount > 0))
        per_host = list(self.own.get(kind) or ({},) * len(self.names))
        per_host[host] = {**per_host[host], size: per_host[host].get(size, 0) + 1}
        own = {**self.own, kind: tuple(per_host)}
        return replace(self, free=free, own=own, sizes=tuple(sorted({*self.sizes, size})))

    def without(self, host: int) -> "Tally":
        """The same pool after that host failed: its VMs wait. The host stays in the lists, empty, so that indices stay true."""
        left = frozenset(i for i, amount in enumerate(self.free) if amount > 0 and i != host)
        own: dict[Kind, list[dict[int, int]]] = {}
        off: dict[Kind, dict[int, int]] = {}
        for kind in self.kinds:
            now = None if kind is None or kind - {host} == left else kind - {host}
            waiting = off.setdefault(now, {})
            _add(waiting, self.off.get(kind, {}))
            for i, counts in enumerate(self.own.get(kind, ())):
                _add(waiting if i == host else own.setdefault(now, [{} for _ in self.names])[i], counts)
        free = (*self.free[:host], 0, *self.free[host + 1 :])
        return replace(self, free=free, own={kind: tuple(per_host) for kind, per_host in own.items()}, off=off)


def _add(total: dict[int, int], counts: Counts) -> None:
    for size, number in counts.items():
        total[size] = total.get(size, 0) + number


def count(problem: Problem) -> Tally:
    """The tally of a problem."""
    index = {host.name: i for i, host in enumerate(problem.hosts)}
    domains: dict[tuple[str, str], int] = {}
    group = tuple(
        domains.setdefault(("host", host.name) if host.domain is None else ("domain", host.domain), len(domains)) for host in problem.hosts
    )
    useful = frozenset(i for i, host in enumerate(problem.hosts) if host.free > 0)
    kinds: dict[frozenset[str] | None, Kind] = {None: None}
    own: dict[Kind, list[dict[int, int]]] = {}
    off: dict[Kind, dict[int, int]] = {}
    sizes: set[int] = set()
    extras = False
    labels: set[str] = set()
    for _, size, host, allowed, _, hugepages, apart in problem.vms:
        if hugepages or apart:  # a label that one VM has alone keeps nobody apart
            extras = extras or hugepages > 0 or not labels.isdisjoint(apart)
            labels |= apart
        if allowed not in kinds:
            kinds[allowed] = _kind(allowed, index, useful)
        kind = kinds[allowed]
        if host is None:
            counts = off.setdefault(kind, {})
        else:
            per_host = own.get(kind)
            if per_host is None:
                per_host = own[kind] = [{} for _ in problem.hosts]
            counts = per_host[index[host]]
        counts[size] = counts.get(size, 0) + 1
        sizes.add(size)
    return Tally(
        tuple(host.name for host in problem.hosts),
        tuple(host.free for host in problem.hosts),
        group,
        len(domains),
        {kind: tuple(per_host) for kind, per_host in own.items()},
        off,
        tuple(sorted(sizes)),
        extras,
    )


def _kind(allowed: frozenset[str] | None, index: Mapping[str, int], useful: frozenset[int]) -> Kind:
    if allowed is None:
        return None
    usable = frozenset(index[name] for name in allowed) & useful
    return None if usable == useful else usable

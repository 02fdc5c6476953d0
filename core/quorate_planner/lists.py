"""The list rule: each VM has a list of hosts, and restarts on the first one that lives. For VMs whose allowed hosts overlap.

Where a VM is depends then only on which hosts have failed: not on their order, not on what failed at once, not on who was
restarted first, because a VM stays where it is until that host fails and never looks at memory. So what each host must hold can be
summed up for every set of k failures beforehand (`covers`), and that is the whole proof. `listing` looks for lists; `verify` adds them
up without this code.

A list holds for the VM wherever it runs: a host on it where the VM runs now, or that is not there, is passed over.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb

from quorate_planner.problem import Problem, ProblemVm

Lists = Mapping[str, Sequence[str]]
"""For each VM the hosts where it restarts: on the first of them that lives."""

WORK_MOST = 400_000
"""Sets of failures times hosts that are looked at; where there are more, nothing is claimed."""


class Moves:
    """What moves where when hosts fail: the tables of one problem and its lists. Groups are hosts that fail together.

    `moving[needed]` are bytes by host that come once all groups of `needed` have failed, unless that host is among them: the VMs are
    then counted under a larger `needed`. `limit`: more failures strand some VM at the end of its list.
    """

    def __init__(self, problem: Problem, lists: Lists) -> None:
        self.names = tuple(host.name for host in problem.hosts)
        self.free = tuple(host.free for host in problem.hosts)
        groups: dict[tuple[bool, str], int] = {}
        self.group = tuple(groups.setdefault((h.domain is not None, h.domain or h.name), len(groups)) for h in problem.hosts)
        self.groups = len(groups)
        self.limit = self.groups
        self.moving: dict[frozenset[int], dict[int, int]] = {}
        index = {name: i for i, name in enumerate(self.names)}
        for vm in problem.vms:
            steps, needed = self.steps(vm, [index[name] for name in lists.get(vm.name, ()) if name in index])
            for before, i in steps:
                coming = self.moving.setdefault(before, {})
                coming[i] = coming.get(i, 0) + vm.size
            self.limit = min(self.limit, len(needed) - 1)

    def steps(self, vm: ProblemVm, hosts: Sequence[int]) -> tuple[list[tuple[frozenset[int], int]], frozenset[int]]:
        """Which groups must have failed for the VM to come to which host, and those that must have failed for it to have no place."""
        needed = frozenset(self.group[i] for i, name in enumerate(self.names) if name == vm.host) if vm.host is not None else frozenset()
        found = []
        for i in hosts:
            if usable(vm, self.names[i]) and self.group[i] not in needed:
                found.append((needed, i))
                needed |= {self.group[i]}
        return found, needed

    def loads(self, failures: int) -> Iterator[tuple[frozenset[int], dict[int, int]]]:
        """For each set of so many groups that fail: the bytes that then come to each host that lives."""
        for chosen in combinations(range(self.groups), failures):
            failed = frozenset(chosen)
            total: dict[int, int] = {}
            for size in range(failures + 1):
                for part in combinations(chosen, size):
                    for i, amount in self.moving.get(frozenset(part), {}).items():
                        total[i] = total.get(i, 0) + amount
            yield failed, {i: amount for i, amount in total.items() if self.group[i] not in failed}

    def covers(self, failures: int) -> bool:
        """Whether every set of so many failures leaves every VM on a host with room. Fewer failures bring no host more."""
        if not 0 <= failures <= self.limit or comb(self.groups, failures) * len(self.names) > WORK_MOST:
            return False
        return all(amount <= self.free[i] for _, total in self.loads(failures) for i, amount in total.items())

    def certified(self) -> int:
        """The most failures that the lists survive for certain; -1: not even the waiting VMs are sure of a place."""
        most = -1
        while self.covers(most + 1):
            most += 1
        return most

    def kept(self, failures: int) -> dict[str, int]:
        """For each host the most that may come to it in so many failures."""
        most = dict.fromkeys(self.names, 0)
        for _, total in self.loads(failures):
            for i, amount in total.items():
                most[self.names[i]] = max(most[self.names[i]], amount)
        return most


def usable(vm: ProblemVm, host: str) -> bool:
    """Whether the VM could move there: it may run there, and does not run there now."""
    return host != vm.host and (vm.allowed is None or host in vm.allowed)


def certified(problem: Problem, lists: Lists) -> int:
    """The most failures that these lists survive for certain; -1: not even the waiting VMs are sure of a place.

    Hugepages and VMs that must not share a host are not counted here: where there are any, nothing is certified.
    """
    if not lists or any(vm.hugepages or vm.apart for vm in problem.vms):
        return -1
    return Moves(problem, lists).certified()


class Listed:
    """Hosts during a restart by lists. Mutable, lives for one decision.

    `keep[host]` is what the lists may still send there: a VM without a list takes room beyond that, where there is some.
    """

    def __init__(self, lists: Lists, free: Mapping[str, int], keep: Mapping[str, int]) -> None:
        self._lists = lists
        self._free = dict(free)
        self._keep = dict(keep)

    def place(self, vm: ProblemVm, planned: str | None = None) -> str | None:
        """Give a VM its host and take the memory; None if no host that it may use has enough. A list leaves no choice to `planned`."""
        able = [name for name, free in sorted(self._free.items()) if free >= vm.size and usable(vm, name)]
        if not able:
            return None
        first = next((name for name in self._lists.get(vm.name, ()) if name in self._free and usable(vm, name)), None)
        if first in able:
            self._keep[first] = max(0, self._keep.get(first, 0) - vm.size)
            host = first
        else:
            host = min(
                able, key=lambda name: (self._free[name] - self._keep.get(name, 0) < vm.size, name != planned, -self._free[name], name)
            )
        self._free[host] -= vm.size
        return host

    def left(self) -> dict[str, int]:
        """The memory left, by host."""
        return dict(self._free)

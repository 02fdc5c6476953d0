"""Looks for lists of hosts that survive k failures: each VM takes what is least full in its worst case, then the walk mends.

Proves nothing: what counts is `lists.Moves.covers`. The dice are a fixed series, and work is counted in steps, so that the same pool gets
the same lists.
"""

from collections.abc import Callable
from math import comb

from quorate_planner.certificate import Certificate, Zone
from quorate_planner.lists import WORK_MOST, Lists, Moves, certified, usable
from quorate_planner.problem import Problem, ProblemVm

FAILURES_MOST = 4
"""Lists for more failures are not looked for: a proof looks at every set of hosts that may fail."""

STEPS = 300
"""Steps of the walk for each number of failures."""

STEPS_KEPT = 24
"""The same where lists that are kept are mended, while somebody waits."""

WIDER = 0.3
"""How often a step moves a second VM, and how far dice may sway a choice, in parts of a host."""

Cell = tuple[frozenset[int], int]
"""Groups that failed, and a host that lives: what comes to it must fit."""


def listed(
    problem: Problem, failures: int, left_seconds: Callable[[], float], *, known: Lists | None = None, steps: int = STEPS
) -> Lists | None:
    """Lists that survive so many failures, or None if none were found. Lists that are `known` stay where they can."""
    if any(vm.hugepages or vm.apart for vm in problem.vms) or not 0 <= failures <= FAILURES_MOST:
        return None
    for tight in (False, True):
        walk = _Walk(problem, failures, tight=tight)
        found = walk.run(known or {}, steps, left_seconds) if walk.affordable else None
        if found is not None and Moves(problem, found).covers(failures):
            return found
    return None


def certified_by_lists(problem: Problem, proven: int, most: int, left_seconds: Callable[[], float]) -> Certificate | None:
    """The certificate of lists for more than `proven` failures, for `most` if possible; None if there is nothing better."""
    best: Certificate | None = None
    for failures in range(proven + 1, most + 1):
        found = listed(problem, failures, left_seconds)
        if found is None:
            break
        zone = Zone({host.name: host.free for host in problem.hosts}, None, listed=True)
        best = Certificate(failures, (zone,), dict.fromkeys(found, 0), found)
    return best


def completed(problem: Problem, known: Lists, wish: int) -> Lists:
    """Lists for this problem: those that are known, mended and made longer as long as that shows more, up to the wish."""
    best, most = known, certified(problem, known)
    while most < wish:
        found = listed(problem, most + 1, lambda: 1.0, known=best, steps=STEPS_KEPT)
        if found is None:
            break
        best, most = found, most + 1
    return best


class _Dice:
    """A series of numbers that looks random and is always the same."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, end: int) -> int:
        """A whole number from 0 to end - 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 33) % end

    def part(self) -> float:
        """A number from 0 to less than 1."""
        return self.below(1 << 20) / (1 << 20)


class _Walk:
    """`comes[failed][i]`: bytes that come to host i when exactly those groups fail; 0 where it fails itself."""

    def __init__(self, problem: Problem, failures: int, *, tight: bool) -> None:
        self._moves = Moves(Problem(problem.hosts, ()), {})
        self._failures = failures
        self._tight = tight
        self._vms = {vm.name: vm for vm in problem.vms}
        moves = self._moves
        self.affordable = failures < moves.groups and comb(moves.groups, failures) * len(moves.names) <= WORK_MOST
        self._comes = {failed: [0] * len(moves.names) for failed, _ in moves.loads(failures)} if self.affordable else {}
        self._with: dict[frozenset[int], list[frozenset[int]]] = {}
        self._lists: dict[str, list[int]] = {}
        self._coming: dict[Cell, dict[str, None]] = {}
        self._over: dict[Cell, None] = {}
        self._dice = _Dice(failures)

    def run(self, known: Lists, steps: int, left_seconds: Callable[[], float]) -> Lists | None:
        """The lists, once nothing is too full."""
        index = {name: i for i, name in enumerate(self._moves.names)}
        new = []
        for vm in self._vms.values():
            hosts = [index[name] for name in known.get(vm.name, ()) if name in index]
            if len(self._moves.steps(vm, hosts)[1]) > self._failures:
                self._put(vm, hosts)
            else:
                new.append(vm)
        for vm in sorted(new, key=lambda vm: (-vm.size, len(vm.allowed or index), vm.name)):
            chosen = self._chosen(vm, 0.0)
            if chosen is None or left_seconds() <= 0:
                return None
            self._put(vm, chosen)
        for _ in range(steps):
            if not self._over or left_seconds() <= 0:
                break
            self._mend()
        names = self._moves.names
        return None if self._over else {name: tuple(names[i] for i in hosts) for name, hosts in self._lists.items()}

    def _mend(self) -> None:
        """Of the VMs that come to a host that is too full, one or two get another list."""
        failed, i = list(self._over)[self._dice.below(len(self._over))]
        here = sorted({name for (needed, at), names in self._coming.items() if at == i and needed <= failed for name in names})
        moved = [here.pop(self._dice.below(len(here)))]
        if here and self._dice.part() < WIDER:
            moved.append(here.pop(self._dice.below(len(here))))
        for name in moved:
            self._take(self._vms[name])
        for name in moved:
            hosts = self._chosen(self._vms[name], WIDER)
            if hosts is not None:
                self._put(self._vms[name], hosts)

    def _chosen(self, vm: ProblemVm, sway: float) -> list[int] | None:
        """A list for the VM, host after host: each the least full in its worst case (tight: the fullest with room)."""
        moves = self._moves
        hosts: list[int] = []
        _, needed = moves.steps(vm, ())
        while len(needed) <= self._failures:
            worst = [max(column) for column in zip(*(self._comes[failed] for failed in self._sets(needed)), strict=True)]
            best = None
            for i, name in enumerate(moves.names):
                if moves.group[i] in needed or not usable(vm, name) or moves.free[i] < vm.size:
                    continue
                full = (worst[i] + vm.size) / moves.free[i]
                rank = (max(0, worst[i] + vm.size - moves.free[i]), (-full if self._tight else full) + self._dice.part() * sway, i)
                best = rank if best is None else min(best, rank)
            if best is None:
                return None
            hosts.append(best[2])
            needed |= {moves.group[best[2]]}
        return hosts

    def _sets(self, needed: frozenset[int]) -> list[frozenset[int]]:
        if needed not in self._with:
            self._with[needed] = [failed for failed in self._comes if needed <= failed]
        return self._with[needed]

    def _put(self, vm: ProblemVm, hosts: list[int]) -> None:
        self._lists[vm.name] = hosts
        self._add(vm, hosts, vm.size)

    def _take(self, vm: ProblemVm) -> None:
        self._add(vm, self._lists.pop(vm.name), -vm.size)

    def _add(self, vm: ProblemVm, hosts: list[int], amount: int) -> None:
        for needed, i in self._moves.steps(vm, hosts)[0]:
            if len(needed) > self._failures:
                return
            names = self._coming.setdefault((needed, i), {})
            if amount > 0:
                names[vm.name] = None
            else:
                del names[vm.name]
            for failed in self._sets(needed):
                if self._moves.group[i] in failed:
                    continue
                self._comes[failed][i] += amount
                if self._comes[failed][i] > self._moves.free[i]:
                    self._over[failed, i] = None
                else:
                    self._over.pop((failed, i), None)

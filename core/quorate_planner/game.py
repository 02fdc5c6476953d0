"""The whole game on tiny pools: each host that may fail next against each way to place what waits. It lowers an upper bound, no more.

That some policy survives k failures is no plan, because nothing keeps that policy; that none does is the truth, whatever else was
counted. Hosts fail one by one here. That is enough: when several fail at once, more VMs wait than if they had failed in turn, and a VM
that waits can still be placed wherever the other policy had put it.

Alike VMs are one number. Work is counted in nodes; a game that is not played to its end says nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from quorate_planner.amounts import amount
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.witness import UNPLACEABLE_NAMED, Witness

HOSTS_MOST = 6
VMS_MOST = 12
"""Larger pools are not played."""

NODES_MOST = 50_000
"""Positions looked at for one number of failures; about half a second."""

NODES_BETWEEN_LOOKS = 256
"""The clock is read so seldom."""

GONE = -1
"""What is free on a host that has failed."""

Counts = tuple[tuple[int, ...], ...]
"""For each sort of VM how many run on each host."""


@dataclass(frozen=True, slots=True)
class Played:
    """No policy survives more than `most` failures; -1: not even the waiting VMs can all be placed."""

    most: int
    witness: Witness


@dataclass(frozen=True, slots=True)
class _Position:
    """Memory left on each host, what runs where, and what waits; `waiting` by sort."""

    free: tuple[int, ...]
    runs: Counts
    waiting: tuple[int, ...]


class _TooLongError(Exception):
    """The game has more positions than may be looked at."""


def lowered(problem: Problem, proven: int, upper: int, left_seconds: Callable[[], float]) -> Played | None:
    """The lowest upper bound below `upper` that the game shows, not below `proven`; None if it shows none, or was not played to its end."""
    if len(problem.hosts) > HOSTS_MOST or len(problem.vms) > VMS_MOST or any(vm.hugepages or vm.apart for vm in problem.vms):
        return None
    game = _Game(problem, left_seconds)
    found = None
    for failures in range(upper, proven, -1):
        try:
            if game.survives(game.start, failures):
                return found
            found = Played(failures - 1, game.witness(failures))
        except _TooLongError:
            return found
    return found


class _Game:
    def __init__(self, problem: Problem, left_seconds: Callable[[], float]) -> None:
        self._left_seconds = left_seconds
        self._nodes = 0
        self._known: dict[tuple[_Position, int], bool] = {}
        self._names = [host.name for host in problem.hosts]
        domains: dict[tuple[bool, str], int] = {}
        self._group = [domains.setdefault((h.domain is not None, h.domain or h.name), len(domains)) for h in problem.hosts]
        sorts: dict[tuple[int, frozenset[int]], list[ProblemVm]] = {}
        for vm in problem.vms:
            may = frozenset(i for i, name in enumerate(self._names) if vm.allowed is None or name in vm.allowed)
            sorts.setdefault((-vm.size, may), []).append(vm)
        ordered = sorted(sorts, key=lambda sort: (sort[0], sorted(sort[1])))
        self._sizes = [-size for size, _ in ordered]
        self._may = [sorted(may) for _, may in ordered]
        self._vms = [sorts[sort] for sort in ordered]
        self.start = _Position(
            tuple(host.free for host in problem.hosts),
            tuple(tuple(sum(vm.host == name for vm in vms) for name in self._names) for vms in self._vms),
            tuple(sum(vm.host is None for vm in vms) for vms in self._vms),
        )

    def survives(self, position: _Position, failures: int) -> bool:
        """Whether what waits can be placed so that, whichever hosts fail next, so many times, everything can be placed again."""
        key = position, failures
        if key not in self._known:
            self._known[key] = any(self._breaking(placed, failures) is None for placed in self._placed(position))
        return self._known[key]

    def _breaking(self, placed: _Position, failures: int) -> int | None:
        """The group whose failure cannot be survived, of the failures that are left; None if there is none."""
        if not failures:
            return None
        groups = sorted({self._group[i] for i, free in enumerate(placed.free) if free != GONE})
        return next((group for group in groups if not self.survives(self._without(placed, group), failures - 1)), None)

    def _without(self, position: _Position, group: int) -> _Position:
        dead = [i for i, its in enumerate(self._group) if its == group]
        return _Position(
            tuple(GONE if i in dead else free for i, free in enumerate(position.free)),
            tuple(tuple(0 if i in dead else number for i, number in enumerate(row)) for row in position.runs),
            tuple(number + sum(row[i] for i in dead) for number, row in zip(position.waiting, position.runs, strict=True)),
        )

    def _placed(self, position: _Position) -> Iterator[_Position]:
        """Every way to place all that waits."""
        self._nodes += 1
        if self._nodes > NODES_MOST or (self._nodes % NODES_BETWEEN_LOOKS == 0 and self._left_seconds() <= 0):
            raise _TooLongError
        sort = next((sort for sort, number in enumerate(position.waiting) if number), None)
        if sort is None:
            yield position
            return
        for spread in self._spreads(position.free, self._sizes[sort], self._may[sort], position.waiting[sort]):
            free = tuple(f - n * self._sizes[sort] if n else f for f, n in zip(position.free, spread, strict=True))
            row = tuple(a + n for a, n in zip(position.runs[sort], spread, strict=True))
            runs = (*position.runs[:sort], row, *position.runs[sort + 1 :])
            yield from self._placed(_Position(free, runs, (*position.waiting[:sort], 0, *position.waiting[sort + 1 :])))

    def _spreads(self, free: Sequence[int], size: int, may: Sequence[int], number: int) -> Iterator[tuple[int, ...]]:
        """Every way to spread so many alike VMs over the hosts that they may use."""
        if not number:
            yield (0,) * len(free)
        elif may:
            here, rest = may[0], may[1:]
            for some in range(min(number, max(0, free[here]) // size), -1, -1):
                for others in self._spreads(free, size, rest, number - some):
                    yield (*others[:here], some, *others[here + 1 :])

    # -- words

    def witness(self, failures: int) -> Witness:
        """One line of a game that is lost: the first placement each time, and a failure that it does not survive."""
        position, left = self.start, failures
        waiting = [[vm.name for vm in vms if vm.host is None] for vms in self._vms]
        runs = [[[vm.name for vm in vms if vm.host == name] for name in self._names] for vms in self._vms]
        failed: list[str] = []
        said: list[str] = []
        while (placed := next(self._placed(position), None)) is not None:
            said += self._restarted(position, placed, waiting, runs)
            group = self._breaking(placed, left)
            if group is None:
                raise AssertionError("the line of a lost game ends where nothing can be placed")
            position, left = self._without(placed, group), left - 1
            dead = [i for i, its in enumerate(self._group) if its == group]
            failed += [self._names[i] for i in dead]
            said.append(f"{' and '.join(self._names[i] for i in dead)} fail{'s' if len(dead) == 1 else ''}")
            for sort, row in enumerate(runs):
                for i in dead:
                    waiting[sort] += row[i]
                    row[i] = []
        stuck = self._stuck(position, waiting)
        name, size = stuck[0]
        end = f"{name} ({amount(size)}) {'has' if len(stuck) == 1 else 'and others have'} no place"
        unplaceable = tuple(name for name, _ in stuck[:UNPLACEABLE_NAMED])
        if not failed:
            return Witness((), unplaceable, f"VMs that wait to be started cannot all be placed as it is: {end}")
        which = "one failure leaves" if failures == 1 else f"some {failures} failures leave"
        return Witness(
            tuple(failed), unplaceable, f"wherever VMs restart, {which} one without a place; for example {'; '.join(said)}, and {end}"
        )

    def _restarted(self, before: _Position, after: _Position, waiting: list[list[str]], runs: list[list[list[str]]]) -> list[str]:
        """Who restarts where, in words and in the lists of names."""
        said = []
        for sort, (old, new) in enumerate(zip(before.runs, after.runs, strict=True)):
            for i, number in enumerate(b - a for a, b in zip(old, new, strict=True)):
                for _ in range(number):
                    name = waiting[sort].pop(0)
                    runs[sort][i].append(name)
                    said.append(f"{name} starts on {self._names[i]}")
        return [", ".join(said)] if said else []

    def _stuck(self, position: _Position, waiting: list[list[str]]) -> list[tuple[str, int]]:
        """VMs left over when each in turn, the largest first, takes the tightest host."""
        free, left = list(position.free), []
        for sort, names in enumerate(waiting):
            for name in names:
                able = [i for i in self._may[sort] if free[i] >= self._sizes[sort]]
                if able:
                    free[min(able, key=lambda i: (free[i], i))] -= self._sizes[sort]
                else:
                    left.append((name, self._sizes[sort]))
        return left

"""Cutting each host's memory into zones, one per chain, and binding VMs to them, so that k failures are survived.

A linear program over the volumes of all zones proposes a cut; it is rounded to whole blocks and checked in integers by `shortfalls`.
Where rounding broke the condition of a level, the program is solved again in whole numbers with that level written out, level after
level. What a solver says is never believed: only `shortfalls` decides.
OR-Tools is imported when first needed; without it there is no proposal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate_planner.bounds import covered
from quorate_planner.chains import Chain, levels
from quorate_planner.tally import Counts, Kind, Tally

LOSS_BOUND = 0.02
"""A VM may be bound to any zone that rounds it by less than this more than its best one."""

SOLVER_TOLERANCE = 1e-5
"""Kept free on each host, in largest blocks, where a solver's rounding of the host's memory broke a cut."""

Place = int | None
"""A host, or None for the VMs that wait."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A zone before its memory is known: block sizes, and the hosts that may carry it (None: all)."""

    chain: Chain
    kind: Kind


@dataclass(frozen=True, slots=True)
class Cut:
    """Zones with memory: `units[zone][host]` smallest blocks, and how many VMs of each kind, size and host are bound to each zone."""

    shapes: tuple[Shape, ...]
    units: tuple[tuple[int, ...], ...]
    bound: Mapping[tuple[Kind, int, Place], tuple[int, ...]]


def shortfalls(tally: Tally, cut: Cut, failures: int) -> list[tuple[int, int]]:
    """The zones and levels whose condition does not hold for so many failures; none means that the cut is proven."""
    return [(at, level) for at, shape in enumerate(cut.shapes) for level, k in enumerate(_per_level(tally, cut, at, shape)) if k < failures]


def _per_level(tally: Tally, cut: Cut, at: int, shape: Shape) -> Iterator[int]:
    chain = shape.chain
    level_of = levels(chain, [size for size in tally.sizes if size <= chain[-1]])
    for level, block in enumerate(chain):
        room = [units * chain[0] // block for units in cut.units[at]]
        demand = [0] * len(room)
        off = 0
        for (_, size, place), numbers in cut.bound.items():
            if numbers[at] and level_of[size] >= level:
                blocks = numbers[at] * (chain[level_of[size]] // block)
                if place is None:
                    off += blocks
                else:
                    demand[place] += blocks
        yield covered(tally.by_group(r + d for r, d in zip(room, demand, strict=True)), sum(room) - off)


class Splitting:
    """One pool and one set of chains; `cut` is asked for numbers of failures, the highest first."""

    def __init__(self, tally: Tally, chains: Sequence[Chain]) -> None:
        self._tally = tally
        fitting = {kind: self._sizes_of(kind) for kind in tally.kinds}
        self._shapes = tuple(
            Shape(chain, kind)
            for kind, sizes in fitting.items()
            for chain in chains
            if any(self._home(chains, size, chain) for size in sizes)
        )
        self._demand = dict(self._count())

    @staticmethod
    def _home(chains: Sequence[Chain], size: int, chain: Chain) -> bool:
        """Whether VMs of that size may be bound to the chain: it rounds them hardly more than the best chain does."""
        rounded = [min((block for block in each if block >= size), default=None) for each in chains]
        best = min(block for block in rounded if block is not None)
        mine = min((block for block in chain if block >= size), default=None)
        return mine is not None and mine - best <= LOSS_BOUND * size

    def _sizes_of(self, kind: Kind) -> set[int]:
        return {s for counts in (*self._tally.own.get(kind, ()), self._tally.off.get(kind, {})) for s in counts}

    def _count(self) -> Iterator[tuple[tuple[Kind, int, Place], int]]:
        for kind in self._tally.kinds:
            places: list[tuple[Place, Counts]] = [(None, self._tally.off.get(kind, {})), *enumerate(self._tally.own.get(kind, ()))]
            for place, counts in places:
                for size, number in counts.items():
                    yield (kind, size, place), number

    def cut(self, failures: int, left_seconds: Callable[[], float], *, whole_numbers: bool) -> Cut | None:
        """A proven cut for so many failures, or None: there is none with these chains, or it was not found in time.

        Without `whole_numbers` only the linear program is tried, which takes milliseconds to a second.
        """
        whole: frozenset[tuple[int, int]] = frozenset()
        margin = 0.0
        while left_seconds() > 0:
            proposal = _Program(self._tally, self._shapes, self._demand, failures, whole, margin).solve(left_seconds())
            if proposal is None:
                return None
            short = shortfalls(self._tally, proposal, failures)
            if not short:
                return proposal
            if not whole_numbers:
                return None
            more = whole | set(short) | {(at, 0) for at in range(len(self._shapes))}
            if more == whole and margin:
                return None
            margin = SOLVER_TOLERANCE if more == whole else margin
            whole = more
        return None


class _Program:
    """The linear program, or with levels `whole` the same in whole numbers. In units of each zone's smallest block."""

    def __init__(
        self,
        tally: Tally,
        shapes: Sequence[Shape],
        demand: Mapping[tuple[Kind, int, Place], int],
        failures: int,
        whole: frozenset[tuple[int, int]],
        margin: float,
    ) -> None:
        from ortools.linear_solver import pywraplp  # 0.3 s and 60 MB that only a sharp answer is worth

        self._solver: Any = pywraplp.Solver.CreateSolver("SCIP" if whole else "GLOP")
        self._tally, self._shapes, self._demand, self._whole = tally, shapes, demand, whole
        self._binding: dict[tuple[Kind, int, Place], dict[int, Any]] = {}
        infinity = self._solver.infinity()
        make = self._solver.IntVar if whole else self._solver.NumVar
        hosts = range(len(tally.names))
        self._units = [[make(0, tally.free[i] // s.chain[0] if s.kind is None or i in s.kind else 0, "") for i in hosts] for s in shapes]
        self._slack = self._solver.NumVar(0, infinity, "")
        largest = max(s.chain[0] for s in shapes)
        for i in hosts:
            self._solver.Add(
                sum(s.chain[0] / largest * self._units[at][i] for at, s in enumerate(shapes)) <= tally.free[i] / largest - margin
            )
        all_chains = [s.chain for s in shapes]
        for key, number in demand.items():
            kind, size, _ = key
            homes = [at for at, s in enumerate(shapes) if s.kind == kind and Splitting._home(all_chains, size, s.chain)]
            if len(homes) == 1:
                self._binding[key] = {homes[0]: number}
            else:
                self._binding[key] = {at: make(0, number, "") for at in homes}
                self._solver.Add(sum(self._binding[key].values()) == number)
        for at, level in sorted(whole | {(at, 0) for at in range(len(shapes))}):
            self._add_condition(at, level, failures, weigh=not whole)
        self._solver.Maximize(self._slack if not whole else 0 * self._slack)

    def _add_condition(self, at: int, level: int, failures: int, *, weigh: bool) -> None:
        tally, solver = self._tally, self._solver
        chain = self._shapes[at].chain
        block = chain[level]
        infinity = solver.infinity()
        level_of = levels(chain, [size for size in tally.sizes if size <= chain[-1]])
        room = list(self._units[at])
        if level:
            room = [solver.IntVar(0, infinity, "") for _ in room]
            for whole, units in zip(room, self._units[at], strict=True):
                solver.Add(whole * (block // chain[0]) <= units)
        values: list[list[Any]] = [[] for _ in range(tally.groups)]
        budget: list[Any] = list(room)
        for i, variable in enumerate(room):
            values[tally.group[i]].append(variable)
        for (_, size, place), homes in self._binding.items():
            if at in homes and level_of[size] >= level:
                blocks = homes[at] * (chain[level_of[size]] // block)
                if place is None:
                    budget.append(-blocks)
                else:
                    values[tally.group[place]].append(blocks)
        top = solver.NumVar(0, infinity, "")
        over = [solver.NumVar(0, infinity, "") for _ in values]
        for variable, terms in zip(over, values, strict=True):
            solver.Add(variable >= sum(terms) - top)
        slack = self._slack * 1.0 if weigh else 0
        solver.Add(failures * top + sum(over) + slack <= sum(budget))

    def solve(self, seconds: float) -> Cut | None:
        """The program's proposal in whole blocks; None if it has no solution or found none in time."""
        self._solver.SetTimeLimit(max(1, int(seconds * 1000)))
        if self._solver.Solve() not in (self._solver.OPTIMAL, self._solver.FEASIBLE):
            return None
        bound = {}
        for key, homes in self._binding.items():
            shares = [_value(homes.get(at, 0)) for at in range(len(self._shapes))]
            bound[key] = _rounded(shares, self._demand[key])
        units = [[max(0, int(_value(variable) + 1e-6)) for variable in row] for row in self._units]
        for i, free in enumerate(self._tally.free):
            self._fill(i, free, units)
        return Cut(tuple(self._shapes), tuple(tuple(row) for row in units), bound)

    def _fill(self, i: int, free: int, units: list[list[int]]) -> None:
        """Give what rounding left over on a host to the zones that lost most, never more than the host has."""
        left = free - sum(s.chain[0] * units[at][i] for at, s in enumerate(self._shapes))
        while left < 0:  # a solver's tolerance
            at = max((at for at in range(len(units)) if units[at][i]), key=lambda at: units[at][i])
            units[at][i] -= 1
            left += self._shapes[at].chain[0]
        lost = sorted(range(len(units)), key=lambda at: units[at][i] - _value(self._units[at][i]))
        for at in lost:
            shape = self._shapes[at]
            wanted = _value(self._units[at][i]) - units[at][i] > 1e-6
            if wanted and left >= shape.chain[0] and (shape.kind is None or i in shape.kind):
                units[at][i] += 1
                left -= shape.chain[0]
        for at in lost:
            shape = self._shapes[at]
            if shape.kind is None or i in shape.kind:
                units[at][i] += left // shape.chain[0]
                left %= shape.chain[0]


def _value(term: Any) -> float:
    return float(term) if isinstance(term, int | float) else float(term.solution_value())


def _rounded(shares: Sequence[float], number: int) -> tuple[int, ...]:
    """Whole shares that add up to the number, each next to what it was."""
    whole = [int(share + 1e-6) for share in shares]
    for at in sorted(range(len(shares)), key=lambda at: whole[at] - shares[at]):
        if sum(whole) >= number:
            break
        whole[at] += 1
    return tuple(whole)

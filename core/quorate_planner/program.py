"""The linear program that proposes a cut, and the same in whole numbers for levels that rounding broke.

Its conditions are those of `cut.shortfalls`; the k largest are linear: `k t + sum of max(0, x - t)`. What comes back is a proposal,
rounded to whole blocks, and nothing more. OR-Tools is imported when first needed; ImportError without it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate_planner.chains import levels
from quorate_planner.cut import Cut, Key, Shape
from quorate_planner.tally import Tally

SLACK_LEAST = 1e-6
"""The slack of a zone, which is in its smallest blocks, is never counted as less than this part of its largest."""

STEPS_MOST = 20_000
"""Steps of the linear program, which takes some hundreds unless the numbers are beyond its arithmetic."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`cut` None: there is none (`impossible`), or none was found in time."""

    cut: Cut | None
    impossible: bool


class Program:
    """In each zone's smallest blocks, or in its largest where memory is not in whole numbers: a solver's numbers should be near one.

    `homes[kind, size]` are the zones that VMs may be bound to.

    `whole` are the levels in whole numbers; without any it is the plain linear program. `rooms_only`: of those levels only the blocks that
    hosts have room for are whole, memory and bindings are not. `margin` is kept free on each host, in largest blocks.
    """

    def __init__(
        self,
        tally: Tally,
        shapes: Sequence[Shape],
        demand: Mapping[Key, int],
        homes: Mapping[tuple[Any, int], Sequence[int]],
        failures: int,
        whole: frozenset[tuple[int, int]] = frozenset(),
        margin: float = 0.0,
        *,
        rooms_only: bool = False,
    ) -> None:
        from ortools.linear_solver import pywraplp  # 0.3 s and 60 MB that only a sharp answer is worth

        self._solver: Any = pywraplp.Solver.CreateSolver("SCIP" if whole else "GLOP")
        self._tally, self._shapes, self._demand, self._whole = tally, shapes, demand, whole
        self._binding: dict[Key, dict[int, Any]] = {}
        infinity = self._solver.infinity()
        integers = bool(whole) and not rooms_only
        make = self._solver.IntVar if integers else self._solver.NumVar
        hosts = range(len(tally.names))
        self._unit = [s.chain[0] if integers else s.chain[-1] for s in shapes]
        self._memory = [
            [make(0, tally.free[i] // s.chain[0] * s.chain[0] / unit, "") if s.carries(i) else None for i in hosts]
            for s, unit in zip(shapes, self._unit, strict=True)
        ]
        self._slack = self._solver.NumVar(0, infinity, "")
        largest = max(self._unit)
        for i in hosts:
            held = [(row[i], unit / largest) for row, unit in zip(self._memory, self._unit, strict=True) if row[i] is not None]
            if held:
                self._at_most(held, tally.free[i] / largest - margin)
        for key, number in demand.items():
            mine = homes[key[0], key[1]]
            if len(mine) == 1:
                self._binding[key] = {mine[0]: number}
            else:
                self._binding[key] = {at: make(0, number, "") for at in mine}
                exactly = self._solver.Constraint(number, number)
                for share in self._binding[key].values():
                    exactly.SetCoefficient(share, 1)
        bound_to: list[list[Key]] = [[] for _ in shapes]
        for key, shares in self._binding.items():
            for at in shares:
                bound_to[at].append(key)
        for at, level in sorted(whole | {(at, 0) for at in range(len(shapes))}):
            self._add_condition(at, level, failures, bound_to[at])
        if not whole:
            self._solver.Objective().SetCoefficient(self._slack, 1)
            self._solver.Objective().SetMaximization()

    def _at_most(self, terms: Iterable[tuple[Any, float]], limit: float) -> None:
        """The sum of variables times numbers is at most the limit. Each variable at most once."""
        row = self._solver.Constraint(-self._solver.infinity(), limit)
        for variable, factor in terms:
            row.SetCoefficient(variable, factor)

    def _add_condition(self, at: int, level: int, failures: int, keys: Sequence[Key]) -> None:
        tally, solver = self._tally, self._solver
        chain = self._shapes[at].chain
        block = chain[level]
        infinity = solver.infinity()
        level_of = levels(chain, [size for size in tally.sizes if size <= chain[-1]])
        each = block / self._unit[at]
        values: list[list[tuple[Any, float]]] = [[] for _ in range(tally.groups)]
        known = [0] * tally.groups  # blocks of VMs that have no other zone to go to
        needed: list[tuple[Any, float]] = []  # what waits, less the room
        waiting = 0
        for i, memory in enumerate(self._memory[at]):
            if memory is not None:
                room, factor = memory, 1.0
                if level:
                    room, factor = solver.IntVar(0, infinity, ""), each
                    self._at_most([(room, each), (memory, -1)], 0)
                values[tally.group[i]].append((room, factor))
                needed.append((room, -factor))
        for key in keys:
            _, size, place = key
            if level_of[size] >= level:
                share, blocks = self._binding[key][at], chain[level_of[size]] // block
                fixed = share * blocks if isinstance(share, int) else 0
                if place is None:
                    waiting += fixed
                else:
                    known[tally.group[place]] += fixed
                if not fixed:
                    (needed if place is None else values[tally.group[place]]).append((share, blocks * each))
        top = solver.NumVar(0, infinity, "")
        needed.append((top, failures))
        for terms, blocks in zip(values, known, strict=True):
            if terms or blocks:
                over = solver.NumVar(0, infinity, "")
                self._at_most([*terms, (top, -1), (over, -1)], -blocks * each)
                needed.append((over, 1))
        if not self._whole:
            needed.append((self._slack, max(each, SLACK_LEAST)))
        self._at_most(needed, -waiting * each)

    def solve(self, seconds: float, nodes: int) -> Proposal:
        """The program's proposal in whole blocks. `nodes` limits the work in whole numbers by count, so that the answer does not
        depend on how fast the machine is unless `seconds` run out."""
        self._solver.SetTimeLimit(max(1, int(seconds * 1000)))
        limit = f"limits/nodes = {nodes}" if self._whole else f"max_number_of_iterations: {STEPS_MOST}"
        self._solver.SetSolverSpecificParametersAsString(limit)
        status = self._solver.Solve()
        if status not in (self._solver.OPTIMAL, self._solver.FEASIBLE):
            return Proposal(None, status == self._solver.INFEASIBLE)
        bound = {}
        for key, shares in self._binding.items():
            bound[key] = _rounded([_value(shares.get(at, 0)) for at in range(len(self._shapes))], self._demand[key])
        asked = [
            [_value(memory) * (unit / shape.chain[0]) for memory in row]
            for row, unit, shape in zip(self._memory, self._unit, self._shapes, strict=True)
        ]
        units = [[max(0, int(amount + 1e-6)) for amount in row] for row in asked]
        for i, free in enumerate(self._tally.free):
            self._fill(i, free, units, [row[i] for row in asked])
        return Proposal(Cut(tuple(self._shapes), tuple(tuple(row) for row in units), bound), False)

    def _fill(self, i: int, free: int, units: list[list[int]], asked: Sequence[float]) -> None:
        """Give what rounding left over on a host to the zones that lost most, never more than the host has."""
        left = free - sum(s.chain[0] * units[at][i] for at, s in enumerate(self._shapes))
        while left < 0:  # a solver's tolerance
            at = max((at for at in range(len(units)) if units[at][i]), key=lambda at: units[at][i])
            units[at][i] -= 1
            left += self._shapes[at].chain[0]
        lost = sorted(range(len(units)), key=lambda at: units[at][i] - asked[at])
        for at in lost:
            shape = self._shapes[at]
            if asked[at] - units[at][i] > 1e-6 and left >= shape.chain[0] and shape.carries(i):
                units[at][i] += 1
                left -= shape.chain[0]
        for at in lost:
            shape = self._shapes[at]
            if shape.carries(i):
                units[at][i] += left // shape.chain[0]
                left %= shape.chain[0]


def _value(term: Any) -> float:
    """Of a variable, of a number, or of nothing."""
    if term is None or isinstance(term, int):
        return float(term or 0)
    return float(term.solution_value())


def _rounded(shares: Sequence[float], number: int) -> tuple[int, ...]:
    """Whole shares that add up to the number, each next to what it was."""
    whole = [int(share + 1e-6) for share in shares]
    for at in sorted(range(len(shares)), key=lambda at: whole[at] - shares[at]):
        if sum(whole) >= number:
            break
        whole[at] += 1
    return tuple(whole)

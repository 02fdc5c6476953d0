"""The linear program that proposes a cut, and the same in whole numbers for levels that rounding broke.

Its conditions are those of `cut.shortfalls`; the k largest are linear: `k t + sum of max(0, x - t)`. What comes back is a proposal,
rounded to whole blocks, and nothing more. OR-Tools is imported when first needed; ImportError without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate_planner.chains import levels
from quorate_planner.cut import Cut, Key, Shape
from quorate_planner.tally import Tally


@dataclass(frozen=True, slots=True)
class Proposal:
    """`cut` None: there is none (`impossible`), or none was found in time."""

    cut: Cut | None
    impossible: bool


class Program:
    """In units of each zone's smallest block. `homes[kind, size]` are the zones that VMs may be bound to.

    `whole` are the levels in whole numbers; without any it is the plain linear program. `margin` is kept free on each host, in
    largest blocks.
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
    ) -> None:
        from ortools.linear_solver import pywraplp  # 0.3 s and 60 MB that only a sharp answer is worth

        self._solver: Any = pywraplp.Solver.CreateSolver("SCIP" if whole else "GLOP")
        self._tally, self._shapes, self._demand, self._whole = tally, shapes, demand, whole
        self._binding: dict[Key, dict[int, Any]] = {}
        infinity = self._solver.infinity()
        make = self._solver.IntVar if whole else self._solver.NumVar
        hosts = range(len(tally.names))
        self._units = [[make(0, tally.free[i] // s.chain[0], "") if s.carries(i) else 0 for i in hosts] for s in shapes]
        self._slack = self._solver.NumVar(0, infinity, "")
        largest = max(s.chain[0] for s in shapes)
        for i in hosts:
            held = [s.chain[0] / largest * self._units[at][i] for at, s in enumerate(shapes) if s.carries(i)]
            if held:
                self._solver.Add(sum(held) <= tally.free[i] / largest - margin)
        for key, number in demand.items():
            mine = homes[key[0], key[1]]
            if len(mine) == 1:
                self._binding[key] = {mine[0]: number}
            else:
                self._binding[key] = {at: make(0, number, "") for at in mine}
                self._solver.Add(sum(self._binding[key].values()) == number)
        bound_to: list[list[Key]] = [[] for _ in shapes]
        for key, shares in self._binding.items():
            for at in shares:
                bound_to[at].append(key)
        for at, level in sorted(whole | {(at, 0) for at in range(len(shapes))}):
            self._add_condition(at, level, failures, bound_to[at])
        self._solver.Maximize(self._slack if not whole else 0 * self._slack)

    def _add_condition(self, at: int, level: int, failures: int, keys: Sequence[Key]) -> None:
        tally, solver = self._tally, self._solver
        chain = self._shapes[at].chain
        block = chain[level]
        infinity = solver.infinity()
        level_of = levels(chain, [size for size in tally.sizes if size <= chain[-1]])
        values: list[list[Any]] = [[] for _ in range(tally.groups)]
        budget: list[Any] = []
        for i, units in enumerate(self._units[at]):
            if self._shapes[at].carries(i):
                room = units
                if level:
                    room = solver.IntVar(0, infinity, "")
                    solver.Add(room * (block // chain[0]) <= units)
                values[tally.group[i]].append(room)
                budget.append(room)
        for key in keys:
            _, size, place = key
            if level_of[size] >= level:
                blocks = self._binding[key][at] * (chain[level_of[size]] // block)
                if place is None:
                    budget.append(-blocks)
                else:
                    values[tally.group[place]].append(blocks)
        top = solver.NumVar(0, infinity, "")
        over = []
        for terms in values:
            if terms:
                over.append(solver.NumVar(0, infinity, ""))
                solver.Add(over[-1] >= sum(terms) - top)
        slack = 0 if self._whole else self._slack * 1.0
        solver.Add(failures * top + sum(over) + slack <= sum(budget))

    def solve(self, seconds: float, nodes: int) -> Proposal:
        """The program's proposal in whole blocks. `nodes` limits the work in whole numbers by count, so that the answer does not
        depend on how fast the machine is unless `seconds` run out."""
        self._solver.SetTimeLimit(max(1, int(seconds * 1000)))
        if self._whole:
            self._solver.SetSolverSpecificParametersAsString(f"limits/nodes = {nodes}")
        status = self._solver.Solve()
        if status not in (self._solver.OPTIMAL, self._solver.FEASIBLE):
            return Proposal(None, status == self._solver.INFEASIBLE)
        bound = {}
        for key, shares in self._binding.items():
            bound[key] = _rounded([_value(shares.get(at, 0)) for at in range(len(self._shapes))], self._demand[key])
        units = [[max(0, int(_value(variable) + 1e-6)) for variable in row] for row in self._units]
        for i, free in enumerate(self._tally.free):
            self._fill(i, free, units)
        return Proposal(Cut(tuple(self._shapes), tuple(tuple(row) for row in units), bound), False)

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
            if _value(self._units[at][i]) - units[at][i] > 1e-6 and left >= shape.chain[0] and shape.carries(i):
                units[at][i] += 1
                left -= shape.chain[0]
        for at in lost:
            shape = self._shapes[at]
            if shape.carries(i):
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

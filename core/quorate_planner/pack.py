"""Can the VMs of these failed hosts be packed into the others at all? Asked of a constraint solver, for upper bounds only.

A set of hosts whose VMs cannot be packed even when all fail at once refutes every policy. A solver's "no" is taken for a proof here;
it raises no `lower`. OR-Tools is imported when first needed.
"""

from collections.abc import Collection, Iterator
from math import gcd
from typing import Any

from quorate_planner.tally import Kind, Tally

SETS_MOST = 24
"""So many critical sets are tried for one number of failures."""

WORK_MOST = 0.5
"""For one set, in the solver's own measure of work (about a second each), so that a slow machine gives the same answer."""

SUM_LIMIT = 1 << 60
"""Sums beyond this do not fit the solver's integers."""


def critical_sets(tally: Tally, failures: int) -> Iterator[tuple[int, ...]]:
    """Sets of so many failure groups that are hardest to replace: by memory, and by slots of each size, the largest first."""
    seen: set[tuple[int, ...]] = set()
    for size in (1, *sorted(tally.sizes, reverse=True)):
        for parts in (1, 2) if size > 1 else (1,):
            room = [free * parts // size for free in tally.free]
            load = [0] * len(room)
            for per_host in tally.own.values():
                for i, counts in enumerate(per_host):
                    load[i] += sum(number * (s * parts // size) for s, number in counts.items())
            values = tally.by_group(r + own for r, own in zip(room, load, strict=True))
            chosen = tuple(sorted(sorted(range(len(values)), key=lambda g: (-values[g], g))[:failures]))
            if chosen not in seen and len(seen) < SETS_MOST:
                seen.add(chosen)
                yield chosen


def unpackable(tally: Tally, failed: Collection[int], seconds: float) -> bool | None:
    """True: what waits once these groups have failed does not fit into the survivors, in whatever way. None: not decided in time."""
    from ortools.sat.python import cp_model  # 0.5 s and 80 MB that only a sharp answer is worth

    living = [i for i, group in enumerate(tally.group) if group not in failed and tally.free[i] > 0]
    waiting: dict[tuple[Kind, int], int] = {}
    for kind in tally.kinds:
        places = [tally.off.get(kind, {})]
        places += [counts for i, counts in enumerate(tally.own.get(kind, ())) if tally.group[i] in failed]
        for counts in places:
            for size, number in counts.items():
                waiting[kind, size] = waiting.get((kind, size), 0) + number
    if not waiting:
        return False
    unit = gcd(*(size for _, size in waiting))
    if sum(size // unit * number for (_, size), number in waiting.items()) > SUM_LIMIT:
        return None
    model: Any = cp_model.CpModel()
    on_host: dict[int, list[Any]] = {i: [] for i in living}
    for (kind, size), number in sorted(waiting.items(), key=lambda item: (-item[0][1], sorted(item[0][0] or ()))):
        shares = []
        for i in living:
            most = min(number, tally.free[i] // size)
            if most and (kind is None or i in kind):
                shares.append(model.new_int_var(0, most, ""))
                on_host[i].append(shares[-1] * (size // unit))
        if not shares:
            return True
        model.add(sum(shares) == number)
    for i in living:
        if on_host[i]:
            model.add(sum(on_host[i]) <= tally.free[i] // unit)
    solver: Any = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, seconds)
    solver.parameters.max_deterministic_time = WORK_MOST
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return True
    return False if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None

"""How many more VMs of one size fit while a number of failures stays covered. A bracket, like every answer here.

The new VMs wait to be placed, may use every host, and are all protected. Fewer of them are never harder than more, so each number that is
proven holds for all below it, and each that is refuted refutes all above it.
"""

from dataclasses import dataclass, replace
from typing import Any

from quorate_planner import bounds, tally, zone
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.sharp import Budget, sharpen

VMS_MOST = 20_000
"""A pool with more VMs than this, new ones included, is judged by the quick bounds only."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """At least `lower` and at most `upper` VMs of `size` bytes more. `holds_now` False: the pool misses the number without any."""

    size: int
    failures: int
    lower: int
    upper: int
    holds_now: bool

    @property
    def exact(self) -> bool:
        """Whether the two meet."""
        return self.lower == self.upper


def how_many_more(problem: Problem, size: int, failures: int, budget: Budget) -> Fitting:
    """The bracket found in the time. Raises ValueError if the size is not positive."""
    if size < 1:
        raise ValueError(f"size: must be at least 1 byte, is {size}")
    counted = tally.count(problem)
    if failures > len(problem.hosts):
        return Fitting(size, failures, 0, 0, holds_now=False)

    def with_more(number: int) -> tally.Tally:
        waiting = counted.off.get(None, {})
        off = {**counted.off, None: {**waiting, size: waiting.get(size, 0) + number}}
        return replace(counted, off=off, sizes=tuple(sorted({*counted.sizes, size})))

    def refuted(number: int) -> bool:
        return bounds.refuted(with_more(number) if number else counted, failures)

    def plainly(number: int) -> bool:
        asked = with_more(number) if number else counted
        return not asked.sizes or zone.best(asked, enough=failures)[1] >= failures or bounds.any_fit_floor(asked) >= failures

    def sharply(number: int) -> bool:
        if number + len(problem.vms) > VMS_MOST or budget.left_seconds() <= 0:
            return False
        grown = _grown(problem, size, number, failures)
        found = sharpen(grown, Budget.of(budget.clock, budget.left_seconds() / 2), enough=failures)
        return found.plan.waiting_placed and found.plan.lower >= failures

    if refuted(0):
        return Fitting(size, failures, 0, 0, holds_now=False)
    least, most = 0, sum(free // size for free in counted.free)
    while least < most:  # the largest number not refuted
        middle = -(-(least + most) // 2)
        least, most = (least, middle - 1) if refuted(middle) else (middle, most)
    upper = most
    if not plainly(0) and not sharply(0):
        return Fitting(size, failures, 0, upper, holds_now=False)
    lower = 0
    for proven in (plainly, sharply):
        most = upper
        if lower < most and proven(most):
            lower = most
        while lower < most:
            middle = -(-(lower + most) // 2)
            lower, most = (middle, most) if proven(middle) else (lower, middle - 1)
    return Fitting(size, failures, lower, upper, holds_now=True)


def _grown(problem: Problem, size: int, number: int, failures: int) -> Problem:
    taken = {vm.name for vm in problem.vms}
    names = (name for name in (f"new-{i}" for i in range(number + len(taken))) if name not in taken)
    new = tuple(ProblemVm(name, size) for _, name in zip(range(number), names, strict=False))
    return replace(problem, vms=(*problem.vms, *new), wish=failures)


def fitting_json(found: Fitting) -> dict[str, Any]:
    """The form in which `quorate what-if --add-vm` tells it."""
    return {
        "sizeBytes": found.size,
        "hostFailuresToTolerate": found.failures,
        "holdsWithout": found.holds_now,
        "fit": {"lower": found.lower, "upper": found.upper, "exact": found.exact},
    }

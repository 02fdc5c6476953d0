"""The sharp answer: a portfolio that narrows the bracket until it is closed or the time is up, and keeps the proof it has.

First the bracket of `planning`, in milliseconds; then a linear program for each number not yet decided; then whole numbers. Every `lower`
that comes from zones has a certificate. What runs at a failure must then be `certificate.follow` with that certificate: the plain
`restart_targets` keeps only the promise of `plan`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from quorate_planner import bounds, tally, zone
from quorate_planner.certificate import Certificate, Zone, follow
from quorate_planner.chains import Chain, cover
from quorate_planner.planning import Plan, plan_problem
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.split import Cut, Splitting

SINGLES_MOST = 8
"""With no more different sizes than this, a chain for each single size is tried as well."""

SHARE = 0.8
"""The part of the time left that one number may take while a lower one is still unproven."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Time to think: the planner reads no clock, its caller lends one. `clock` counts seconds and never goes back."""

    clock: Callable[[], float]
    deadline: float

    @classmethod
    def of(cls, clock: Callable[[], float], seconds: float) -> "Budget":
        """A budget of so many seconds from now."""
        return cls(clock, clock() + seconds)

    def left_seconds(self) -> float:
        """Seconds that remain; negative once it is over."""
        return self.deadline - self.clock()


@dataclass(frozen=True, slots=True)
class Sharp:
    """A plan with the certificate of its `lower`. None where the bound for any rule on limited VMs gave it, or nothing is proven."""

    plan: Plan
    certificate: Certificate | None


def sharpen(problem: Problem, budget: Budget) -> Sharp:
    """The narrowest bracket found in the time, and its certificate. Without OR-Tools, or without time, that of `plan_problem`."""
    plan = plan_problem(problem)
    if not problem.vms:
        return Sharp(plan, Certificate(plan.lower, (), {}))
    counted = tally.count(problem)
    certificate = _plain(problem, counted, plan)
    if plan.exact:
        return Sharp(plan, certificate)
    proven = plan.lower if plan.waiting_placed else -1
    for cut, failures in _cuts(counted, plan.upper, proven, budget):
        certificate = _certificate(problem, counted, cut, failures)
        proven = failures
    if certificate is None or proven < 0:
        return Sharp(plan, certificate)
    wish = plan.host_failures_to_tolerate
    sharper = replace(
        plan,
        lower=proven,
        exact=proven == plan.upper,
        plan_exists=proven >= wish,
        overcommitted=proven < wish,
        waiting_placed=True,
        placements=_placements(problem, certificate),
    )
    return Sharp(sharper, certificate)


def _cuts(counted: tally.Tally, upper: int, proven: int, budget: Budget) -> Iterator[tuple[Cut, int]]:
    """Proven cuts, each for more failures than the one before."""
    volume = dict.fromkeys(counted.sizes, 0)
    for counts in (*(c for per_host in counted.own.values() for c in per_host), *counted.off.values()):
        for size, number in counts.items():
            volume[size] += size * number
    few: tuple[Chain, ...] = tuple((size,) for size in counted.sizes) if len(counted.sizes) <= SINGLES_MOST else ()
    tried = [cover(volume)]
    if few and set(few) != set(tried[0]):
        tried.append(tuple(dict.fromkeys((*tried[0], *few))))
    try:
        ways = [Splitting(counted, chains) for chains in tried]
        for whole in (False, True):
            for failures in range(upper, proven, -1):
                found = None
                for way in ways:
                    part = Budget.of(budget.clock, budget.left_seconds() * (SHARE if failures > proven + 1 else 1))
                    found = found or way.cut(failures, part.left_seconds, whole_numbers=whole)
                if found is not None:
                    yield found, failures
                    proven = failures
                    break
            if proven == upper:
                return
    except ImportError:  # OR-Tools is optional
        return


def _plain(problem: Problem, counted: tally.Tally, plan: Plan) -> Certificate | None:
    """The certificate of what `plan_problem` proved: all memory in one zone."""
    if not plan.waiting_placed or any(kind is not None for kind in counted.kinds):
        return None
    chain, by_zone = zone.best(counted)
    whole = {host.name: host.free for host in problem.hosts}
    everyone = {vm.name: 0 for vm in problem.vms}
    if by_zone >= plan.lower:
        return Certificate(plan.lower, (Zone({name: free - free % chain[0] for name, free in whole.items()}, chain),), everyone)
    if bounds.any_fit_floor(counted) >= plan.lower:
        return Certificate(plan.lower, (Zone(whole, None),), everyone)
    return None


def _certificate(problem: Problem, counted: tally.Tally, cut: Cut, failures: int) -> Certificate:
    zones = tuple(
        Zone({name: units[i] * shape.chain[0] for i, name in enumerate(counted.names) if units[i]}, shape.chain)
        for shape, units in zip(cut.shapes, cut.units, strict=True)
    )
    still = {key: list(numbers) for key, numbers in cut.bound.items()}
    bind = {}
    for vm in problem.vms:
        numbers = still[counted.key(vm)]
        at = next(at for at, number in enumerate(numbers) if number)
        numbers[at] -= 1
        bind[vm.name] = at
    return Certificate(failures, zones, bind)


def _placements(problem: Problem, certificate: Certificate) -> Mapping[str, Mapping[str, str]]:
    names = [host.name for host in problem.hosts]
    homes: dict[str, list[ProblemVm]] = {}
    for vm in sorted(problem.vms, key=lambda vm: (vm.priority, vm.name)):
        if vm.host is not None:
            homes.setdefault(vm.host, []).append(vm)
    found = {}
    for host, vms in homes.items():
        targets, _ = follow(certificate, [name for name in names if name != host], vms)
        found[host] = {key: target for key, target in targets.items() if target is not None}
    return found

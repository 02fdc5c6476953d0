"""The sharp answer: a portfolio that narrows the bracket until it is closed or the time is up, and keeps the proof it has.

First the bracket of `planning`, in milliseconds; then for each number not yet decided linear programs whose cut is mended in whole blocks;
then, while it stays open, proofs that critical sets cannot be packed, and programs in whole numbers with more time each round.
What runs at a failure must then be `certificate.follow` with the certificate found: the plain `restart_targets` keeps only the promise
of `plan`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from quorate_planner import bounds, extras, game, listing, pack, tally
from quorate_planner.certificate import Certificate, Followed, Zone
from quorate_planner.chains import Chain, cover
from quorate_planner.cut import Cut
from quorate_planner.planning import Plan, plan_problem
from quorate_planner.problem import Problem
from quorate_planner.split import LOOSE, TIGHT, Effort, Splitting
from quorate_planner.whole import plain_certificate
from quorate_planner.witness import witness_of

LOSSES = (0.006, 0.003, 0.001)
"""Rounding allowed to the chains of a cover: little rounding means more zones, and more memory lost between them."""

SINGLES_MOST = 12
"""With no more different sizes than this, a chain for each single size is tried as well."""

LARGEST_ALONE = 4
"""So many of the largest sizes get a chain of their own beside a cover."""

PACKING_SHARE = 0.2
"""The part of the time left that proofs about critical sets may take."""

WIDE = 4
WAYS_FIRST = 3
"""A bracket at least so wide is halved first, by so many ways."""

FIRST_NODES = 100
MORE_NODES = 8
ROUNDS_MOST = 7
"""Work of each program in whole numbers in the first round, and how many times that in each later one. Counted, not timed: so that
only the deadline, never the speed of the machine, decides what is found."""

HASTY = Effort(in_vain=6)
ROOMS = Effort(FIRST_NODES, rooms=True)
"""What is tried first: no way for long before the others have been tried."""


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

    def part(self, seconds: float) -> "Budget":
        """So many seconds of it, or what is left."""
        return Budget(self.clock, min(self.deadline, self.clock() + seconds))


@dataclass(frozen=True, slots=True)
class Sharp:
    """A plan with the certificate of its `lower`; None if nothing is proven."""

    plan: Plan
    certificate: Certificate | None


def sharpen(problem: Problem, budget: Budget, *, enough: int | None = None, by_lists: bool = True) -> Sharp:
    """The narrowest bracket found in the time, and its certificate. Without OR-Tools, or without time, that of `plan_problem`.

    `enough`: whoever asks only whether so many failures are survived need not wait for more; the bracket may then stay open.
    `by_lists` False: the certificate is to have zones only.
    """
    if extras.has_extras(problem):
        return _beside(problem, budget, enough)
    plan = plan_problem(problem)
    if not problem.vms:
        return Sharp(plan, Certificate(plan.lower, (), {}))
    counted = tally.count(problem)
    certificate = plain_certificate(problem, counted, plan.lower) if plan.waiting_placed else None
    proven = plan.lower if plan.waiting_placed else -1
    if plan.exact or (enough is not None and not proven < enough <= plan.upper):
        return Sharp(plan, certificate)
    search = _Search(counted, proven, plan.upper, budget, enough)
    certificate = search.everything(problem, by_lists=by_lists) or certificate
    if certificate is not None and search.proven > proven:
        plan = replace(plan, lower=search.proven, waiting_placed=True, placements=Followed(problem, certificate))
    if search.ceiling is not None:
        plan = replace(plan, upper=max(0, search.upper), witness=witness_of(problem, counted, search.ceiling))
    played = game.lowered(problem, search.proven, search.upper, budget.left_seconds)
    if played is not None:
        search.upper = played.most
        plan = replace(plan, upper=max(0, played.most), witness=played.witness)
    exists = plan.waiting_placed and plan.lower >= plan.host_failures_to_tolerate
    return Sharp(replace(plan, exact=search.proven == search.upper, plan_exists=exists, overcommitted=not exists), certificate)


def sought(problem: Problem, counted: tally.Tally, failures: int, budget: Budget) -> tuple[Certificate | None, bool]:
    """A certificate for so many failures, or None, and then whether they are refuted. For whoever asked the quick bounds before:
    they neither show nor refute that many. Not for VMs with needs beside memory."""
    search = _Search(counted, failures - 1, failures, budget, failures)
    certificate = search.everything(problem)
    if certificate is not None:
        return certificate, False
    return None, search.upper < failures or game.lowered(problem, failures - 1, failures, budget.left_seconds) is not None


def _beside(problem: Problem, budget: Budget, enough: int | None) -> Sharp:
    """The same where VMs have needs beside memory: zones set aside for them, and the rest as an ordinary problem."""
    plan = min((_measured(what, part) for what, part in extras.measures(problem)), key=lambda plan: (plan.upper, plan.waiting_placed))
    best, certificate = -1, None
    low, high = 0, plan.upper if enough is None else min(plan.upper, max(0, enough))
    failures = high  # more failures need more set aside and leave less: a search by halves, from the top
    while low <= high:
        aside = extras.set_aside(problem, failures)
        # NB: a layout has zones or lists, and these VMs have zones.
        rest = None if aside is None else sharpen(aside.rest, budget.part(budget.left_seconds() / 2), enough=failures, by_lists=False)
        if aside is not None and rest is not None and rest.certificate is not None:
            proven = min(failures, rest.certificate.failures)
            if proven > best:
                best, certificate = proven, aside.beside(rest.certificate, proven)
        if best >= failures:
            low = failures + 1
        else:
            low, high = max(low, best + 1), failures - 1
        failures = (low + high + 1) // 2
    if certificate is None:
        hopeless = plan.exact and not plan.waiting_placed
        found = replace(plan, lower=0, exact=hopeless, plan_exists=False, overcommitted=True, waiting_placed=False, placements={})
        return Sharp(replace(found, protected_vms=len(problem.vms)), None)
    exists = best >= problem.wish
    proved = replace(
        plan,
        lower=best,
        exact=best == plan.upper,
        plan_exists=exists,
        overcommitted=not exists,
        waiting_placed=True,
        protected_vms=len(problem.vms),
        placements=Followed(problem, certificate),
    )
    return Sharp(proved, certificate)


def _measured(what: str, part: Problem) -> Plan:
    plan = plan_problem(part)
    if not what or plan.witness is None:
        return plan
    return replace(plan, witness=replace(plan.witness, reason=f"{plan.witness.reason} (counted {what})"))


class _Search:
    """The state of one search: `cut` is proven for `proven` failures, more than `upper` are refuted by `ceiling`."""

    def __init__(self, counted: tally.Tally, proven: int, upper: int, budget: Budget, enough: int | None) -> None:
        self.proven, self.upper = proven, upper
        self._enough = upper if enough is None else enough
        self.cut: Cut | None = None
        self.ceiling: bounds.Ceiling | None = None
        self._counted, self._budget = counted, budget
        self._chains = _ways(counted)  # the later ones cost time, and are mostly not needed
        self._splittings: list[Splitting] = []

    @property
    def _goal(self) -> int:
        return min(self.upper, self._enough)

    def everything(self, problem: Problem, *, by_lists: bool = True) -> Certificate | None:
        """The certificate for more failures than were proven, if one is found: by lists first where VMs may use only some hosts."""
        limited = any(kind is not None for kind in self._counted.kinds)
        certificate = self._by_lists(problem) if limited and by_lists else None  # quick where zones are many
        with suppress(ImportError):  # OR-Tools is optional
            self._run()
        if self.cut is not None:
            certificate = _certificate(problem, self._counted, self.cut, self.proven)
        if not limited and by_lists:
            certificate = self._by_lists(problem) or certificate
        return certificate

    def _by_lists(self, problem: Problem) -> Certificate | None:
        """The certificate of lists for more failures than are proven yet, if there is one."""
        found = listing.certified_by_lists(problem, self.proven, self._goal, self._budget.left_seconds)
        self.proven = self.proven if found is None else found.failures
        return found

    def _run(self) -> None:
        """Narrow until closed, or enough is proven or refuted, or the time is up."""
        self._climb(HASTY, WIDE)
        self._climb(ROOMS, WIDE)
        if not self._try(self._goal, HASTY, WAYS_FIRST) and self.proven < self._goal - 1:
            self._try(self._goal - 1, HASTY, WAYS_FIRST)
        self._search(HASTY, ROOMS)
        self._search(Effort())
        nodes = FIRST_NODES
        self._climb(Effort(nodes), 2)
        for number in range(ROUNDS_MOST):
            if self.proven >= self._goal or self._budget.left_seconds() <= 0 or not any(way.open(self._goal) for way in self._ways()):
                break
            self._search(Effort(nodes))
            nodes *= MORE_NODES
            if number == 0:
                self._refute(self._budget.part(self._budget.left_seconds() * PACKING_SHARE))

    def _climb(self, effort: Effort, wide: int) -> None:
        """Where the bracket is wide: by the most promising ways, quick programs halve it, slow ones raise it step by step."""
        high = self._goal if self._goal - self.proven >= wide else self.proven
        while high > self.proven and self._goal - self.proven >= (wide if effort.nodes else 1) and self._budget.left_seconds() > 0:
            middle = self.proven + 1 if effort.nodes else (self.proven + high + 1) // 2
            if not self._try(middle, effort, WAYS_FIRST if wide == WIDE else None):
                high = middle - 1

    def _search(self, *efforts: Effort) -> None:
        """Every way, from the upper bound down."""
        for failures in range(self._goal, self.proven, -1):
            if any(self._try(failures, effort) for effort in efforts):
                return

    def _try(self, failures: int, effort: Effort, most: int | None = None) -> bool:
        for way in islice(self._ways(), most):
            if self._budget.left_seconds() <= 0:
                return False
            found = way.cut(failures, self._budget.left_seconds, effort)
            if found is not None:
                self.cut, self.proven = found, failures
                return True
        return False

    def _ways(self) -> Iterator[Splitting]:
        """The ways one after the other, each made once."""
        at = 0
        while at < len(self._splittings) or self._more():
            yield self._splittings[at]
            at += 1

    def _more(self) -> bool:
        for chains, loss in self._chains:
            self._splittings.append(Splitting(self._counted, chains, loss=loss))
            return True
        return False

    def _refute(self, budget: Budget) -> None:
        """Lower the upper bound while some critical set of that many failures cannot be packed."""
        while self.proven < self._goal:
            breaking = next((groups for groups in pack.critical_sets(self._counted, self._goal) if self._breaks(groups, budget)), None)
            if breaking is None:
                return
            self.upper = self._goal - 1
            self.ceiling = bounds.Ceiling(
                self.upper, breaking, "what would need a place does not fit into what would be left, however packed"
            )

    def _breaks(self, groups: tuple[int, ...], budget: Budget) -> bool:
        seconds = budget.left_seconds()
        return seconds > 0 and pack.unpackable(self._counted, groups, seconds) is True


def _ways(counted: tally.Tally) -> Iterator[tuple[Sequence[Chain], float]]:
    """Sets of chains to try, and how much rounding a VM's binding may cost; the most promising first."""
    volume = dict.fromkeys(counted.sizes, 0)
    for counts in (*(c for per_host in counted.own.values() for c in per_host), *counted.off.values()):
        for size, number in counts.items():
            volume[size] += size * number
    singles = tuple((size,) for size in counted.sizes)
    if len(counted.kinds) > 1:  # every set of allowed hosts has zones of its own: few chains then lose less
        yield cover(volume, loss=LOOSE), LOOSE
    covers: list[tuple[Chain, ...]] = []
    for loss in LOSSES:
        chains = cover(volume, loss=loss)
        if chains not in covers:
            covers.append(chains)
            yield chains, TIGHT
    if len(singles) <= SINGLES_MOST and set(singles) != set(covers[0]):
        yield singles, LOOSE
    yield tuple(dict.fromkeys((*covers[0], *singles[-LARGEST_ALONE:]))), LOOSE
    yield from ((chains, LOOSE) for chains in covers[:2])


def _certificate(problem: Problem, counted: tally.Tally, cut: Cut, failures: int) -> Certificate:
    zones = tuple(
        Zone({name: units[i] * shape.chain[0] for i, name in enumerate(counted.names) if units[i]}, shape.chain)
        for shape, units in zip(cut.shapes, cut.units, strict=True)
    )
    still = {key: list(numbers) for key, numbers in cut.bound.items()}
    bind = {}
    for vm, key in counted.keyed(problem.vms):
        numbers = still[key]
        at = next(at for at, number in enumerate(numbers) if number)
        numbers[at] -= 1
        bind[vm.name] = at
    return Certificate(failures, zones, bind)

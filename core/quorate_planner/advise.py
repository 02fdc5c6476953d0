"""What would help a pool most: one migration, a lower number, or one VM less to protect. In words, and bounded in time.

Each option is judged like any pool: first by the quick bracket, then, if that leaves hope, by the sharp one. Nothing is advised that is
not proven to help. With more candidates than time the best one found is given and said to be that.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from quorate_planner import bounds, tally
from quorate_planner.amounts import amount
from quorate_planner.planning import Plan, plan_problem
from quorate_planner.problem import Problem, ProblemHost, ProblemVm
from quorate_planner.sharp import Budget, sharpen

QUICK_SHARE = 0.6
"""The part of the time that goes into looking at all candidates; the rest is for proving the most hopeful of them."""


@dataclass(frozen=True, slots=True)
class Migrate:
    """The VM moves to a host that has room for it now."""

    vm: str
    size: int
    source: str
    target: str
    hugepages: int = 0


@dataclass(frozen=True, slots=True)
class Unprotect:
    """The VM keeps running, on `host` or nowhere yet, but has no guarantee any more."""

    vm: str
    size: int
    host: str | None


Step = Migrate | Unprotect


@dataclass(frozen=True, slots=True)
class Option:
    """A step and what the pool is then proven to tolerate."""

    step: Step
    lower: int
    upper: int
    plan_exists: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """How thorough the search for one kind of step was, and the best step: None if no step is proven to help."""

    best: Option | None
    looked_at: int
    candidates: int
    undecided: int
    hopeless: int
    """Of those looked at, how many memory as a whole forbids: they cost no time."""

    @property
    def complete(self) -> bool:
        """Every candidate was looked at and none of those that might help was left undecided."""
        return self.looked_at == self.candidates and not self.undecided


@dataclass(frozen=True, slots=True)
class Advice:
    """`lower_wish` is the number to wish for so that a plan exists; None if one exists, or if none does for any number."""

    plan: Plan
    why_not_higher: str
    lower_wish: int | None
    migration: Looked
    unprotect: Looked


def advise(problem: Problem, plan: Plan, budget: Budget, closed: frozenset[str] = frozenset()) -> Advice:
    """Advice for a pool with that plan. `closed` are hosts that take no VM: memory that a migration frees there counts for nothing."""
    half = Budget.of(budget.clock, budget.left_seconds() / 2)

    def changed(step: Step) -> Problem:
        return after(problem, step, closed)

    volume = _Volume(problem)
    moves, singles = migrations(problem, plan), _unprotections(problem, plan)
    if volume.most(None) <= _proven(plan):
        number = _migrations_count(problem)
        migration = Looked(None, number, number, 0, number)
    else:
        migration = _look(problem, plan, moves, _migrations_count(problem), changed, volume, half)
    unprotect = _look(problem, plan, singles, len(_one_of_each(problem.vms)), changed, volume, budget)
    lower_wish = plan.lower if plan.waiting_placed and not plan.plan_exists else None
    return Advice(plan, why_not_higher(plan), lower_wish, migration, unprotect)


def why_not_higher(plan: Plan) -> str:
    """Why the number is what it is, in a sentence."""
    if plan.hosts == 0:
        return "the pool has no hosts"
    few = f"the pool has only {plan.hosts} host{'' if plan.hosts == 1 else 's'}; " if plan.host_failures_to_tolerate > plan.hosts else ""
    return few + _why(plan)


def _why(plan: Plan) -> str:
    if plan.witness is None:
        return "nothing is protected, so no failure can break anything" if not plan.protected_vms else "every host may fail"
    if plan.exact:
        return plan.witness.reason
    undecided = f"{plan.lower + 1}" if plan.upper == plan.lower + 1 else f"{plan.lower + 1} to {plan.upper}"
    return (
        f"{plan.lower} is proven; for {undecided} neither a proof nor a counterexample was found in the time; beyond, {plan.witness.reason}"
    )


def after(problem: Problem, step: Step, closed: frozenset[str] = frozenset()) -> Problem:
    """The problem once the step is done."""
    match step:
        case Migrate(name, size, source, target, hugepages):
            gain = {source: 0 if source in closed else 1, target: -1}
            return replace(
                problem,
                hosts=tuple(
                    host._replace(
                        free=host.free + gain.get(host.name, 0) * size, hugepages=host.hugepages + gain.get(host.name, 0) * hugepages
                    )
                    for host in problem.hosts
                ),
                vms=tuple(vm._replace(host=target) if vm.name == name else vm for vm in problem.vms),
            )
        case Unprotect(name):
            return replace(problem, vms=tuple(vm for vm in problem.vms if vm.name != name))
    assert_never(step)


class _Volume:
    """What memory as a whole allows after a step, without looking at the pool again: most steps are settled by this.

    A migration changes nothing here: what the VM's host gains in free memory it loses in load, and the target the other way round.
    """

    def __init__(self, problem: Problem) -> None:
        counted = tally.count(problem)
        self._group = dict(zip(counted.names, counted.group, strict=True))
        load = dict.fromkeys(counted.names, 0)
        waiting = 0
        for vm in problem.vms:
            if vm.host is None:
                waiting += vm.size
            else:
                load[vm.host] += vm.size
        self._values = counted.by_group(free + load[name] for name, free in zip(counted.names, counted.free, strict=True))
        self._budget = sum(counted.free) - waiting

    def most(self, step: Step | None) -> int:
        """No more failures than this are tolerated after the step; None: as things are."""
        values, budget = list(self._values), self._budget
        match step:
            case None | Migrate():
                pass
            case Unprotect(_, size, host):
                if host is None:
                    budget += size
                else:
                    values[self._group[host]] -= size
        return bounds.covered(values, budget)


def _look(
    problem: Problem,
    plan: Plan,
    steps: Iterator[Step],
    candidates: int,
    changed: Callable[[Step], Problem],
    volume: _Volume,
    budget: Budget,
) -> Looked:
    """All candidates by the quick bracket while there is time, then the hopeful ones by the sharp bracket, the most hopeful first."""
    now = _proven(plan)
    enough = problem.wish if now < problem.wish else len(problem.hosts)

    def worth(found: Plan, step: Step) -> tuple[int, int, int, str]:
        """Smaller is better: what is proven, what is possible, how much memory is concerned."""
        return -min(_proven(found), enough), -min(found.upper, enough), step.size, step.vm

    quick = Budget.of(budget.clock, budget.left_seconds() * QUICK_SHARE)
    hopeful: list[tuple[tuple[int, int, int, str], int, Step, Plan]] = []
    looked_at = hopeless = 0
    while quick.left_seconds() > 0 and (step := next(steps, None)) is not None:
        looked_at += 1
        if volume.most(step) <= now:
            hopeless += 1
            continue
        found = plan_problem(changed(step))
        if found.upper > now:
            hopeful.append((worth(found, step), looked_at, step, found))
    best: tuple[tuple[int, int, int, str], Option] | None = None
    open_: list[tuple[int, int, str]] = []
    for key, _, step, found in sorted(hopeful, key=lambda each: each[:2]):
        if best is not None and key[1:] >= (best[0][0], *best[0][2:]):
            continue  # even its upper bound is no better than what is proven of another
        if not found.exact and budget.left_seconds() > 0:
            found = sharpen(changed(step), Budget.of(budget.clock, budget.left_seconds() / 2)).plan
        key = worth(found, step)
        if _proven(found) > now and (best is None or key < best[0]):
            best = key, Option(step, found.lower, found.upper, _proven(found) >= problem.wish)
        if not found.exact and found.upper > now:
            open_.append(key[1:])
    undecided = sum(best is None or could < (best[0][0], *best[0][2:]) for could in open_)
    return Looked(best[1] if best else None, looked_at, candidates, undecided, hopeless)


def _proven(plan: Plan) -> int:
    return plan.lower if plan.waiting_placed else -1


def migrations(problem: Problem, plan: Plan) -> Iterator[Migrate]:
    """One VM of each size on each host to each other host with room: first each VM's emptiest target, then its next, and so on."""
    failing = frozenset(plan.witness.failed_hosts if plan.witness else ())
    roomy = sorted(problem.hosts, key=lambda host: (-host.free, host.name))
    ordered = sorted(_one_of_each(problem.vms), key=lambda vm: (vm.host not in failing, -vm.size, vm.name))
    labels = _labels(problem)
    waves = [_targets(vm, roomy, labels) for vm in ordered if vm.host is not None]
    while waves:
        for targets in list(waves):
            step = next(targets, None)
            if step is None:
                waves.remove(targets)
            else:
                yield step


def _targets(vm: ProblemVm, hosts: Sequence[ProblemHost], labels: Mapping[str, frozenset[str]]) -> Iterator[Migrate]:
    for host in hosts:
        room = host.free >= vm.size and host.hugepages >= vm.hugepages and (vm.allowed is None or host.name in vm.allowed)
        if vm.host is not None and host.name != vm.host and room and not vm.apart & labels[host.name]:
            yield Migrate(vm.name, vm.size, vm.host, host.name, vm.hugepages)


def _labels(problem: Problem) -> Mapping[str, frozenset[str]]:
    """The labels of `apart` on each host: a VM with one of them may not go there."""
    found: dict[str, frozenset[str]] = {host.name: frozenset() for host in problem.hosts}
    for vm in problem.vms:
        if vm.host is not None and vm.apart:
            found[vm.host] |= vm.apart
    return found


def _migrations_count(problem: Problem) -> int:
    """How many there are, without making them where memory alone decides."""
    free = sorted(host.free for host in problem.hosts)
    at = {host.name: host.free for host in problem.hosts}
    labels = _labels(problem)
    number = 0
    for vm in _one_of_each(problem.vms):
        if vm.host is None:
            continue
        if vm.allowed is None and not vm.hugepages and not vm.apart:
            number += len(free) - bisect_left(free, vm.size) - (at[vm.host] >= vm.size)
        else:
            number += sum(1 for _ in _targets(vm, problem.hosts, labels))
    return number


def _unprotections(problem: Problem, plan: Plan) -> Iterator[Unprotect]:
    """One VM of each size on each host, those that the witness names first."""
    named = frozenset(plan.witness.unplaceable if plan.witness else ())
    failing = frozenset(plan.witness.failed_hosts if plan.witness else ())
    ordered = sorted(_one_of_each(problem.vms), key=lambda vm: (vm.name not in named, vm.host not in failing, -vm.size, vm.name))
    yield from (Unprotect(vm.name, vm.size, vm.host) for vm in ordered)


def _one_of_each(vms: Sequence[ProblemVm]) -> list[ProblemVm]:
    """VMs that differ in name and priority only are the same to the planner."""
    seen: dict[ProblemVm, ProblemVm] = {}
    for vm in vms:
        seen.setdefault(vm._replace(name="", priority=0), vm)
    return list(seen.values())


def sentences(advice: Advice) -> list[str]:
    """The advice for people: why the number is not higher, and one sentence for each kind of step."""
    plan = advice.plan
    lines = [f"why not more: {advice.why_not_higher}"]
    if advice.lower_wish is not None:
        lines.append(f"a lower number: wish for {advice.lower_wish} instead of {plan.host_failures_to_tolerate}, for which a plan exists")
    elif not plan.plan_exists:
        lines.append("a lower number does not help: VMs that wait to be started are not sure of a place as it is")
    lines.append(_words("migration", advice.migration))
    lines.append(_words("VM without protection", advice.unprotect))
    return lines


def _words(kind: str, looked: Looked) -> str:
    if not looked.candidates:
        return f"there is no {kind} to look at"
    if looked.best is None:
        if looked.hopeless == looked.candidates:
            return f"no single {kind} helps: memory as a whole is short"
        if looked.complete:
            return f"no single {kind} helps: none of {looked.candidates} does"
        so_far = f"{looked.looked_at} of {looked.candidates} looked at, {looked.undecided} of them undecided"
        return f"no single {kind} that helps was found in the time: {so_far}"
    option = looked.best
    number = str(option.lower) if option.lower == option.upper else f"{option.lower} to {option.upper}"
    match option.step:
        case Migrate(vm, size, source, target):
            what = f"migrate {vm} ({amount(size)}) from {source} to {target}"
        case Unprotect(vm, size, host):
            what = f"unprotect {vm} ({amount(size)}, {'waiting' if host is None else f'on {host}'})"
        case _:
            assert_never(option.step)
    how = f"the best of all {looked.candidates}" if looked.complete else f"{looked.looked_at} of {looked.candidates} looked at in the time"
    return f"{what}: then at most {number} tolerated, {'a plan exists' if option.plan_exists else 'still no plan'} ({how})"


def advice_json(advice: Advice) -> dict[str, Any]:
    """The advice in the form of `quorate plan --advise -o json`."""
    return {
        "whyNotHigher": advice.why_not_higher,
        "lowerWish": advice.lower_wish,
        "migration": _looked_json(advice.migration),
        "unprotect": _looked_json(advice.unprotect),
        "sentences": sentences(advice),
    }


def _looked_json(looked: Looked) -> dict[str, Any]:
    best: dict[str, Any] | None = None
    if looked.best is not None:
        option = looked.best
        tolerates = {"lower": option.lower, "upper": option.upper, "exact": option.lower == option.upper}
        match option.step:
            case Migrate(vm, size, source, target):
                best = {"vm": vm, "sizeBytes": size, "from": source, "to": target}
            case Unprotect(vm, size, host):
                best = {"vm": vm, "sizeBytes": size, "host": host}
            case _:
                assert_never(option.step)
        best |= {"maxHostFailuresToTolerate": tolerates, "planExists": option.plan_exists}
    return {"best": best, "lookedAt": looked.looked_at, "candidates": looked.candidates, "complete": looked.complete}

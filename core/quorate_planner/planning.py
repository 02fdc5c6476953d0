"""The planner's questions: how many failures are covered, where does what restart, where may a VM be started.

The answer is a bracket. `lower` is proven: by the zone rule with one chain, or by the bound for any rule that tries every host.
`upper` is proven too: by counting. What runs at a failure (`restart_targets`) is the rule that was proven, run on what is then seen.
Failure domains: hosts of one domain fail together and count once; a host without a domain is a domain of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from quorate_core.facts import Protection, Snapshot, Vm
from quorate_planner import bounds, change, facts, tally, zone
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.witness import Witness, witness_of


@dataclass(frozen=True)
class Plan:
    """What a pool tolerates. The true number is at least `lower` and at most `upper`; `exact` says that they meet.

    `plan_exists`: the wish is proven. `waiting_placed`: each protected VM that waits to be placed is sure of a place now;
    where it is false, no plan exists, whatever the wish. `witness` is the smallest failing set known, None if nothing ever fails.
    `placements[host][vm]` is where each protected VM of that host restarts if that host alone fails now.
    """

    pool: str
    hosts: int
    protected_vms: int
    host_failures_to_tolerate: int
    lower: int
    upper: int
    exact: bool
    plan_exists: bool
    overcommitted: bool
    witness: Witness | None = None
    placements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    waiting_placed: bool = True


def plan(snapshot: Snapshot, *, tolerate: int | None = None) -> Plan:
    """The plan of a pool; `tolerate` asks for another number than the pool's wish."""
    return plan_problem(facts.problem_of(snapshot, tolerate=tolerate))


def plan_problem(problem: Problem) -> Plan:
    """The plan of a bare planning problem."""
    counted = tally.count(problem)
    ceiling = bounds.ceiling(counted)
    upper = len(problem.hosts) if ceiling is None else ceiling.most
    lower = len(problem.hosts) if ceiling is None else _lower(counted, upper)
    wish = problem.wish
    exists = lower >= wish
    return Plan(
        pool=problem.pool,
        hosts=len(problem.hosts),
        protected_vms=len(problem.vms),
        host_failures_to_tolerate=wish,
        lower=max(0, lower),
        upper=max(0, upper),
        exact=lower == upper,
        plan_exists=exists,
        overcommitted=not exists,
        witness=None if ceiling is None else witness_of(problem, counted, ceiling),
        placements=Placements(problem, counted),
        waiting_placed=lower >= 0,
    )


def holds(snapshot: Snapshot, k: int) -> bool:
    """Whether it is proven that the pool tolerates k host failures."""
    problem = facts.problem_of(snapshot)
    if not problem.vms:
        return k <= len(problem.hosts)
    return _lower(tally.count(problem), k) >= k


def start_hosts(snapshot: Snapshot, vm: Vm, k: int) -> tuple[str, ...]:
    """Hosts on which the VM fits and, once it is started there, k failures are still covered; the one with most memory left first."""
    rest = change.apply(snapshot, change.RemoveVm(vm.key)) if snapshot.vm(vm.key) is not None else snapshot
    problem = facts.problem_of(rest)
    size, protected = max(1, vm.size_bytes), vm.protection is Protection.PROTECTED
    allowed = facts.planned(vm, frozenset(host.name for host in problem.hosts)).allowed
    before = tally.count(problem)
    fitting = []
    for i, host in enumerate(problem.hosts):
        if host.free < size or (allowed is not None and host.name not in allowed):
            continue
        after = before.with_running(size, i, allowed, protected=protected)
        if after.sizes == () or _lower(after, k) >= k:
            fitting.append((size - host.free, host.name))
    return tuple(name for _, name in sorted(fitting))


def restart_targets(snapshot: Snapshot, vms: Sequence[Vm]) -> Mapping[str, str | None]:
    """Where VMs of failed hosts restart, placed in the given order; None: no host that the VM may use has room now.

    `snapshot.hosts` are the survivors with their present free memory. What was already sent to a host but has no pod there yet must
    be in that host's used memory. Protected VMs of the snapshot that wait and are not in `vms` are still counted as waiting.
    """
    names = frozenset(host.name for host in snapshot.hosts)
    moving = {vm.key for vm in vms}
    problem = facts.problem_of(snapshot)
    certain = tuple(facts.planned(vm, names)._replace(host=None) for vm in vms if vm.protection is Protection.PROTECTED and vm.should_run)
    problem = Problem(problem.hosts, (*(vm for vm in problem.vms if vm.name not in moving), *certain), problem.wish, problem.pool)
    return _targets(tally.count(problem), [facts.planned(vm, names) for vm in vms])


def _targets(counted: tally.Tally, vms: Sequence[ProblemVm]) -> dict[str, str | None]:
    """Every choice is made by the chain that certifies most now: at least what was certified before, less the hosts that failed."""
    chain, _ = zone.best(counted)
    placing = zone.Placing(chain, counted.names, counted.free)
    return {vm.name: placing.place(vm.size, vm.allowed) for vm in vms}


class Placements(Mapping[str, Mapping[str, str]]):
    """For each host with protected VMs, where they restart if it alone fails now; worked out when asked for.

    A VM that has no place then is missing. VMs that wait now are taken as still waiting, and restart after those of the host.
    """

    def __init__(self, problem: Problem, counted: tally.Tally) -> None:
        self._counted = counted
        self._vms: dict[str, list[ProblemVm]] = {}
        for vm in problem.vms:
            if vm.host is not None:
                self._vms.setdefault(vm.host, []).append(vm)
        self._known: dict[str, Mapping[str, str]] = {}

    def __getitem__(self, host: str) -> Mapping[str, str]:
        if host not in self._known:
            self._known[host] = self._after(host, self._vms[host])
        return self._known[host]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._vms))

    def __len__(self) -> int:
        return len(self._vms)

    def __repr__(self) -> str:
        return f"Placements({dict(self)!r})"

    def _after(self, host: str, vms: Sequence[ProblemVm]) -> Mapping[str, str]:
        failed = self._counted.without(self._counted.names.index(host))
        ordered = sorted(vms, key=lambda vm: (vm.priority, vm.name))
        return {name: target for name, target in _targets(failed, ordered).items() if target is not None}


def _lower(counted: tally.Tally, enough: int) -> int:
    """The proven number; stops looking once it is `enough`."""
    _, by_zone = zone.best(counted, enough=enough)
    return by_zone if by_zone >= enough else max(by_zone, bounds.any_fit_floor(counted))

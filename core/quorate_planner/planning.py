"""The planner's questions: how many failures are covered, where does what restart, where may a VM be started.

The answer is a bracket. `lower` is proven: by the layout that the pool keeps, by the zone rule with one chain, or by the bound for any
rule that tries every host. `upper` is proven too: by counting. What runs at a failure (`targets`) is the rule that was proven.
Failure domains: hosts of one domain fail together and count once; a host without a domain is a domain of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from quorate_core.facts import Host, Protection, Snapshot, Vm
from quorate_core.layout import Layout
from quorate_planner import bounds, change, extras, facts, listing, lists, tally
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.proof import Proof
from quorate_planner.targets import Placements, plain_floor
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


def plan(snapshot: Snapshot, *, tolerate: int | None = None, planned: Mapping[str, str] | None = None) -> Plan:
    """The plan of a pool; `tolerate` asks for another number than the pool's wish. `planned`: hosts announced before, by VM."""
    return plan_problem(facts.problem_of(snapshot, tolerate=tolerate), snapshot.layout, planned)


def plan_problem(problem: Problem, layout: Layout | None = None, planned: Mapping[str, str] | None = None) -> Plan:
    """The plan of a bare planning problem; `layout` is how its memory is set aside already, if it is."""
    counted = tally.count(problem)
    measure, ceiling = _ceiling(problem, counted)
    upper = len(problem.hosts) if ceiling is None else ceiling.most
    proof = None if layout is None or not problem.vms else Proof(problem, layout, 0)
    listed = -1 if layout is None else lists.certified(problem, layout.lists)
    kept = max(listed, -1 if proof is None else proof.certified())
    lower = len(problem.hosts) if ceiling is None else kept if kept >= upper else max(kept, plain_floor(counted, upper))
    wish = problem.wish
    exists = lower >= wish
    zoned = proof if listed < kept and kept >= lower else None
    listing_kept = layout.lists if layout is not None and listed >= max(0, lower) else None
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
        witness=None if ceiling is None else witness_of(measure, tally.count(measure) if counted.extras else counted, ceiling),
        placements=Placements(problem, counted, zoned, listing_kept, planned),
        waiting_placed=lower >= 0,
    )


def _ceiling(problem: Problem, counted: tally.Tally) -> tuple[Problem, bounds.Ceiling | None]:
    """The lowest upper bound, and the ordinary problem that it is about: the problem itself, unless memory alone does not say it all."""
    if not counted.extras:
        return problem, bounds.ceiling(counted)
    found = []
    for what, part in extras.measures(problem):
        ceiling = bounds.ceiling(tally.count(part))
        found.append((part, replace(ceiling, why=f"{ceiling.why} (counted {what})") if what and ceiling is not None else ceiling))
    return min(found, key=lambda pair: len(problem.hosts) if pair[1] is None else pair[1].most)


def holds(snapshot: Snapshot, k: int) -> bool:
    """Whether it is proven that the pool tolerates k host failures."""
    problem = facts.problem_of(snapshot)
    if not problem.vms:
        return k <= len(problem.hosts)
    if snapshot.layout is not None and (
        Proof(problem, snapshot.layout, k).holds or lists.certified(problem, snapshot.layout.lists) >= k >= 0
    ):
        return True
    return plain_floor(tally.count(problem), k) >= k


def start_hosts(snapshot: Snapshot, vm: Vm, k: int) -> tuple[str, ...]:
    """Hosts on which the VM fits and, once it is started there, k failures are still covered; the one with most memory left first.

    For a VM with hugepages, or one that must not be beside others, only the first of them.
    """
    rest = change.apply(snapshot, change.RemoveVm(vm.key)) if snapshot.vm(vm.key) is not None else snapshot
    problem = facts.problem_of(rest)
    if vm.apart or vm.hugepages_bytes:
        usable = sorted((h for h in rest.hosts if usable_for(rest, vm, h)), key=lambda host: (-host.free_bytes, host.name))
        return tuple(islice((h.name for h in usable if holds(started(rest, vm, h.name), k)), 1))
    planned = facts.planned(vm, frozenset(host.name for host in problem.hosts))
    size, protected, allowed = planned.size, vm.protection is Protection.PROTECTED, planned.allowed
    before = tally.count(problem)
    proof = None if snapshot.layout is None else Proof(problem, snapshot.layout, k)
    fitting = []
    for i, host in enumerate(problem.hosts):
        if host.free < size or (allowed is not None and host.name not in allowed):
            continue
        after = before.with_running(size, i, allowed, protected=protected)
        kept = proof is not None and proof.changed(
            {vm.key: planned._replace(host=host.name)} if protected else {}, {host.name: host.free - size}
        )
        if (kept and kept.holds) or after.sizes == () or plain_floor(after, k) >= k:
            fitting.append((size - host.free, host.name))
    if not fitting and protected and snapshot.layout is not None and snapshot.layout.lists:
        return _by_lists(problem, planned, snapshot.layout.lists, k)
    return tuple(name for _, name in sorted(fitting))


def _by_lists(problem: Problem, vm: ProblemVm, known: lists.Lists, k: int) -> tuple[str, ...]:
    """The host with most memory left on which lists cover k failures once the VM is started there, if there is one."""
    for host in sorted(problem.hosts, key=lambda host: (-host.free, host.name)):
        if host.free >= vm.size and (vm.allowed is None or host.name in vm.allowed):
            hosts = tuple(h._replace(free=h.free - vm.size) if h is host else h for h in problem.hosts)
            after = Problem(hosts, (*problem.vms, vm._replace(host=host.name)), k)
            if lists.certified(after, listing.completed(after, known, k)) >= k:
                return (host.name,)
    return ()


def usable_for(snapshot: Snapshot, vm: Vm, host: Host) -> bool:
    """Whether the VM may be started on that host now: it fits, may run there, and nobody is there whom it must not be beside."""
    may = not vm.not_agile or vm.protection is not Protection.PROTECTED
    return host.accepts_vms and may and vm.may_run_on(host.name) and host.has_room_for(vm) and snapshot.beside(vm, host.name) is None


def started(snapshot: Snapshot, vm: Vm, host: str) -> Snapshot:
    """The pool once the VM, which it may know already as waiting, runs on that host."""
    rest = change.apply(snapshot, change.RemoveVm(vm.key)) if snapshot.vm(vm.key) is not None else snapshot
    return change.apply(rest, change.AddVm(replace(vm, host=host, should_run=True)))

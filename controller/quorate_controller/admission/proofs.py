"""What admission has proven last, kept for the next question.

Each replica keeps one proof per pool. Before it answers, the proof is brought to exactly the snapshot in question: every VM and every
host that differs is changed in it, so an answer never rests on a pool that was. What the proof does not show goes on to the
planner's slower steps, and to a search with what is left of the batch's time: one hard question must not hold up all others.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import quorate_planner as planner
from quorate_core.facts import Host, Protection, Snapshot, Vm
from quorate_core.layout import Layout
from quorate_planner import Answer, Budget, Problem, ProblemVm, Proof

SEARCH_SECONDS = 1.5
"""What all searches of one batch may take together; the answer has to be there after `server.VALIDATE_SECONDS`."""
PAUSE_SECONDS = 60.0
"""After a search that did not show the wish of a pool as it is, until the next one for that."""
HOSTS_TRIED = 8
"""Hosts that the kept proof is asked about before the slower steps."""
HOSTS_PROVEN_ANEW = 3
"""The same where each of them is proven from the start."""
BOUND_ANEW_MOST = 100
"""Where the layout has more VMs in other zones, all is proven from the start."""


@dataclass(frozen=True, slots=True)
class _Known:
    snapshot: Snapshot
    layout: Layout
    proof: Proof


class Proofs:
    """The proofs of one replica. Used by one thread at a time."""

    def __init__(self, *, search_seconds: float = SEARCH_SECONDS) -> None:
        self._known: dict[str, _Known] = {}
        self._found: dict[str, Layout] = {}
        self._search_again_at: dict[str, float] = {}
        self._search_seconds = search_seconds
        self._budget = Budget.of(time.monotonic, search_seconds)

    def begin(self) -> None:
        """A batch begins: its searches may take their time."""
        self._budget = Budget.of(time.monotonic, self._search_seconds)

    def kept(self, snapshot: Snapshot, k: int) -> bool:
        """Whether the kept proof shows that the pool survives k failures; no is no answer."""
        proof = self._proof(snapshot, k)
        return proof is not None and proof.holds

    def holds(self, snapshot: Snapshot, k: int) -> bool:
        """Whether it is proven, in the time there is, that the pool survives k failures."""
        if self.kept(snapshot, k):
            return True
        problem = planner.problem_of(snapshot)
        if not problem.vms:
            return k <= len(problem.hosts)
        return self._proven(snapshot, problem, k, self._budget)

    def achieved(self, snapshot: Snapshot, k: int) -> bool:
        """Whether the pool as it is survives k failures. Searched for too: else what a search has let in would lower the number."""
        if self.kept(snapshot, k) or planner.holds(snapshot, k):
            return True
        pool, now = snapshot.pool.name, time.monotonic()
        may_search = now >= self._search_again_at.get(pool, now) and self._budget.left_seconds() > 0
        found = self._proven(snapshot, planner.problem_of(snapshot), k, self._budget if may_search else None)
        if may_search and not found:
            self._search_again_at[pool] = now + PAUSE_SECONDS
        return found

    def _proven(self, snapshot: Snapshot, problem: Problem, k: int, budget: Budget | None) -> bool:
        """By zones that a search has found, by the pool's own, or by new ones: remembered, for the leader writes down its own later."""
        pool = snapshot.pool.name
        found = self._found.get(pool)
        if found is not None and Proof(problem, found, k).holds:
            return True
        judged = planner.prove(problem, k, snapshot.layout, budget)
        if judged.proof is not None:
            self._found[pool] = judged.proof.layout()
        return judged.answer is Answer.YES

    def start_host(self, snapshot: Snapshot, vm: Vm, k: int) -> str | None:
        """The host for a VM that has none, the one with most memory free on which k failures are still survived; None: there is none."""
        if _has_extras(vm):
            return self._start_beside(snapshot, vm, k)
        names = frozenset(host.name for host in snapshot.hosts)
        planned = planner.planned(replace(vm, host=None), names)
        usable = [h for h in snapshot.hosts if h.free_bytes >= planned.size and (planned.allowed is None or h.name in planned.allowed)]
        usable.sort(key=lambda host: (-host.free_bytes, host.name))
        if not usable:
            return None
        protected = vm.protection is Protection.PROTECTED
        proof = self._proof(snapshot, k)
        if proof is not None:
            for host in usable[:HOSTS_TRIED]:
                if _started(proof, planned, host.name, protected=protected) is not None:
                    return host.name
        for name in planner.start_hosts(snapshot, vm, k):
            return name
        problem = _after(snapshot, planned, usable[0], protected=protected)
        if not problem.vms:
            return usable[0].name
        return usable[0].name if self._proven(snapshot, problem, k, self._budget) else None

    def _start_beside(self, snapshot: Snapshot, vm: Vm, k: int) -> str | None:
        """The same for a VM with hugepages, or one that must not be beside others: the pool after each start is proven from the start."""
        usable = [host for host in snapshot.hosts if planner.usable_for(snapshot, vm, host)]
        usable.sort(key=lambda host: (-host.free_bytes, host.name))
        pools = ((host.name, planner.started(snapshot, vm, host.name)) for host in usable[:HOSTS_PROVEN_ANEW])
        name = next((name for name, after in pools if planner.holds(after, k)), None)
        if name is not None or not usable:
            return name
        problem = planner.problem_of(planner.started(snapshot, vm, usable[0].name))
        return usable[0].name if self._proven(snapshot, problem, k, self._budget) else None

    def _proof(self, snapshot: Snapshot, k: int) -> Proof | None:
        """The proof for exactly this snapshot; None where no layout shows anything."""
        pool = snapshot.pool.name
        known = self._known.get(pool)
        if known is not None and (snapshot.layout is None or _alike(snapshot.layout, known.layout)):
            proof = _brought(known, snapshot)
            if proof is not None and (snapshot.layout is not None or proof.asking(k).holds):
                kept = snapshot.layout or known.layout
                proof = _bound_anew(proof, known.layout, kept)
                self._known[pool] = _Known(snapshot, kept, proof)
                return proof.asking(k)
        problem = planner.problem_of(snapshot)
        layout = snapshot.layout or planner.best_layout(problem, ())
        if layout is None:
            return None
        proof = Proof(problem, layout, k)
        self._known[pool] = _Known(snapshot, layout, proof)
        return proof


def _brought(known: _Known, snapshot: Snapshot) -> Proof | None:
    """The known proof with everything changed that differs; None where hosts came or went, which is proven from the start."""
    before, after = known.snapshot, snapshot
    if [_frame(host) for host in before.hosts] != [_frame(host) for host in after.hosts]:
        return None
    if before.pool.failure_domain_key != after.pool.failure_domain_key:
        return None
    names = frozenset(host.name for host in after.hosts)
    old = {vm.key: vm for vm in before.vms}
    vms: dict[str, ProblemVm | None] = {}
    for vm in after.vms:
        was = old.pop(vm.key, None)
        if was is not vm and was != vm:
            if _has_extras(vm) or (was is not None and _has_extras(was)):
                return None
            counts = vm.protection is Protection.PROTECTED and vm.should_run
            vms[vm.key] = planner.planned(vm, names) if counts else None
    if any(_has_extras(gone) for gone in old.values()):
        return None
    vms |= dict.fromkeys(old)
    free: Mapping[str, int] = {
        a.name: a.free_bytes for b, a in zip(before.hosts, after.hosts, strict=True) if b is not a and b.free_bytes != a.free_bytes
    }
    return known.proof.changed(vms, free) if vms or free else known.proof


def _frame(host: Host) -> tuple[object, ...]:
    """What no proof of before outlasts."""
    return host.name, host.domain, host.free_hugepages_bytes, host.apart


def _has_extras(vm: Vm) -> bool:
    """Whether memory alone does not say what a change of it does to the others."""
    return vm.hugepages_bytes > 0 or bool(vm.apart)


def _alike(one: Layout, other: Layout) -> bool:
    """Whether they differ in nothing but the zones of a few VMs: the leader writes those down after each start."""
    if one.bind == other.bind:
        return one == other
    return replace(one, bind={}) == replace(other, bind={}) and len(one.bind.items() ^ other.bind.items()) <= BOUND_ANEW_MOST


def _bound_anew(proof: Proof, before: Layout, after: Layout) -> Proof:
    """The proof with those VMs in other zones that the layout has in other zones."""
    if before.bind is after.bind or before.bind == after.bind:
        return proof
    if proof.has_extras:
        return Proof(proof.problem(), after, proof.failures)
    for key, zone in sorted(after.bind.items() - before.bind.items()):
        vm = proof.vms.get(key)
        if vm is not None and proof.bind.get(key) != zone and 0 <= zone < len(proof.chains):
            proof = proof.changed({key: None}, {}).changed({key: vm}, {}, prefer=zone)
    return proof


def _started(proof: Proof, vm: ProblemVm, host: str, *, protected: bool) -> Proof | None:
    if protected:
        return planner.start(proof, vm, host)
    after = proof.changed({vm.name: None}, {host: proof.free[proof.index[host]] - vm.size})
    return after if after.holds else None


def _after(snapshot: Snapshot, vm: ProblemVm, host: Host, *, protected: bool) -> Problem:
    problem = planner.problem_of(snapshot)
    hosts = tuple(h._replace(free=h.free - vm.size) if h.name == host.name else h for h in problem.hosts)
    rest = tuple(v for v in problem.vms if v.name != vm.name)
    return replace(problem, hosts=hosts, vms=(*rest, vm._replace(host=host.name)) if protected else rest)

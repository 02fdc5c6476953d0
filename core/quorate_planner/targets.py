"""Where VMs restart: the zone rule, run on the zones that were proven. What runs at a failure is this, and nothing else.

With a layout whose zones still hold for the VMs that wait, each VM takes a block of its zone; with one of lists that show no less than
any other rule, the first living host of its list; without either, the one chain that certifies most now is used. With zones or one chain a
VM for which the rule has no block takes any host with room: that is beyond what zones promise, and it is what the bound for any rule that
tries every host asks for.

The rule leaves choices open: among the hosts with a block of the right level it takes the one that was planned, else the one with
the fewest restarts, then the one with the most memory left.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence

from quorate_core.facts import Protection, Snapshot, Vm
from quorate_core.layout import Layout
from quorate_planner import bounds, facts, lists, tally, zone
from quorate_planner.certificate import Zone
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.proof import Proof


def restart_targets(snapshot: Snapshot, vms: Sequence[Vm], planned: Mapping[str, str] | None = None) -> Mapping[str, str | None]:
    """Where VMs of failed hosts restart, placed in the given order; None: no host that the VM may use has room now.

    `snapshot.hosts` are the survivors with their present free memory. What was already sent to a host but has no pod there yet must
    be in that host's used memory. Protected VMs of the snapshot that wait and are not in `vms` are still counted as waiting.
    `planned` are hosts that were announced; each is kept where the rule allows it.
    """
    names = frozenset(host.name for host in snapshot.hosts)
    moving = {vm.key for vm in vms}
    problem = facts.problem_of(snapshot)
    certain = tuple(facts.planned(vm, names)._replace(host=None) for vm in vms if vm.protection is Protection.PROTECTED and vm.should_run)
    problem = Problem(problem.hosts, (*(vm for vm in problem.vms if vm.name not in moving), *certain), problem.wish, problem.pool)
    return targets(problem, snapshot.layout, [facts.planned(vm, names) for vm in vms], planned or {})


def targets(problem: Problem, layout: Layout | None, vms: Sequence[ProblemVm], planned: Mapping[str, str]) -> dict[str, str | None]:
    """The same for a bare problem, in which the VMs of failed hosts already wait."""
    return _placed(_restarts(problem, layout), vms, planned)


def _restarts(problem: Problem, layout: Layout | None) -> "Restarts | lists.Listed":
    counted = tally.count(problem)
    if layout is not None and layout.lists:
        moves = lists.Moves(problem, layout.lists)
        certified = moves.certified()
        if certified >= max(0, zone.best(counted)[1], bounds.any_fit_floor(counted)):
            return lists.Listed(layout.lists, dict(zip(moves.names, moves.free, strict=True)), moves.kept(certified))
    elif layout is not None:
        proof = Proof(problem, layout, 0)
        if proof.certified() >= 0:
            return of_proof(proof)
    return _plain(problem, counted)


def of_proof(proof: Proof, without: str | None = None) -> "Restarts":
    """The rule on the zones of a proof; `without` is a host that has failed."""
    zones = proof.certificate().zones
    if without is not None:
        zones = tuple(Zone({name: amount for name, amount in z.memory.items() if name != without}, z.chain) for z in zones)
    free = {name: amount for name, amount in zip(proof.names, proof.free, strict=True) if name != without}
    return Restarts(zones, proof.bind, free)


def _plain(problem: Problem, counted: tally.Tally) -> "Restarts":
    """All memory in one zone, with the chain that certifies most: every VM is of that zone, whatever is promised to it."""
    chain, _ = zone.best(counted)
    free = {host.name: host.free for host in problem.hosts}
    return Restarts((Zone(free, chain),), None, free)


def _placed(restarts: "Restarts | lists.Listed", vms: Sequence[ProblemVm], planned: Mapping[str, str]) -> dict[str, str | None]:
    return {vm.name: restarts.place(vm, planned.get(vm.name)) for vm in vms}


class Restarts:
    """Hosts during a restart: what is left in their zones and in all. Mutable, lives for one decision.

    `bind` None: every VM belongs to the first zone.
    """

    def __init__(self, zones: Sequence[Zone], bind: Mapping[str, int] | None, free: Mapping[str, int]) -> None:
        self._zones = zones
        self._bind = bind
        self._names = tuple(sorted(free))
        self._free = [free[name] for name in self._names]
        self._left = [[zone.memory.get(name, 0) for name in self._names] for zone in zones]
        self._taken = [0] * len(self._names)
        self._with_block: list[list[set[int]]] = [[set() for _ in zone.chain or ()] for zone in zones]
        for at in range(len(zones)):
            for i in range(len(self._names)):
                self._sort_in(at, i)

    def place(self, vm: ProblemVm, planned: str | None = None) -> str | None:
        """Give a VM its host and take the memory; None if no host that it may use has enough."""
        at = 0 if self._bind is None else self._bind.get(vm.name)
        hosts = self._by_rule(at, vm.size, vm.allowed) if at is not None else self._outside(vm.size, vm.allowed)
        if hosts:
            i = min(hosts, key=lambda i: (self._names[i] != planned, self._taken[i], -self._free[i], i))
        else:
            found = self._tightest(vm.size, vm.allowed)
            if found is None:
                return None
            i = found
        self._take(i, at, vm.size)
        return self._names[i]

    def _by_rule(self, at: int, size: int, allowed: Collection[str] | None) -> Collection[int]:
        chain = self._zones[at].chain
        left, names = self._left[at], self._names
        if chain is None:
            return [i for i, amount in enumerate(left) if amount >= size and (allowed is None or names[i] in allowed)]
        for hosts in self._with_block[at][bisect_left(chain, size) :]:
            usable = hosts if allowed is None else [i for i in hosts if names[i] in allowed]
            if usable:
                return usable
        return ()

    def _outside(self, size: int, allowed: Collection[str] | None) -> Collection[int]:
        """Hosts with room for a VM that no zone keeps memory for, in what no zone has set aside."""
        spare = [free - sum(left[i] for left in self._left) for i, free in enumerate(self._free)]
        return [i for i, amount in enumerate(spare) if amount >= size and (allowed is None or self._names[i] in allowed)]

    def _tightest(self, size: int, allowed: Collection[str] | None) -> int | None:
        fitting = [(free, i) for i, free in enumerate(self._free) if free >= size and (allowed is None or self._names[i] in allowed)]
        return min(fitting)[1] if fitting else None

    def _take(self, i: int, at: int | None, size: int) -> None:
        self._free[i] -= size
        self._taken[i] += 1
        if at is not None:
            chain = self._zones[at].chain
            level = bisect_left(chain, size) if chain is not None else 0
            block = chain[level] if chain is not None and level < len(chain) else size
            self._left[at][i] = max(0, self._left[at][i] - block)
        over = sum(left[i] for left in self._left) - self._free[i]
        for z in sorted(range(len(self._zones)), key=lambda z: (z != at, -self._left[z][i])):  # only where the rule had no block
            if over > 0:
                given = min(over, self._left[z][i])
                self._left[z][i] -= given
                over -= given
                self._sort_in(z, i)
        if at is not None:
            self._sort_in(at, i)

    def _sort_in(self, at: int, i: int) -> None:
        chain, rest = self._zones[at].chain or (), self._left[at][i]
        for level in range(len(chain) - 1, -1, -1):
            if rest >= chain[level]:
                self._with_block[at][level].add(i)
                rest %= chain[level]
            else:
                self._with_block[at][level].discard(i)


class Placements(Mapping[str, Mapping[str, str]]):
    """For each host with protected VMs, where they restart if it alone fails now; worked out when asked for.

    A VM that has no place then is missing. VMs that wait now are taken as still waiting, and restart after those of the host.
    """

    def __init__(self, problem: Problem, counted: tally.Tally, proof: Proof | None = None, by_list: lists.Lists | None = None) -> None:
        self._problem = problem
        self._counted = counted
        self._proof = proof
        self._by_list = by_list
        self._lasting = proof is not None and proof.certified() >= 1
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
        ordered = sorted(vms, key=lambda vm: (vm.priority, vm.name))
        found = _placed(self._without(host), ordered, {})
        return {name: target for name, target in found.items() if target is not None}

    def _without(self, host: str) -> Restarts | lists.Listed:
        """The rule as it runs once the host has failed: the zones outlast one failure, or what is then left decides."""
        if self._by_list is not None:
            return lists.Listed(self._by_list, {h.name: h.free for h in self._problem.hosts if h.name != host}, {})
        if self._proof is not None:
            if self._lasting:
                return of_proof(self._proof, host)
            left = Problem(
                tuple(h for h in self._problem.hosts if h.name != host),
                tuple(_homeless(vm, host) for vm in self._problem.vms),
                self._problem.wish,
            )
            after = Proof(left, self._proof.layout(), 0)
            if after.certified() >= 0:
                return of_proof(after)
        at = self._counted.names.index(host)
        failed = self._counted.without(at)
        chain, _ = zone.best(failed)
        free = {name: amount for name, amount in zip(failed.names, failed.free, strict=True) if name != host}
        return Restarts((Zone(free, chain),), None, free)


def _homeless(vm: ProblemVm, host: str) -> ProblemVm:
    allowed = None if vm.allowed is None else vm.allowed - {host}
    return vm._replace(host=None if vm.host == host else vm.host, allowed=allowed)

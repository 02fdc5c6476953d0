"""Where VMs restart: the zone rule, run on the zones that were proven. What runs at a failure is this, and nothing else.

With a layout whose zones show no less than the rule without one, each VM takes a block of its zone; with one of lists that show no less,
the first living host of its list; without either, the one chain that certifies most now is used. With zones or one chain a
VM for which the rule has no block takes any host with room: that is beyond what zones promise, and it is what the bound for any rule that
tries every host asks for.

Whatever the rule, a VM is sent only to a host that it may use, that has the hugepages it needs, and where no VM runs that it must not be
beside.

The rule leaves choices open: among the hosts with a block of the right level it takes the one that was planned, else the one with
the fewest restarts, then the one with the most memory left.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from quorate_core.facts import Snapshot, Vm
from quorate_core.layout import Layout
from quorate_planner import bounds, facts, lists, tally, zone
from quorate_planner.certificate import Zone
from quorate_planner.extras import has_extras
from quorate_planner.laid import level_of
from quorate_planner.problem import Problem, ProblemHost, ProblemVm
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
    beside = facts.taken(snapshot)
    asked = [facts.planned(facts.tried(vm), names, beside) for vm in vms]
    certain = (planned._replace(host=None) for vm, planned in zip(vms, asked, strict=True) if facts.counts(vm))
    problem = Problem(problem.hosts, (*(vm for vm in problem.vms if vm.name not in moving), *certain), problem.wish, problem.pool)
    return targets(problem, snapshot.layout, asked, planned or {})


def targets(problem: Problem, layout: Layout | None, vms: Sequence[ProblemVm], planned: Mapping[str, str]) -> dict[str, str | None]:
    """The same for a bare problem, in which the VMs of failed hosts already wait."""
    more = any(vm.hugepages or vm.apart for vm in vms)
    return _placed(_restarts(problem, layout, by_lists=not more and not has_extras(problem)), vms, planned)


def _restarts(problem: Problem, layout: Layout | None, *, by_lists: bool) -> "Restarts | lists.Listed":
    counted = tally.count(problem)
    if layout is not None and layout.lists and by_lists:
        moves = lists.Moves(problem, layout.lists)
        certified = moves.certified()
        if certified >= max(0, plain_floor(counted)):
            return lists.Listed(layout.lists, dict(zip(moves.names, moves.free, strict=True)), moves.kept(certified))
    elif layout is not None and not layout.lists:
        proof = Proof(problem, layout, 0)
        if proof.certified() >= max(0, plain_floor(counted)):
            return of_proof(proof)
    return _plain(problem, counted)


def plain_floor(counted: tally.Tally, enough: int | None = None) -> int:
    """What the rule without a layout survives for certain; stops looking once that is `enough`."""
    _, by_zone = zone.best(counted, enough=enough)
    return by_zone if enough is not None and by_zone >= enough else max(by_zone, bounds.any_fit_floor(counted))


def of_proof(proof: Proof, without: str | None = None) -> "Restarts":
    """The rule on the zones of a proof; `without` is a host that has failed."""
    zones = proof.certificate().zones
    if without is not None:
        zones = tuple(Zone({name: amount for name, amount in z.memory.items() if name != without}, z.chain, z.hugepages) for z in zones)
    return Restarts(zones, proof.bind, [host for host in proof.present_hosts() if host.name != without], proof.vms.values())


def _plain(problem: Problem, counted: tally.Tally) -> "Restarts":
    """All memory in one zone, with the chain that certifies most: every VM is of that zone, whatever is promised to it."""
    chain, _ = zone.best(counted)
    free = {host.name: host.free for host in problem.hosts}
    return Restarts((Zone(free, chain),), None, problem.hosts, problem.vms)


def _placed(restarts: "Restarts | lists.Listed", vms: Sequence[ProblemVm], planned: Mapping[str, str]) -> dict[str, str | None]:
    return {vm.name: restarts.place(vm, planned.get(vm.name)) for vm in vms}


class Restarts:
    """Hosts during a restart: what is left in their zones and in all. Mutable, lives for one decision.

    `bind` None: every VM belongs to the first zone. `vms` are those that are planned for, where they run now.
    """

    def __init__(
        self, zones: Sequence[Zone], bind: Mapping[str, int] | None, hosts: Iterable[ProblemHost], vms: Iterable[ProblemVm]
    ) -> None:
        self._zones = zones
        self._bind = bind
        ordered = sorted(hosts)
        self._names = tuple(host.name for host in ordered)
        self._free = [host.free for host in ordered]
        self._hugepages = [host.hugepages for host in ordered]
        self._labels: dict[str, set[int]] = {}  # where VMs with that label run
        self._kept_for: dict[str, set[int]] = {}  # zones of VMs with that label
        index = {name: i for i, name in enumerate(self._names)}
        for vm in vms:
            for label in vm.apart:
                if vm.host in index:
                    self._labels.setdefault(label, set()).add(index[vm.host])
                if bind is not None and vm.name in bind:
                    self._kept_for.setdefault(label, set()).add(bind[vm.name])
        self._left = [[zone.memory.get(name, 0) for name in self._names] for zone in zones]
        self._taken = [0] * len(self._names)
        self._with_block: list[list[set[int]]] = [[set() for _ in zone.chain or ()] for zone in zones]
        for at in range(len(zones)):
            for i in range(len(self._names)):
                self._sort_in(at, i)

    def place(self, vm: ProblemVm, planned: str | None = None) -> str | None:
        """Give a VM its host and take the memory; None if no host that it may use has enough."""
        at = 0 if self._bind is None else self._bind.get(vm.name)
        barred = self._barred(vm)
        hosts = self._by_rule(at, vm, barred) if at is not None else self._outside(vm, barred)
        if hosts:
            i = min(hosts, key=lambda i: (self._names[i] != planned, self._taken[i], -self._free[i], i))
        else:
            found = self._tightest(vm.size, barred)
            if found is None:
                return None
            i = found
        self._take(i, at, vm)
        return self._names[i]

    def _barred(self, vm: ProblemVm) -> Collection[int]:
        """Hosts that the VM must not be sent to, whatever memory they have."""
        allowed, barred = vm.allowed, set[int]()
        if allowed is not None:
            barred.update(i for i, name in enumerate(self._names) if name not in allowed)
        if vm.hugepages:
            barred.update(i for i, left in enumerate(self._hugepages) if left < vm.hugepages)
        return barred.union(*(self._labels.get(label, ()) for label in vm.apart))

    def _by_rule(self, at: int, vm: ProblemVm, barred: Collection[int]) -> Collection[int]:
        zone = self._zones[at]
        if zone.chain is None:
            return [i for i, amount in enumerate(self._left[at]) if amount >= vm.size and i not in barred]
        for hosts in self._with_block[at][level_of(zone.chain, vm.size, zone.hugepages, vm.hugepages) :]:
            usable = [i for i in hosts if i not in barred] if barred else hosts
            if usable:
                return usable
        return ()

    def _outside(self, vm: ProblemVm, barred: Collection[int]) -> Collection[int]:
        """Hosts with room for a VM that no zone keeps memory for, in what no zone has set aside, nor for VMs it must not be beside."""
        spare = [free - sum(left[i] for left in self._left) for i, free in enumerate(self._free)]
        kept = set[int]().union(*(self._kept_for.get(label, ()) for label in vm.apart))
        hosts = [i for i, amount in enumerate(spare) if amount >= vm.size and i not in barred and not any(self._left[z][i] for z in kept)]
        return [i for i in hosts if self._hugepages[i] - self._kept_hugepages(i) >= vm.hugepages] if vm.hugepages else hosts

    def _kept_hugepages(self, i: int) -> int:
        """Hugepages that the zones still keep on a host."""
        return sum(
            left[i] // zone.chain[0] * zone.hugepages[0]
            for zone, left in zip(self._zones, self._left, strict=True)
            if zone.chain is not None and zone.hugepages is not None
        )

    def _tightest(self, size: int, barred: Collection[int]) -> int | None:
        fitting = [(free, i) for i, free in enumerate(self._free) if free >= size and i not in barred]
        return min(fitting)[1] if fitting else None

    def _take(self, i: int, at: int | None, vm: ProblemVm) -> None:
        self._free[i] -= vm.size
        self._hugepages[i] -= vm.hugepages
        self._taken[i] += 1
        for label in vm.apart:
            self._labels.setdefault(label, set()).add(i)
        if at is not None:
            zone = self._zones[at]
            chain = zone.chain
            level = level_of(chain, vm.size, zone.hugepages, vm.hugepages) if chain is not None else 0
            block = chain[level] if chain is not None and level < len(chain) else vm.size
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
    `planned` is what was announced before, kept where the rule allows it: so that one start does not move the places of all others.
    """

    def __init__(
        self,
        problem: Problem,
        counted: tally.Tally,
        proof: Proof | None = None,
        by_list: lists.Lists | None = None,
        planned: Mapping[str, str] | None = None,
    ) -> None:
        self._planned = planned or {}
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
        found = _placed(self._without(host), ordered, self._planned)
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
        living = [h for h in self._problem.hosts if h.name != host]
        return Restarts((Zone(free, chain),), None, living, self._problem.vms)


def _homeless(vm: ProblemVm, host: str) -> ProblemVm:
    allowed = None if vm.allowed is None else vm.allowed - {host}
    return vm._replace(host=None if vm.host == host else vm.host, allowed=allowed)

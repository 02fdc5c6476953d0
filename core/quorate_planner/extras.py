"""Hugepages, and VMs that must not share a host: what memory alone does not say. Counted soundly, not always exactly.

*Upwards* such a problem is several ordinary ones: its memory alone, its hugepages alone, and for each label one slot per host. A policy
for the whole is one for each of them, so the lowest upper bound holds.

*Downwards* zones of their own are set aside first, and the rest is an ordinary problem. VMs with hugepages get a chain zone over
hugepages whose blocks have memory beside them, in one ratio. VMs that share a label get a zone with one block, as large as the largest
of them, on hosts where none of them runs: a host that holds one such block never holds two of them. What is set aside is the least
that survives k failures, by a simple choice of hosts; another choice might do with less, and then the bracket stays open.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from quorate_planner.bounds import covered
from quorate_planner.certificate import Certificate, Zone
from quorate_planner.chains import Chain, chains
from quorate_planner.problem import Problem, ProblemHost, ProblemVm

CHAINS_TRIED = 4
PARTS = 8
"""A hugepages zone is tried with 1/8, 2/8 ... of what each host could give it."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Zones for the VMs of `bind` that survive the failures asked for, and the ordinary problem that is left."""

    rest: Problem
    zones: tuple[Zone, ...]
    bind: Mapping[str, int]

    def beside(self, rest: Certificate, failures: int) -> Certificate:
        """The certificate for the whole, given one for the rest that covers so many failures."""
        at = len(rest.zones)
        bind = {**rest.bind, **{name: at + zone for name, zone in self.bind.items()}}
        return replace(rest, failures=failures, zones=(*rest.zones, *self.zones), bind=bind)


def has_extras(problem: Problem) -> bool:
    """Whether memory alone does not say it all."""
    return any(vm.hugepages for vm in problem.vms) or bool(_shared(problem.vms))


def measures(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """Ordinary problems that each tolerate at least what this one does, and in words what each counts instead of memory."""
    yield "", replace(problem, hosts=tuple(map(_plain_host, problem.hosts)), vms=tuple(map(_plain_vm, problem.vms)))
    paged = [vm for vm in problem.vms if vm.hugepages]
    if paged:
        hosts = tuple(_plain_host(host)._replace(free=host.hugepages) for host in problem.hosts)
        yield "in hugepages", replace(problem, hosts=hosts, vms=tuple(_plain_vm(vm)._replace(size=vm.hugepages) for vm in paged))
    for label in sorted(_shared(problem.vms)):
        members = [vm for vm in problem.vms if label in vm.apart]
        taken = {vm.host for vm in members}
        hosts = tuple(_plain_host(host)._replace(free=0 if host.name in taken else 1) for host in problem.hosts)
        of = f"in hosts for VMs that must not share one ({label})"
        yield of, replace(problem, hosts=hosts, vms=tuple(_plain_vm(vm)._replace(size=1) for vm in members))


def set_aside(problem: Problem, failures: int) -> SetAside | None:
    """Zones for all VMs with extras that survive so many failures, and the rest; None if that was not found."""
    left = {host.name: (host.free, host.hugepages) for host in problem.hosts}
    zones: list[Zone] = []
    bind: dict[str, int] = {}
    groups = apart_groups(problem.vms)
    apart = {vm.name for group in groups for vm in group}
    by_hosts: dict[tuple[str, ...], list[ProblemVm]] = {}
    for vm in problem.vms:
        if vm.hugepages and vm.name not in apart:
            by_hosts.setdefault(tuple(sorted(left if vm.allowed is None else vm.allowed)), []).append(vm)
    tasks = [(group, _apart_zones) for group in groups] + [(by_hosts[hosts], _paged_zones) for hosts in sorted(by_hosts, key=len)]
    for vms, proposals in tasks:
        zone = next((zone for zone in proposals(problem, vms, left) if _survives(problem, vms, zone, failures)), None)
        if zone is None or zone.chain is None:
            return None
        pages = 0 if zone.hugepages is None else zone.hugepages[0]
        for name, memory in zone.memory.items():
            free, hugepages = left[name]
            left[name] = free - memory, hugepages - memory // zone.chain[0] * pages
        bind |= dict.fromkeys((vm.name for vm in vms), len(zones))
        zones.append(zone)
    hosts = tuple(_plain_host(host)._replace(free=left[host.name][0]) for host in problem.hosts)
    rest = replace(problem, hosts=hosts, vms=tuple(_plain_vm(vm) for vm in problem.vms if vm.name not in bind))
    return SetAside(rest, tuple(zones), bind)


def _plain_host(host: ProblemHost) -> ProblemHost:
    return host._replace(hugepages=0)


def _plain_vm(vm: ProblemVm) -> ProblemVm:
    return vm._replace(hugepages=0, apart=frozenset())


def _shared(vms: Iterable[ProblemVm]) -> set[str]:
    """Labels that two or more VMs have: another one keeps nobody apart."""
    seen: set[str] = set()
    twice: set[str] = set()
    for vm in vms:
        twice |= vm.apart & seen
        seen |= vm.apart
    return twice


def apart_groups(vms: Collection[ProblemVm]) -> list[list[ProblemVm]]:
    """VMs kept apart, those whose labels are linked taken together: stricter than asked, and simple."""
    shared = _shared(vms)
    linked: list[set[str]] = []
    for vm in vms:
        labels = set(vm.apart & shared)
        if labels:
            joined = [group for group in linked if group & labels]
            linked = [group for group in linked if group not in joined] + [labels.union(*joined)]
    group = {label: at for at, labels in enumerate(sorted(linked, key=min)) for label in labels}
    found: list[list[ProblemVm]] = [[] for _ in linked]
    for vm in vms:
        if vm.apart and (own := vm.apart & shared):
            found[group[min(own)]].append(vm)
    return found


Left = Mapping[str, tuple[int, int]]
"""Memory and hugepages that are not set aside, by host."""


def _apart_zones(problem: Problem, vms: Sequence[ProblemVm], left: Left) -> Iterator[Zone]:
    """One block on ever more hosts, those with most memory left first."""
    block, pages = max(vm.size for vm in vms), max(vm.hugepages for vm in vms)
    common: frozenset[str] = reduce(frozenset.intersection, (vm.allowed for vm in vms if vm.allowed is not None), frozenset(left))
    taken = {vm.host for vm in vms}
    able = [name for name in common - taken if left[name][0] >= block and left[name][1] >= pages]
    memory: dict[str, int] = {}
    hugepages = (pages,) if pages else None
    yield Zone({}, (block,), hugepages)
    for name in sorted(able, key=lambda name: (-left[name][0], name)):
        memory[name] = block
        yield Zone(dict(memory), (block,), hugepages)


def _paged_zones(problem: Problem, vms: Sequence[ProblemVm], left: Left) -> Iterator[Zone]:
    """Chains over hugepages, each with ever more of every host."""
    common: frozenset[str] = reduce(frozenset.intersection, (vm.allowed for vm in vms if vm.allowed is not None), frozenset(left))
    for chain in chains(tuple(sorted({vm.hugepages for vm in vms})))[:CHAINS_TRIED]:
        beside = max(-(-vm.size * chain[0] // _block(chain, vm.hugepages)) for vm in vms)
        most = {name: min(left[name][0] // beside, left[name][1] // chain[0]) for name in sorted(common)}
        blocks = tuple(beside * (block // chain[0]) for block in chain)
        for part in range(1, PARTS + 1):
            yield Zone({name: units * part // PARTS * beside for name, units in most.items() if units * part // PARTS}, blocks, chain)


def _block(chain: Chain, amount: int) -> int:
    return next(block for block in chain if block >= amount)


def _survives(problem: Problem, vms: Sequence[ProblemVm], zone: Zone, failures: int) -> bool:
    """The condition of the zone rule, for this zone alone."""
    chain = zone.chain or (1,)
    pages = zone.hugepages or (0,) * len(chain)
    domain = {host.name: ("host", host.name) if host.domain is None else ("domain", host.domain) for host in problem.hosts}
    for block in chain:
        value = dict.fromkeys(domain.values(), 0)
        room = {name: memory // block for name, memory in zone.memory.items()}
        for name, blocks in room.items():
            value[domain[name]] += blocks
        waiting = 0
        for vm in vms:
            needed = next(b for b, page in zip(chain, pages, strict=True) if b >= vm.size and page >= vm.hugepages)
            if vm.host is None:
                waiting += needed // block
            else:
                value[domain[vm.host]] += needed // block
        if covered(list(value.values()), sum(room.values()) - waiting) < failures:
            return False
    return True

"""A plan that can be carried elsewhere: memory cut into zones, each VM bound to one, and the number of failures they survive.

A *chain zone* keeps the zone rule with its block sizes; an *any zone* takes a VM wherever it has room; in a *lists zone* a VM takes the
first living host of its list. Each zone answers for its own VMs with its own memory, so zones never disturb each other. `follow` is the
rule that runs when hosts fail; it is the one the numbers are about. `verify` checks a certificate without any of this code.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quorate_planner.chains import Chain
from quorate_planner.lists import Listed, Lists
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.zone import Placing


@dataclass(frozen=True, slots=True)
class Zone:
    """`memory[host]` bytes kept for the VMs bound to this zone. `chain` None: an any zone, or a lists zone if it is `listed`.

    `hugepages`: each block of the chain has so many bytes of hugepages beside its memory, in the same ratio for every block.
    """

    memory: Mapping[str, int]
    chain: Chain | None
    hugepages: Chain | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """The VMs of `bind` survive `failures` further failures, each in its zone. `lists` are for those in lists zones."""

    failures: int
    zones: tuple[Zone, ...]
    bind: Mapping[str, int]
    lists: Lists = field(default_factory=dict)


def certificate_json(certificate: Certificate) -> dict[str, Any]:
    """The form that is written to a file: `{"k", "zones": [{"kind", "D", "z"}], "bind", "lists"}`; without lists that one is left out."""
    return {
        "k": certificate.failures,
        "zones": [
            {"kind": "lists" if zone.listed else "any", "z": dict(zone.memory)}
            if zone.chain is None
            else {"kind": "chain", "D": list(zone.chain), "z": dict(zone.memory)}
            | ({} if zone.hugepages is None else {"H": list(zone.hugepages)})
            for zone in certificate.zones
        ],
        "bind": dict(certificate.bind),
    } | ({"lists": {name: list(hosts) for name, hosts in certificate.lists.items()}} if certificate.lists else {})


def follow(certificate: Certificate, survivors: Collection[str], vms: Sequence[ProblemVm]) -> tuple[dict[str, str | None], Certificate]:
    """Where those VMs restart, in the given order, and what the zones keep afterwards.

    None for a VM that the certificate does not know, or whose zone has no room: which cannot be within `failures`.
    The certificate returned counts each host that is gone as a failure, so that it can be followed again; who knows that some of them were
    of one domain may count those once.
    """
    hosts = sorted(survivors)
    gone = {host for zone in certificate.zones for host in zone.memory} - set(survivors)
    placings = [_placing(zone, certificate.lists, {host: zone.memory.get(host, 0) for host in hosts}) for zone in certificate.zones]
    targets: dict[str, str | None] = {}
    for vm in vms:
        at = certificate.bind.get(vm.name)
        targets[vm.name] = None if at is None else _place(certificate.zones[at], placings[at], vm)
    zones = tuple(replace(zone, memory=placing.left()) for zone, placing in zip(certificate.zones, placings, strict=True))
    return targets, replace(certificate, failures=certificate.failures - len(gone), zones=zones)


class Followed(Mapping[str, Mapping[str, str]]):
    """For each host with VMs of the problem, where they restart by the certificate if it alone fails now; worked out when asked for."""

    def __init__(self, problem: Problem, certificate: Certificate) -> None:
        self._certificate = certificate
        self._names = [host.name for host in problem.hosts]
        self._vms: dict[str, list[ProblemVm]] = {}
        for vm in problem.vms:
            if vm.host is not None:
                self._vms.setdefault(vm.host, []).append(vm)
        self._known: dict[str, Mapping[str, str]] = {}

    def __getitem__(self, host: str) -> Mapping[str, str]:
        if host not in self._known:
            vms = sorted(self._vms[host], key=lambda vm: (vm.priority, vm.name))
            targets, _ = follow(self._certificate, [name for name in self._names if name != host], vms)
            self._known[host] = {name: target for name, target in targets.items() if target is not None}
        return self._known[host]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._vms))

    def __len__(self) -> int:
        return len(self._vms)

    def __repr__(self) -> str:
        return f"Followed({dict(self)!r})"


def _placing(zone: Zone, lists: Lists, memory: Mapping[str, int]) -> Placing | Listed:
    return Listed(lists, memory, {}) if zone.listed else Placing(zone.chain or (1,), tuple(memory), tuple(memory.values()))


def _place(zone: Zone, placing: Placing | Listed, vm: ProblemVm) -> str | None:
    if isinstance(placing, Listed):
        return placing.place(vm)
    size = _size_in(zone, vm)
    return None if size is None else placing.place(size, vm.allowed)


def _size_in(zone: Zone, vm: ProblemVm) -> int | None:
    """Memory that the VM takes of the zone: a whole block where hugepages or VMs that must not be near each other are about."""
    if zone.chain is None or (not vm.hugepages and not vm.apart):
        return vm.size
    beside = zone.hugepages or (0,) * len(zone.chain)
    return next((block for block, pages in zip(zone.chain, beside, strict=True) if block >= vm.size and pages >= vm.hugepages), None)

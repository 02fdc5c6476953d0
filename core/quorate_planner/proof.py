"""A certificate kept ready for the next question: the tables of its conditions for one number of failures.

A `Proof` answers for exactly one problem. `changed` gives the proof of the problem with some VMs and some free memory changed:
only the tables of the zones that the change touches are made anew, so that a start among 4,000 VMs costs a fraction of a millisecond.
Yes means that `certificate` passes `verify` for that problem; no means only that *these* zones do not show it.
Nothing here searches: `repair` moves memory between zones, `incremental` asks for new ones.

VMs that must not share a host have a zone to themselves, with one block size, of which a host keeps one block at most and none where
one of them runs. A change of such a VM, or of one with hugepages, makes all tables anew.
"""

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence

from quorate_core.layout import LaidZone, Layout
from quorate_planner.bounds import covered
from quorate_planner.certificate import Certificate, Zone
from quorate_planner.conditions import Condition, Groups, Ranked, any_conditions
from quorate_planner.extras import apart_groups
from quorate_planner.laid import ROUNDING_ALIKE, Load, level_of, rounded, zones_of_groups
from quorate_planner.overlay import Overlay
from quorate_planner.problem import Problem, ProblemHost, ProblemVm

Kind = frozenset[str] | None
"""The hosts that a VM may use; None: all."""

UNBOUNDED = 1 << 70
"""The margin of a zone without VMs."""


class Proof:
    """One problem, one layout, one number of failures. Not changed once made; `changed` and `asking` make others."""

    def __init__(self, problem: Problem, layout: Layout, failures: int) -> None:
        self.failures = failures
        self.names = tuple(host.name for host in problem.hosts)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.hosts = problem.hosts
        domains: dict[tuple[bool, str], int] = {}
        self.group = [domains.setdefault((h.domain is not None, h.domain or h.name), len(domains)) for h in problem.hosts]
        self.groups = len(domains)
        together: list[list[int]] = [[] for _ in domains]
        for i, group in enumerate(self.group):
            together[group].append(i)
        self._together = Groups(self.group, together)
        self.free = [host.free for host in problem.hosts]
        self.hugepages = [host.hugepages for host in problem.hosts]
        self.chains = [zone.chain for zone in layout.zones]
        self.beside = [zone.hugepages for zone in layout.zones]
        self._groups = {vm.name: at for at, group in enumerate(apart_groups(problem.vms)) for vm in group}
        self._only = zones_of_groups(self.chains, layout.bind, self._groups)
        self.laid = [[zone.memory.get(name, 0) for name in self.names] for zone in layout.zones]
        n = len(self.names)
        self.own = [[[0] * n for _ in (chain or (1,))] for chain in self.chains]
        self.off = [[0] * len(chain or (1,)) for chain in self.chains]
        self._loads: list[dict[Kind, Load]] = [{} for _ in self.chains]
        self.closed: list[frozenset[int]] = [frozenset()] * len(self.chains)
        self._limits: list[dict[frozenset[str], int]] = [{} for _ in self.chains]
        self.net = [[0] * n for _ in self.chains]
        self.margins = [0] * len(self.chains)
        self._ranked: list[Ranked | None] = [None] * len(self.chains)
        self.vms: MutableMapping[str, ProblemVm] = {}
        self.bind: MutableMapping[str, int] = {}
        self.unbound: frozenset[str] = frozenset()
        self._own_copied: set[int] = set(range(len(self.chains)))
        self._reopened = False
        self._prepare(problem.vms, layout.bind)

    def _prepare(self, vms: Iterable[ProblemVm], bind: Mapping[str, int]) -> None:
        homeless = []
        for vm in vms:
            at = bind.get(vm.name)
            if at is None or not 0 <= at < len(self.chains) or not self._suits(at, vm):
                homeless.append(vm)
                continue
            self._count(vm, at, 1)
        for i in range(len(self.names)):
            self._keep(i)
        for vm in homeless:
            self._bind(vm)
            if vm.host is not None:
                self._keep(self.index[vm.host])
        if self._reopened:
            for i in range(len(self.names)):
                self._keep(i)
        self._weigh(range(len(self.chains)))

    # -- what is known

    @property
    def holds(self) -> bool:
        """Whether these zones show that so many failures are survived."""
        return not self.unbound and 0 <= self.failures <= len(self.names) and all(margin >= 0 for margin in self.margins)

    @property
    def has_extras(self) -> bool:
        """Whether some of its VMs must not share a host, or zones are over hugepages."""
        return bool(self._groups) or any(beside is not None for beside in self.beside)

    def certified(self) -> int:
        """The most failures that these zones show to be survived; -1: not even the waiting VMs are sure of a place."""
        if self.unbound:
            return -1
        most = len(self.names)
        for z in range(len(self.chains)):
            for condition in self._conditions(z):
                most = min(most, covered(condition.ranked, condition.budget))
        return most

    def certificate(self) -> Certificate:
        """The certificate for `failures`; true only while `holds`."""
        zones = tuple(
            Zone({name: row[i] for i, name in enumerate(self.names) if row[i]}, chain, beside)
            for chain, row, beside in zip(self.chains, self.net, self.beside, strict=True)
        )
        return Certificate(self.failures, zones, dict(self.bind.items()))

    def layout(self) -> Layout:
        """What is to be kept of this proof."""
        zones = (
            LaidZone(chain, {name: row[i] for i, name in enumerate(self.names) if row[i] > 0}, beside)
            for chain, row, beside in zip(self.chains, self.laid, self.beside, strict=True)
        )
        return Layout(tuple(zones), dict(self.bind.items()))

    def present_hosts(self) -> tuple[ProblemHost, ...]:
        """The hosts with what is free on them now."""
        return tuple(host._replace(free=free) for host, free in zip(self.hosts, self.free, strict=True))

    def problem(self, wish: int | None = None) -> Problem:
        """The problem that this proof is about."""
        return Problem(self.present_hosts(), tuple(self.vms.values()), self.failures if wish is None else wish)

    def spare(self, i: int) -> int:
        """Bytes of host i that no zone has set aside."""
        return self.free[i] - sum(row[i] for row in self.net)

    def may_fill(self, z: int, i: int) -> bool:
        """Whether more memory than is asked for may be given to the zone on host i: none of VMs kept apart, or with hugepages."""
        return i not in self.closed[z] and self._only[z] is None and self.beside[z] is None

    # -- other problems

    def asking(self, failures: int) -> "Proof":
        """The same problem and zones, asked for another number of failures."""
        if failures == self.failures:
            return self
        other = self._copy()
        other.failures = failures
        other._weigh(range(len(self.chains)), ())
        return other

    def changed(self, vms: Mapping[str, ProblemVm | None], free: Mapping[str, int], *, prefer: int | None = None) -> "Proof":
        """The proof after these VMs became what is given (None: gone) and these hosts have so many bytes free.

        A VM that is new, or outgrew its zone, is bound to `prefer` where that can hold it, else where it is rounded least.
        Raises KeyError for a host that the problem does not have.
        """
        if any(vm is not None and (vm.apart or vm.hugepages) for name, new in vms.items() for vm in (new, self.vms.get(name))):
            return self._anew(vms, free)
        after = self._copy()
        hosts: set[int] = set()
        zones: set[int] = set()
        for name, amount in free.items():
            i = after.index[name]
            after.free[i] = amount
            hosts.add(i)
        for name, vm in vms.items():
            after._put(name, vm, hosts, zones, prefer)
        for i in range(len(after.names)) if after._reopened else hosts:
            before = [row[i] for row in after.net]
            after._keep(i)
            zones |= {z for z, row in enumerate(after.net) if row[i] != before[z]}
        after._weigh(zones, range(len(after.names)) if after._reopened else hosts)
        return after

    def started(self, vm: ProblemVm, host: str, *, prefer: int | None = None) -> "Proof":
        """The proof after a VM was started on that host."""
        left = self.free[self.index[host]] - vm.size
        return self.changed({vm.name: vm._replace(host=host)}, {host: max(0, left)}, prefer=prefer)

    def _anew(self, vms: Mapping[str, ProblemVm | None], free: Mapping[str, int]) -> "Proof":
        """All tables from the start, for the changed problem and the same layout."""
        for name in free:
            self.index[name]  # KeyError, as said
        hosts = tuple(host._replace(free=free.get(host.name, host.free)) for host in self.present_hosts())
        present = tuple(vm for vm in {**dict(self.vms.items()), **vms}.values() if vm is not None)
        return Proof(Problem(hosts, present, max(0, self.failures)), self.layout(), self.failures)

    def shifted(self, host: int, net: Mapping[int, int]) -> "Proof":
        """The same problem with other memory for some zones on one host: `net[zone]` bytes left free there, in whole blocks."""
        after = self._copy()
        after.laid = [list(row) for row in self.laid]
        for z, amount in net.items():
            after.net[z][host] = amount if self._only[z] is None else min(amount, self._block_apart(z, host))
        after._settle_hugepages(host)
        for z, row in enumerate(after.net):  # all of the host, so that no zone takes back what it had given up there before
            after.laid[z][host] = after.own[z][0][host] * self._unit(z) + row[host]
        after._weigh([z for z, row in enumerate(after.net) if row[host] != self.net[z][host]], (host,))
        return after

    def homes(self, vm: ProblemVm) -> list[int]:
        """The zones that can hold the VM, the best first: rounded about as little as anywhere, then the one with most memory."""
        found = []
        for z, chain in enumerate(self.chains):
            if self._suits(z, vm) and self._open_to(z, vm):
                waste = rounded(chain, vm.size, self.beside[z], vm.hugepages) - vm.size
                found.append((waste, z))
        least = min((waste for waste, _ in found), default=0)
        room = {z: sum(self.net[z]) for _, z in found}
        return [z for _, z in sorted(found, key=lambda f: (f[0] - least > ROUNDING_ALIKE * vm.size, -room[f[1]], f[1]))]

    # -- tables

    def _copy(self) -> "Proof":
        other = object.__new__(Proof)
        other.__dict__.update(self.__dict__)
        other.free = list(self.free)
        other.net = [list(row) for row in self.net]
        other.own = list(self.own)
        other.off = [list(levels) for levels in self.off]
        other._loads = list(self._loads)
        other.closed = list(self.closed)
        other.margins = list(self.margins)
        other._ranked = list(self._ranked)
        other.vms = Overlay(self.vms)
        other.bind = Overlay(self.bind)
        other._limits = list(self._limits)
        other._own_copied = set()
        other._reopened = False
        return other

    def _put(self, name: str, vm: ProblemVm | None, hosts: set[int], zones: set[int], prefer: int | None) -> None:
        before = self.vms.get(name)
        at = self.bind.get(name)
        if before is not None and at is not None:
            self._count(before, at, -1)
            zones.add(at)
            if before.host is not None:
                hosts.add(self.index[before.host])
        elif before is not None:
            del self.vms[name]
            self.unbound -= {name}
        if vm is None:
            return
        if at is not None and self._suits(at, vm) and self._open_to(at, vm):
            self._count(vm, at, 1)
        else:
            self._bind(vm, prefer)
        if name in self.bind:
            zones.add(self.bind[name])
            if vm.host is not None:
                hosts.add(self.index[vm.host])

    def _bind(self, vm: ProblemVm, prefer: int | None = None) -> None:
        homes = self.homes(vm)
        if not homes:
            self.vms[vm.name] = vm
            self.unbound |= {vm.name}
            return
        at = prefer if prefer in homes else homes[0]
        self._count(vm, at, 1)

    def _limit(self, z: int, allowed: frozenset[str], times: int) -> None:
        """Keep the zone off the hosts that one of its VMs may not use; open it again when the last such VM has left."""
        limits = dict(self._limits[z])
        limits[allowed] = limits.get(allowed, 0) + times
        if not limits[allowed]:
            del limits[allowed]
        if limits.keys() != self._limits[z].keys():
            self.closed[z] = frozenset(i for i, name in enumerate(self.names) if any(name not in each for each in limits))
            self._reopened = True
        self._limits[z] = limits

    def _suits(self, z: int, vm: ProblemVm) -> bool:
        """Whether the zone can hold it: that of its group where it must not share a host, one over hugepages where it needs them."""
        chain, beside, only = self.chains[z], self.beside[z], self._only[z]
        if self._groups.get(vm.name) != only:
            return False
        if chain is None:
            return not vm.hugepages
        if only is None and (beside is None) == (vm.hugepages > 0):
            return False
        return level_of(chain, vm.size, beside, vm.hugepages) < len(chain)

    def _open_to(self, z: int, vm: ProblemVm) -> bool:
        allowed = vm.allowed
        return (
            allowed is None
            or self.chains[z] is None
            or all(not amount or name in allowed for amount, name in zip(self.net[z], self.names, strict=True))
        )

    def _count(self, vm: ProblemVm, z: int, times: int) -> None:
        """Take a VM into the tables of a zone (1) or out of them (-1)."""
        if z not in self._own_copied:
            self.own[z] = [list(row) for row in self.own[z]]
            self._loads[z] = {kind: load.copy() for kind, load in self._loads[z].items()}
            self._own_copied.add(z)
        chain = self.chains[z]
        i = None if vm.host is None else self.index[vm.host]
        if chain is None:
            amounts: Sequence[int] = (vm.size,)
            self._loads[z].setdefault(vm.allowed, Load([0] * len(self.names))).count(vm.size, i, times)
        else:
            if vm.allowed is not None:
                self._limit(z, vm.allowed, times)
            level = level_of(chain, vm.size, self.beside[z], vm.hugepages)
            amounts = [chain[level] // block for block in chain[: level + 1]]
        for level, amount in enumerate(amounts):
            if i is None:
                self.off[z][level] += times * amount
            else:
                self.own[z][level][i] += times * amount
        if times > 0:
            self.vms[vm.name] = vm
            self.bind[vm.name] = z
        else:
            del self.vms[vm.name], self.bind[vm.name]

    def _wanted(self, z: int, i: int) -> int:
        """What the zone would keep free on the host: what is laid down for it, less what its VMs take there, in whole blocks."""
        if i in self.closed[z]:
            return 0
        unit = self._unit(z)
        if self._only[z] is not None:
            return min(self.laid[z][i] - self.laid[z][i] % unit, self._block_apart(z, i))
        left = self.laid[z][i] - self.own[z][0][i] * unit
        return left - left % unit if left > 0 else 0

    def _block_apart(self, z: int, i: int) -> int:
        """The most that a zone of VMs kept apart may keep on a host: one block, and none where one of them runs."""
        return 0 if self.own[z][0][i] or i in self.closed[z] else self._unit(z)

    def _keep(self, i: int) -> None:
        for z in range(len(self.chains)):
            self.net[z][i] = self._wanted(z, i)
        self._settle(i)

    def _settle(self, i: int) -> None:
        """Where the zones keep more than the host has free, they give up blocks, so that as little as possible is given up.

        What a zone has left is thus a function of the layout, the VMs and the free memory, and of nothing else: whoever asks, admission
        before a start or the failover after a failure, finds the same zones.
        """
        over = sum(row[i] for row in self.net) - self.free[i]
        while over > 0:
            given = {z: min(row[i], -(-over // self._unit(z)) * self._unit(z)) for z, row in enumerate(self.net) if row[i]}
            z = min(given, key=lambda z: (max(0, given[z] - over), -self.net[z][i], z))
            self.net[z][i] -= given[z]
            over -= given[z]
        self._settle_hugepages(i)

    def _settle_hugepages(self, i: int) -> None:
        """The same for hugepages."""
        pages = {z: beside[0] for z, beside in enumerate(self.beside) if beside is not None}
        over = sum(self.net[z][i] // self._unit(z) * each for z, each in pages.items()) - self.hugepages[i]
        for z in sorted(pages, key=lambda z: (-self.net[z][i], z)) if over > 0 else ():
            blocks = min(self.net[z][i] // self._unit(z), max(0, -(-over // pages[z])))
            self.net[z][i] -= blocks * self._unit(z)
            over -= blocks * pages[z]

    def _unit(self, z: int) -> int:
        return (self.chains[z] or (1,))[0]

    def _weigh(self, zones: Iterable[int], hosts: Collection[int] | None = None) -> None:
        """The margins of these zones; of those weighed before only what these hosts changed is looked at."""
        for z in zones:
            chain, known = self.chains[z], self._ranked[z]
            if chain is not None and (known is None or hosts is None):
                self._ranked[z] = Ranked(chain, self.net[z], self.own[z], self._together)
            elif known is not None and hosts:
                self._ranked[z] = known.changed(hosts, self.net[z], self.own[z], self._together)
            margins = (condition.margin(self.failures) for condition in self._conditions(z))
            self.margins[z] = min(margins, default=UNBOUNDED)

    def _conditions(self, z: int) -> Iterable[Condition]:
        """What must hold of the zone."""
        ranked = self._ranked[z]
        if ranked is None:
            return any_conditions(self._loads[z], self.names, self.net[z], self._together)
        return ranked.conditions(self.off[z], self.own[z])

"""What is known about a pool at one instant: the snapshot that every decision reads.

A snapshot is the same object whether it came from a live API server, from `kubectl get -o yaml`, or from a test.
This module holds data only: it reads nothing, decides nothing, and knows no Kubernetes JSON.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from quorate_core.layout import Layout


class Protection(StrEnum):
    """How far Quorate goes for a VM (XenServer: restart, best-effort, unprotected)."""

    PROTECTED = "Protected"
    BEST_EFFORT = "BestEffort"
    UNPROTECTED = "Unprotected"


class OvercommitPolicy(StrEnum):
    """What admission does with a change that would leave no plan."""

    REFUSE = "Refuse"
    WARN = "Warn"


class CertificateKind(StrEnum):
    """On what evidence a host is known to be dead."""

    SILENCE = "Silence"
    EVICTION = "Eviction"
    CONFIRMED = "Confirmed"


class HostPhase(StrEnum):
    """Where a host stands in its pool; the words of `HAHost.status.phase`."""

    JOINING = "Joining"
    LIVE = "Live"
    LOST = "Lost"
    EVICTED = "Evicted"
    FENCED = "Fenced"
    MAINTENANCE = "Maintenance"
    EXCLUDED = "Excluded"


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the planner sees it. Memory is in bytes.

    `used_bytes` counts every pod bound here that has not finished, and every reservation of the admission ledger.
    `apart` are labels (`Vm.apart`) of pods here that are no VMs: a VM with such a label cannot be started here while they are.
    Hugepages are counted beside, in bytes of the one page size that is planned for in the pool; they are not part of the memory.
    `accepts_vms` is false for a host that no new launcher pod may be placed on (cordoned, NotReady, in maintenance, lost):
    its VMs still count, its free memory does not. `leaving`: it was admitted for maintenance, so its VMs are to go elsewhere.
    """

    name: str
    allocatable_bytes: int
    used_bytes: int = 0
    phase: HostPhase = HostPhase.LIVE
    accepts_vms: bool = True
    why_not: str = ""
    domain: str | None = None
    allocatable_hugepages_bytes: int = 0
    used_hugepages_bytes: int = 0
    apart: frozenset[str] = frozenset()
    leaving: bool = False

    def __post_init__(self) -> None:
        if min(self.allocatable_bytes, self.used_bytes, self.allocatable_hugepages_bytes, self.used_hugepages_bytes) < 0:
            raise ValueError(f"host {self.name}: memory must not be negative")

    @property
    def free_bytes(self) -> int:
        """Bytes that new launcher pods may still request here; never negative."""
        return max(0, self.allocatable_bytes - self.used_bytes) if self.accepts_vms else 0

    @property
    def free_hugepages_bytes(self) -> int:
        """Bytes of hugepages that new launcher pods may still request here; never negative."""
        return max(0, self.allocatable_hugepages_bytes - self.used_hugepages_bytes) if self.accepts_vms else 0

    def has_room_for(self, vm: "Vm") -> bool:
        """Whether its launcher pod fits into what is free here, and beside the pods here that are no VMs."""
        return self.free_bytes >= vm.size_bytes and self.free_hugepages_bytes >= vm.hugepages_bytes and not self.apart & vm.apart


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM of the pool. `key` is `namespace/name`; `size_bytes` is what its launcher pod requests, hugepages aside: they are beside it.

    `host` is where its launcher pod is bound, or None while it has none (off, or waiting to be placed).
    `should_run` is the user's wish (run strategy), not the present state.
    `allowed` names the hosts it may be started on; None means every host of the pool.
    `page_size` is as in the VM's specification; only hugepages of the pool's size are counted.
    VMs with a common label in `apart` never share a host, be they protected or not.
    `not_agile` lists why it cannot be started on another host; empty means agile. With `tried_anyway` these are rules that nobody has
    counted: nothing is promised, but if its host fails a restart is tried, and the scheduler decides.
    """

    key: str
    size_bytes: int
    host: str | None = None
    protection: Protection = Protection.UNPROTECTED
    priority: int = 0
    start_delay_seconds: int = 0
    should_run: bool = True
    allowed: frozenset[str] | None = None
    not_agile: tuple[str, ...] = ()
    hugepages_bytes: int = 0
    page_size: str = ""
    apart: frozenset[str] = frozenset()
    tried_anyway: bool = False

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.hugepages_bytes < 0:
            raise ValueError(f"VM {self.key}: memory must not be negative")

    def may_run_on(self, host: str) -> bool:
        """Whether the VM's own constraints let it start on that host (memory aside)."""
        return self.allowed is None or host in self.allowed


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool's wish. `armed` is whether hosts are fenced and VMs restarted at this moment."""

    name: str
    host_failures_to_tolerate: int = 1
    armed: bool = True
    overcommit_policy: OvercommitPolicy = OvercommitPolicy.REFUSE
    failure_domain_key: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One pool at one instant. Hosts are those whose failure or memory matters (not the certified dead); names are unique."""

    pool: Pool
    hosts: tuple[Host, ...] = ()
    vms: tuple[Vm, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    """What could not be read or counted, in words; shown to people, never used to decide in favour of a start."""
    page_size: str = ""
    """Of the hugepages that are counted; empty where there are none."""
    layout: Layout | None = None
    """How memory is set aside for restarts, as it was last stored; None where nothing was."""

    def __post_init__(self) -> None:
        for kind, names in (("host", [h.name for h in self.hosts]), ("VM", [v.key for v in self.vms])):
            if len(set(names)) != len(names):
                twice = sorted({n for n in names if names.count(n) > 1})
                raise ValueError(f"{kind} named twice: {', '.join(twice)}")

    def host(self, name: str) -> Host | None:
        """The host of that name, or None."""
        return next((h for h in self.hosts if h.name == name), None)

    def beside(self, vm: Vm, host: str) -> Vm | None:
        """A VM on that host with which this one must not share it, or None."""
        if not vm.apart:
            return None
        return next((v for v in self.vms if v.host == host and v.key != vm.key and v.apart & vm.apart), None)

    def vm(self, key: str) -> Vm | None:
        """The VM of that key (`namespace/name`), or None."""
        return next((v for v in self.vms if v.key == key), None)

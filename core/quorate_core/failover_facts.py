"""The words of the failover workflow: its durable state, what it observes, what it asks to be done.

Data only; failover.py decides. The states' words are those of the Failover object's status.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from quorate_core.facts import Protection, Snapshot, Vm


class Stage(StrEnum):
    """Where the failover of one host stands; the words of `Failover.status.phase`."""

    PREPARING = "Preparing"
    RELEASING = "Releasing"
    RESTARTING = "Restarting"
    COMPLETED = "Completed"


class RestartStage(StrEnum):
    """Where one VM stands; the words of `Failover.status.vms[].phase`."""

    WAITING = "Waiting"
    RELEASED = "Released"
    PLACED = "Placed"
    RUNNING = "Running"
    BLOCKED = "Blocked"
    SKIPPED = "Skipped"


class Hold(StrEnum):
    """How order is kept. HELD: new launcher pods wait behind a gate. ABSENT: nothing holds them; old pods are deleted in order."""

    UNKNOWN = "Unknown"
    HELD = "Held"
    ABSENT = "Absent"


class Standing(StrEnum):
    """What a fresh read says of the dead host. DOUBT: neither dead in its present incarnation nor back with another boot."""

    DEAD = "Dead"
    RETURNED = "Returned"
    DOUBT = "Doubt"


@dataclass(frozen=True, slots=True)
class Restart:
    """One VM of a failed host: what was planned, and how far it has come. `uid` and `pod` are its old launcher pod's."""

    vm: str
    uid: str | None = None
    pod: str | None = None
    protection: Protection = Protection.PROTECTED
    priority: int = 0
    start_delay_seconds: int = 0
    size_bytes: int = 0
    planned_host: str | None = None
    stage: RestartStage = RestartStage.WAITING
    host: str | None = None
    attempts: int = 0
    reason: str = ""
    released_at: datetime | None = None
    due_at: datetime | None = None
    retry_at: datetime | None = None
    placed_at: datetime | None = None
    running_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failover:
    """The durable state of one host's failover; everything else is observed again each turn."""

    name: str
    pool: str
    host: str
    incarnation: str
    generation: int
    started_at: datetime
    boot_id: str | None = None
    restarts: tuple[Restart, ...] = ()
    stage: Stage = Stage.PREPARING
    hold: Hold = Hold.UNKNOWN
    completed_at: datetime | None = None
    host_returned_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, the host's return included."""
        return self.stage is Stage.COMPLETED and self.host_returned_at is not None


@dataclass(frozen=True, slots=True)
class LauncherPod:
    """A launcher pod. `host` is where it is bound; `unschedulable` is the scheduler's message, empty when it has none."""

    vm: str
    name: str
    uid: str
    host: str | None = None
    gated: bool = False
    finished: bool = False
    deleting: bool = False
    unschedulable: str = ""


@dataclass(frozen=True, slots=True)
class VmState:
    """A VM as KubeVirt has it. `vmi_phase` is None when it has no instance."""

    strategy: str
    vmi_phase: str | None = None
    vmi_host: str | None = None
    start_asked: bool = False


@dataclass(frozen=True, slots=True)
class DeadHost:
    """A failed host as a fresh read shows it. `evicting`: the taint is there with effect NoExecute."""

    standing: Standing
    node_exists: bool = True
    node_ready: bool = False
    node_boot_id: str | None = None
    agent_joined: bool = False
    tainted: bool = False
    evicting: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A VolumeAttachment of a dead host, and the VM whose disk it is."""

    name: str
    uid: str
    host: str
    vm: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a pool in recovery. `held` says whether a new launcher pod would be held now; None: it could not be asked."""

    now: datetime
    snapshot: Snapshot
    hosts: Mapping[str, DeadHost]
    pods: tuple[LauncherPod, ...] = ()
    vms: Mapping[str, VmState] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    held: bool | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """Mark the Node as out of service; with `evict` (NoExecute) Kubernetes frees everything on it."""

    host: str
    evict: bool


@dataclass(frozen=True, slots=True)
class Untaint:
    """Let the Node serve again."""

    host: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete exactly this old pod. `force` (grace 0) only where the host is certified dead; else its kubelet must confirm."""

    vm: str
    pod: str
    uid: str
    host: str
    force: bool


@dataclass(frozen=True, slots=True)
class DiscardPod:
    """Delete a new pod that the scheduler could not place, so that KubeVirt makes another. Never with grace 0."""

    vm: str
    pod: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteAttachment:
    """Delete a stale VolumeAttachment of a dead host."""

    name: str
    uid: str
    vm: str


@dataclass(frozen=True, slots=True)
class LiftGate:
    """Let a held pod go, to that host only; with no host, wherever the scheduler likes."""

    vm: str
    pod: str
    uid: str
    host: str | None


@dataclass(frozen=True, slots=True)
class StartVm:
    """Ask KubeVirt to start a VM that it does not start by itself."""

    vm: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell people, once. About a VM, or about the host when `vm` is None."""

    host: str
    vm: str | None
    reason: str
    message: str
    warning: bool = False


Action = Taint | Untaint | DeletePod | DiscardPod | DeleteAttachment | LiftGate | StartVm | Say

Choose = Callable[[Snapshot, Sequence[Vm], Mapping[str, str]], Mapping[str, str | None]]
"""Where VMs restart on the survivors, in the given order: the planner's rule, handed in because the core knows no planner.

The last argument are hosts that were planned; the rule keeps each where it may.
"""

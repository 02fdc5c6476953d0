"""What a host's heartbeat machine knows, hears and asks for: its state, events and actions. Data only; `heartbeat.step` decides.

Time is a field of every event: this host's seconds since boot (time suspended included). Wall clocks appear nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quorate_core import keeping, membership, pool
from quorate_core.claim import Claim
from quorate_core.eviction import Alarm, Eviction
from quorate_core.licence import Cycle
from quorate_core.packet import Gate
from quorate_core.slot import Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.storageless import Questions


@dataclass(frozen=True, slots=True)
class Keeper:
    """The keeper as it last described itself. `problem` says why it has no usable watchdog."""

    mode: keeping.Mode
    incarnation: int = 0
    deadline: float = 0.0
    device: str = ""
    identity: str = ""
    timeout_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A storage cycle under way. `slot` is what it writes; None if it only reads."""

    number: int
    issued_at: float
    slot: Slot | None
    phase: Phase


@dataclass(frozen=True, slots=True)
class Heart:
    """One host's state. `deadline` is None while no licence is needed; `licensed` once the keeper has confirmed that it runs under one.

    `claimed`: the own slot is ours to write, and `claimed_over` what stood in it then, on each disk. `resuming`: this agent was restarted
    under a running licence and has not yet read its slot.
    `dead` holds, by slot, the incarnations that were certified by anybody; `issued` the certificates this host publishes itself.
    `evicted`: all (slot, incarnation) that anybody evicts, by the last read; `evictions` this host's own records. `intent` is the set that
    it proposes to live on, on the disk since `intent_at`. `required`: whose answers it needs to live without storage, by any of its slots
    that may stand on the disk. `blind_since`: when it last said that it has none, until it has watched the disk again. By `settled_at`
    every write of the pulse before this one has landed or never will. Before `barred_until` it evicts nobody and certifies no silence.
    `condemned`: a member has evicted it or certified it dead. `vms_left`: by the last count after it began to fence. `watchdog_seconds` is
    the longest timeout its watchdog was found with since the present licence was asked for; 0 without one. `alarms`: the evicted that
    should be dead and are not, by the last cycle that was evidence. `departed`: who has left the
    configuration since then; what they have said against this host holds: it may stand from a time when they were members, and they cannot
    know that nobody reads it. `released`: the keeper was told to go without a licence, and has not answered yet. `settled`:
    the last cycle was evidence, and no older write can land any more over what it has written. `spent`: this life was released and never
    arms again; `lives` are those before it that were, in this boot. `buried`: every incarnation that this host has ever known to be
    certified dead, also of slots that have another owner by now. `wanted`: the configuration that is taken over when no licence runs.
    """

    host: str
    boot_id: bytes
    incarnation: int
    config: pool.PoolConfig | None = None
    phase: Phase = Phase.STARTING
    message: str = "waiting for the pool's configuration"
    keeper: Keeper | None = None
    asked_open_at: float | None = None
    claim: Claim | None = None
    claimed: bool = False
    claimed_over: tuple[bytes, ...] = ()
    resuming: bool = False
    sequence: int = 0
    proposal: int = 0
    peers: Mapping[int, membership.Peer] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    dead: Mapping[int, frozenset[int]] = field(default_factory=dict)
    issued: tuple[Issued, ...] = ()
    evicted: frozenset[tuple[int, int]] = frozenset()
    evictions: tuple[Eviction, ...] = ()
    intent: int = 0
    intent_at: float | None = None
    undecided: str = ""
    alarms: tuple[Alarm, ...] = ()
    required: int = 0
    questions: Questions = field(default_factory=Questions)
    storageless: bool = False
    blind_since: float | None = None
    barred_until: float = 0.0
    settled_at: float = 0.0
    condemned: bool = False
    vms_left: int | None = None
    asked_stop_at: float | None = None
    stopped_said: bool = False
    shouted: frozenset[tuple[int, int, str]] = frozenset()
    pending: Pending | None = None
    cycles: int = 0
    next_cycle_at: float = 0.0
    next_packet_at: float = 0.0
    last_read_at: float | None = None
    disk_problem: str = "the heartbeat disk has not been read yet"
    disk_refused: bool = False
    blank_disks: tuple[int, ...] = ()
    evidence_at: float | None = None
    no_evidence: str = "no storage cycle has been completed yet"
    deadline: float | None = None
    licensed: bool = False
    confirmed: bool = False
    watchdog_seconds: float = 0.0
    departed: tuple[pool.Member, ...] = ()
    released: bool = False
    settled: bool = False
    spent: bool = False
    lives: frozenset[int] = frozenset()
    buried: frozenset[int] = frozenset()
    wanted: pool.PoolConfig | None = None

    def __post_init__(self) -> None:
        # Kept here and not by some event, so that no way to lose the keeper can shorten what observers have been told: the watchdog of a
        # keeper that is gone, or that has forgotten its marker, goes on counting.
        seen = self.keeper.timeout_seconds if self.keeper is not None else 0.0
        bound = max(self.watchdog_seconds, seen) if self.deadline is not None else 0.0
        object.__setattr__(self, "watchdog_seconds", bound)
        object.__setattr__(self, "departed", self.departed if self.deadline is not None else ())
        object.__setattr__(self, "released", self.released and self.deadline is not None)

    @property
    def member(self) -> pool.Member | None:
        """This host in its pool, or None."""
        return self.config.member_of(self.host) if self.config else None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes."""

    now: float


@dataclass(frozen=True, slots=True)
class Configured:
    """The pool's configuration, new or changed."""

    now: float
    config: pool.PoolConfig


@dataclass(frozen=True, slots=True)
class CycleDone:
    """A storage cycle came back."""

    now: float
    cycle: Cycle


@dataclass(frozen=True, slots=True)
class PacketHeard:
    """A packet with a good signature came."""

    now: float
    said: Statement


@dataclass(frozen=True, slots=True)
class KeeperSaid:
    """The keeper described itself."""

    now: float
    keeper: Keeper


@dataclass(frozen=True, slots=True)
class KeeperGone:
    """The connection to the keeper is lost."""

    now: float


@dataclass(frozen=True, slots=True)
class VmsCounted:
    """So many VMs are left on this host. 0: it is verified that none is, and that none can start."""

    now: float
    left: int


Event = Tick | Configured | CycleDone | PacketHeard | KeeperSaid | KeeperGone | VmsCounted


@dataclass(frozen=True, slots=True)
class StartCycle:
    """On `disks` write the header, if given, to those numbered in `blank_disks`, and the own block, if given; then read the header and all
    slots up to `last_slot`."""

    disks: tuple[str, ...]
    number: int
    slot: int
    block: bytes | None
    header: bytes | None
    last_slot: int
    blank_disks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send this to every other member."""

    said: Statement


@dataclass(frozen=True, slots=True)
class OpenWatchdog:
    """Ask the keeper to open the watchdog with that timeout."""

    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class GiveDeadline:
    """Tell the keeper how long it may pet for this incarnation."""

    incarnation: int
    deadline: float


@dataclass(frozen=True, slots=True)
class ReleaseKeeper:
    """Tell the keeper that this incarnation has been disarmed, visibly to all."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class StopVms:
    """Kill every VM on this host, let none start, and count what is left. Asked again and again: this host is being fenced."""


@dataclass(frozen=True, slots=True)
class CountDrop:
    """A packet was dropped for that reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """One sentence for the log; `loud` if somebody has to look."""

    sentence: str
    loud: bool = False


Action = StartCycle | SendPacket | OpenWatchdog | GiveDeadline | ReleaseKeeper | StopVms | CountDrop | Say

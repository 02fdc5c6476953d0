"""A pool of hosts in simulated real time, driving the very `step` functions that the agent runs.

Each host has its own clock rate, a disk path and a network path that can fail in ugly ways, processes that can be paused, and a watchdog
with its own clock. Real time is the axis; a host's machines only ever see its own clock. What is checked: no certificate before the
victim's possible end.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from quorate_core import heart as hearts
from quorate_core import heartbeat, keeping, slot
from quorate_core.heart import Heart
from quorate_core.keeping import Keeping, Mode
from quorate_core.licence import Cycle
from quorate_core.pool import Member, PoolConfig
from quorate_core.timing import DRAIN_SECONDS, WATCHDOG_GRANULARITY_SECONDS, Timing

TIMING = Timing(6, 2)
POOL_ID = bytes(range(1, 17))
RHO = 1e-3


@dataclass
class Faults:
    """What is wrong with a host at present. `disk_seconds` None: the disk never answers."""

    disk_seconds: Callable[[], float | None] = lambda: 0.02
    write_lands: bool = True
    disk_error: bool = False
    network: bool = True
    pulse_paused_until: float = 0.0
    hostile_keeper: bool = False


@dataclass
class Host:
    """One host: its machines, its clock, its dog. `died_at` is when its VMs were stopped, in real time."""

    name: str
    index: int
    rate: float
    dog_rate: float
    offset: float
    heart: Heart
    keeping: Keeping
    faults: Faults = field(default_factory=Faults)
    dog_due: float | None = None
    died_at: float | None = None
    keeper_alive: bool = True
    life: int = 0
    certified: dict[tuple[int, int], float] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


class World:
    """The pool, the disk, and the heap of what happens next."""

    def __init__(self, count: int, seed: int, *, timing: Timing = TIMING) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.config = PoolConfig(POOL_ID, tuple(Member(i, f"h{i}") for i in range(count)), timing)
        self.blocks: dict[int, bytes] = {}
        self.header = bytes(slot.BLOCK_BYTES)
        self.hosts = [self._host(i) for i in range(count)]
        self.ends: dict[tuple[int, int], float] = {}
        self.early: list[str] = []
        for host in self.hosts:
            self._boot(host)

    def _host(self, index: int) -> Host:
        pick = self.random.choice([(1 - RHO, 1 - RHO), (1 + RHO, 1 + RHO), (1.0, 1 - RHO)])
        return Host(f"h{index}", index, *pick, self.random.uniform(0, 1e6), self._heart(index, 1), Keeping(f"boot-{index}-0"))

    def _heart(self, index: int, life: int) -> Heart:
        boot = bytes([index + 1, life]) * 8
        return Heart(f"h{index}", boot, self.random.getrandbits(64) | 1)

    def _boot(self, host: Host) -> None:
        host.life += 1
        host.died_at, host.dog_due, host.keeper_alive = None, None, True
        host.heart, host.keeping, host.faults = self._heart(host.index, host.life), Keeping(f"boot-{host.index}-{host.life}"), Faults()
        self.step(host, hearts.Configured(self.clock(host), self.config))
        self._keeper_speaks(host)
        self._loop_pulse(host, host.life)
        self._loop_keeper(host, host.life)
        self._loop_dog(host, host.life)

    # time

    def clock(self, host: Host) -> float:
        return host.offset + self.now * host.rate

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it so many real seconds from now."""
        heapq.heappush(self._heap, (self.now + max(0.0, seconds), next(self._number), what))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = until

    def run_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Run until it holds, at most so long; whether it does."""
        until = self.now + seconds
        while self.now < until and not holds():
            self.run(0.25)
        return holds()

    # one host's life

    def _alive(self, host: Host, life: int) -> bool:
        return host.died_at is None and host.life == life

    def _loop_pulse(self, host: Host, life: int) -> None:
        if not self._alive(host, life):
            return
        pause = host.faults.pulse_paused_until - self.now
        if pause <= 0:
            self.step(host, hearts.Tick(self.clock(host)))
        self.at(max(pause, self.random.uniform(0.05, 0.15)), lambda: self._loop_pulse(host, life))

    def step(self, host: Host, event: hearts.Event) -> None:
        host.heart, actions = heartbeat.step(host.heart, event)
        for action in actions:
            self._act(host, action, event.now)
        for issued in host.heart.issued:
            key = (issued.slot, issued.incarnation)
            if key not in host.certified:
                host.certified[key] = self.now
                self._check(host, key)

    def _act(self, host: Host, action: hearts.Action, clock: float) -> None:
        life = host.life
        match action:
            case hearts.StartCycle():
                self._start_cycle(host, action, clock)
            case hearts.SendPacket(said):
                for other in self.hosts:
                    if other is not host and host.faults.network:
                        self.at(self.random.uniform(0.001, 0.05), lambda other=other: self._deliver(other, other.life, said))  # type: ignore[misc]
            case hearts.OpenWatchdog(timeout):
                if host.keeping.mode is Mode.CLOSED and host.keeper_alive:
                    self._ping(host)
                    self._keep(host, keeping.Opened(self.clock(host), "dog", timeout, timeout))
                    self._keeper_speaks(host)
            case hearts.GiveDeadline(incarnation, deadline):
                name = f"{incarnation:016x}"
                self.at(0.001, lambda: self._to_keeper(host, life, lambda: keeping.DeadlineGiven(self.clock(host), name, deadline)))
            case hearts.ReleaseKeeper(incarnation):
                self.at(0.001, lambda: self._to_keeper(host, life, lambda: keeping.Released(self.clock(host), f"{incarnation:016x}")))
            case hearts.Say(sentence):
                host.sentences.append(sentence)

    def _deliver(self, host: Host, life: int, said: hearts.Statement) -> None:
        if self._alive(host, life) and host.faults.network and host.faults.pulse_paused_until <= self.now:
            self.step(host, hearts.PacketHeard(self.clock(host), said))

    # the disk

    def _start_cycle(self, host: Host, what: hearts.StartCycle, issued_clock: float) -> None:
        seconds, life = host.faults.disk_seconds(), host.life
        hostile = host.faults
        found: dict[str, object] = {"own": self.blocks.get(what.slot, b"") if what.block is not None else b""}
        before = self.random.uniform(0, 0.3) * (seconds or 1)
        after = self.random.uniform(before, 0.9 * (seconds or 1))
        # What was sent may land even after its host has died.
        if hostile.write_lands and not hostile.disk_error:
            self.at(before, lambda: self._land(what, found))
        if seconds is None:
            return

        def read() -> None:
            found["header"], found["blocks"], found["at"] = self.header, dict(self.blocks), self.clock(host)

        def done() -> None:
            self._complete(host, life, what, issued_clock, found, "EIO" if hostile.disk_error else "")

        self.at(after, read)
        self.at(seconds, done)

    def _land(self, what: hearts.StartCycle, found: dict[str, object]) -> None:
        if what.header is not None:
            self.header = what.header
        if what.block is not None:
            found["own"] = self.blocks.get(what.slot, b"")
            self.blocks[what.slot] = what.block

    def _complete(self, host: Host, life: int, what: hearts.StartCycle, issued: float, found: dict[str, object], error: str) -> None:
        if not self._alive(host, life):
            return
        pause = host.faults.pulse_paused_until - self.now
        completed = self.clock(host)
        blocks = {i: self._zero(found["blocks"], i) for i in range(what.last_slot + 1)} if not error else {}
        header = found["header"] if not error else b""
        assert isinstance(header, bytes)
        own = found["own"]
        assert isinstance(own, bytes)
        assert isinstance(found["at"], float)
        cycle = Cycle(what.number, issued, found["at"], completed, what.block, header, blocks, error, own)

        def deliver() -> None:
            if self._alive(host, life):
                self.step(host, hearts.CycleDone(self.clock(host), cycle))

        self.at(max(0.0, pause), deliver)

    @staticmethod
    def _zero(blocks: object, index: int) -> bytes:
        assert isinstance(blocks, dict)
        return blocks.get(index, bytes(slot.BLOCK_BYTES))  # type: ignore[no-any-return]

    # keeper and dog

    def _to_keeper(self, host: Host, life: int, event: Callable[[], keeping.Event]) -> None:
        if self._alive(host, life) and host.keeper_alive:
            was = host.keeping.mode
            self._keep(host, event())
            if host.keeping.mode is not was:
                self._keeper_speaks(host)

    def _keeper_speaks(self, host: Host) -> None:
        k = host.keeping
        described = hearts.Keeper(k.mode, int(k.incarnation or "0", 16), k.deadline, k.device, "dog", k.timeout_seconds)
        self.step(host, hearts.KeeperSaid(self.clock(host), described))

    def _keep(self, host: Host, event: keeping.Event) -> None:
        host.keeping, actions = keeping.step(host.keeping, event)
        if keeping.Pet() in actions:
            self._pet(host)

    def _pet(self, host: Host) -> None:
        """A pet passed its check. A hostile schedule lets it land as late as it can, and kills the keeper as late as it can after that."""
        left = host.keeping.deadline - self.clock(host)
        if not host.faults.hostile_keeper or host.keeping.mode is not Mode.LICENSED or left > host.keeping.timeout_seconds / 2:
            self._ping(host)
            return
        assert host.dog_due is not None
        host.keeper_alive = False  # it is paused between check and pet, and never runs freely again
        life = host.life
        self.at(host.dog_due - self.now - 0.001, lambda: self._late_pet(host, life))

    def _late_pet(self, host: Host, life: int) -> None:
        if not self._alive(host, life):
            return
        self._ping(host)
        assert host.dog_due is not None
        # Killed at the last moment: closing the device pings once more.
        self.at(host.dog_due - self.now - 0.001, lambda: self._ping(host) if self._alive(host, life) else None)

    def _ping(self, host: Host) -> None:
        host.dog_due = self.now + self.config.timing.watchdog_seconds / host.dog_rate + WATCHDOG_GRANULARITY_SECONDS

    def _loop_keeper(self, host: Host, life: int) -> None:
        if self._alive(host, life) and host.keeper_alive:
            self._keep(host, keeping.Tick(self.clock(host)))
            self.at(self.random.uniform(0.05, 0.2), lambda: self._loop_keeper(host, life))

    def _loop_dog(self, host: Host, life: int) -> None:
        if not self._alive(host, life):
            return
        if host.dog_due is not None and self.now >= host.dog_due:
            self.power_off(host)
            return
        wait = 0.25 if host.dog_due is None else min(0.25, host.dog_due - self.now)
        self.at(wait, lambda: self._loop_dog(host, life))

    def power_off(self, host: Host) -> None:
        """The host ends here and now; its VMs with it."""
        host.died_at = self.now
        self.ends[host.index, host.heart.incarnation] = self.now

    def reboot(self, host: Host) -> None:
        """A dead host comes back as a new incarnation."""
        assert host.died_at is not None
        self._boot(host)

    # what must hold

    def _check(self, issuer: Host, key: tuple[int, int]) -> None:
        """The one invariant: when a certificate exists, the victim has ended, and what it had sent to a disk has landed."""
        end = self.ends.get(key)
        if end is None or end + DRAIN_SECONDS > self.now + 1e-9:
            when = "still runs" if end is None else f"ended only {self.now - end:.2f} s before"
            self.early.append(f"at {self.now:.2f} s {issuer.name} certified h{key[0]}/{key[1]:x}, which {when}")

    def armed(self, *hosts: Host) -> bool:
        """Whether these hosts (all, if none is named) are armed and have published it."""
        return all(h.died_at is None and h.heart.phase.name == "ARMED" and h.heart.confirmed for h in hosts or self.hosts)

    def certified_by(self, victim: int, incarnation: int) -> list[Host]:
        """Who has certified it."""
        return [h for h in self.hosts if (victim, incarnation) in h.certified]

    def set(self, host: Host, **faults: object) -> None:
        """Change what is wrong with a host."""
        host.faults = replace(host.faults, **faults)  # type: ignore[arg-type]

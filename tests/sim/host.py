"""One simulated machine: its clock, its watchdog, its processes, its VMs, and what is left of each when it loses power.

Its VMs run from the start until it dies or until they were verifiably stopped. Nothing that a machine believes counts here; what counts is
when the simulated power goes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from quorate_core import heart as hearts
from quorate_core.heart import Heart
from quorate_core.keeping import Marker
from quorate_core.pool import PoolConfig
from quorate_core.statement import Statement

from .disks import Path, SharedDisk
from .keeper import Dog, Keeper
from .pulse import Pulse

if TYPE_CHECKING:
    from .world import World

_FASTEST, _SLOWEST = 1e-3, -1e-3


class Host:
    """A machine of the pool. `life` counts its boots. A `twin` is another machine with the same name and slot."""

    def __init__(self, world: World, index: int, granularity_seconds: float, *, twin: bool = False) -> None:
        self.world, self.engine, self.monitor = world, world.engine, world.monitor
        self.index, self.name = index, f"h{index}"
        chance = world.engine.chance(f"host {index}{' twin' if twin else ''}")
        self._chance = chance
        self.rate, self._dog_rate = (
            1 + value for value in chance.choice([(_SLOWEST, _SLOWEST), (_FASTEST, _FASTEST), (0.0, _SLOWEST), (_FASTEST, _SLOWEST)])
        )
        self._offset = 0.0
        self._granularity = granularity_seconds
        self.paths: list[Path] = []
        for disk in world.disks:
            self.reach(disk)
        self.config: PoolConfig | None = None
        self.remembered: PoolConfig | None = None
        self.life = 100 if twin else 0
        self.died_at: float | None = 0.0
        self.vms_stopped_at: float | None = None
        self._vms_stop_at: float | None = None
        self.vms_stop_seconds: tuple[float, float] | None = (0.1, 2.0)
        self.watchdog_can_stop = chance.random() < 0.5
        self.watchdog_problem = False
        self.watchdog_is_deaf = False
        self.watchdog_has_failed = False
        self.watchdog_least_seconds = 0.0
        self.marker: Marker | None = None
        self.marker_fails = False
        self.keeper_strategy = ""
        self.restarts = 0
        self.pulse: Pulse
        self.keeper: Keeper

    def reach(self, disk: SharedDisk) -> None:
        """There is one disk more, and a way to it."""
        path = Path(self.engine, disk, self.engine.chance(f"disk {self.index} {len(self.paths)}"))
        path.on_landed = partial(self.monitor.sign, self.index)
        self.paths.append(path)

    # power

    def boot(self) -> None:
        """Power on: new boot id, empty tmpfs, new processes."""
        self.life += 1
        self.died_at = self.vms_stopped_at = self._vms_stop_at = None
        self.boot_id = bytes([self.index + 1, self.life]) * 8
        self.boot_name = f"boot-{self.index}-{self.life}"
        self.marker, self.remembered, self.restarts = None, None, 0
        started = self._chance.choice([self._chance.uniform(0.5, 20), self._chance.uniform(0, 1e6)])
        self._offset = started - self.engine.now * self.rate
        life = self.life
        self.dog = Dog(self.engine, self._dog_rate, self._granularity, lambda: self._bitten(life))
        self._keepers = self._pulses = 0
        self.start_pulse()
        self.start_keeper()

    def _bitten(self, life: int) -> None:
        if life == self.life and not (self.watchdog_is_deaf or self.watchdog_has_failed):
            self.power_off("reset by its watchdog")

    def power_off(self, why: str) -> None:
        """It ends here and now, and its VMs with it."""
        if self.died_at is None:
            self.died_at = self.engine.now
            self.dog.stop()
            self.keeper.gone = True
            self.pulse.kill()
            self.monitor.died(self, why)

    @property
    def alive(self) -> bool:
        """Whether it has power."""
        return self.died_at is None

    def clock(self) -> float:
        """Its seconds since boot."""
        return self._offset + self.engine.now * self.rate

    def shift_clock(self, seconds: float) -> None:
        """Start its clock elsewhere. Only before its processes have read it."""
        self._offset += seconds

    def draw_incarnation(self) -> int:
        """A nonce for a new life of pulse."""
        return self._chance.getrandbits(63) | 1

    # processes

    def start_keeper(self) -> None:
        """A new keeper, which finds what the one before it has left; not beside another one, which holds its lock."""
        if self.alive and not (self._keepers and not self.keeper.gone):
            self._keepers += 1
            self.keeper = Keeper(self, self.life * 1000 + self._keepers)
            self.keeper.start()
            self.engine.after(0.05, self.keeper_speaks)

    def kill_keeper(self) -> None:
        """The keeper is killed."""
        if self.alive:
            self.keeper.kill()

    def keeper_is_gone(self) -> None:
        """Pulse sees its connection break."""
        self.pulse.take(hearts.KeeperGone)

    def start_pulse(self) -> None:
        """A new pulse, which knows nothing but its configuration. Not while the one before it is stuck in a system call, and so holds its
        lock: what that one had asked for may still land. Nor beside one that lives."""
        if self._pulses and not self.pulse.gone:
            return
        if self.alive and self._pulses and any(path.holds(self.pulse) for path in self.paths):
            life = self.life
            self.engine.after(0.5, lambda: self.start_pulse() if self.life == life else None)
        elif self.alive:
            self._pulses += 1
            self.pulse = Pulse(self, self.life * 1000 + self._pulses)
            self.monitor.pulse_started(self, self.pulse.heart.incarnation)
            self.pulse.start()

    @property
    def heart(self) -> Heart:
        """What its pulse knows, or knew last."""
        return self.pulse.heart

    def keeper_hears(self, what: Callable[[], None]) -> None:
        """A message of pulse is on its way to the keeper."""
        keeper = self.keeper
        self.engine.after(0.001, keeper.hear, what)

    def keeper_speaks(self) -> None:
        """The keeper describes itself to pulse."""
        if not self.alive or self.keeper.gone:
            return
        k = self.keeper.state
        problem = "/dev/watchdog: no such file" if self.watchdog_problem else k.problem
        described = hearts.Keeper(k.mode, int(k.incarnation or "0", 16), k.deadline, k.device, "dog", k.timeout_seconds, problem)
        self.engine.after(0.001, self.pulse.take, lambda now: hearts.KeeperSaid(now, described))

    def send(self, said: Statement) -> None:
        """One packet to every other member."""
        self.world.network.send(self.index, said)

    def hear(self, said: Statement) -> None:
        """A packet arrives, if anybody is here."""
        if self.alive:
            self.pulse.hear(said)

    def configure(self, config: PoolConfig) -> None:
        """The pool's configuration arrives."""
        self.config = config
        if self.alive:
            self.pulse.configure()

    # VMs

    def stop_vms(self, pulse: Pulse) -> None:
        """Pulse wants every VM killed, and none to start again; the answer comes back a moment later."""
        if self.vms_stop_seconds is not None and self._vms_stop_at is None:
            self._vms_stop_at = self.engine.now + self._chance.uniform(*self.vms_stop_seconds)
            self.engine.at(self._vms_stop_at, self._vms_gone, self.life)
            self.monitor.vms_are_being_stopped(self)
        left = 0 if self.vms_stopped_at is not None else 1
        self.engine.after(0.02, pulse.take, lambda now: hearts.VmsCounted(now, left))

    def _vms_gone(self, life: int) -> None:
        if life == self.life and self.alive:
            self.vms_stopped_at = self.engine.now
            self.monitor.vms_gone(self)

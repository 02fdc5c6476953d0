"""The simulated shell around `heartbeat.step`: what pulse's own loop does, with pauses and deaths at the worst moments.

A paused process takes in nothing; packets, answers of disks and words of the keeper wait, and come all at once when it goes on. A process
that was killed has lost its state; what it had sent to a disk may still land.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from quorate_core import disks as disk_sets
from quorate_core import heart as hearts
from quorate_core import heartbeat, keeping
from quorate_core.heart import Heart
from quorate_core.licence import Cycle
from quorate_core.pool import PoolConfig
from quorate_core.statement import Phase, Statement

if TYPE_CHECKING:
    from .disks import Path
    from .host import Host

_LONGEST_SLEEP_SECONDS = 0.5
_SOCKET_HOLDS = 200


class Pulse:
    """One life of the process. Its `heart` is what the machine knows."""

    def __init__(self, host: Host, number: int) -> None:
        self._host, self._engine = host, host.engine
        self._chance = host.engine.chance(f"pulse {host.index} {number}")
        self.heart = Heart(host.name, host.boot_id, host.draw_incarnation())
        self.gone = False
        self._paused_until = self._loop_paused_until = 0.0
        self._worker_inbox: deque[Callable[[], None]] = deque()
        self._inbox: deque[Callable[[], None]] = deque()
        self._disks = disk_sets.Disks()
        self._paths: dict[str, Path] = {}
        self._bound: PoolConfig | None = None
        self._latest: PoolConfig | None = None
        self._may_resume = host.remembered is not None
        self._wakes_at = float("inf")
        self._order: tuple[hearts.StartCycle, float] | None = None

    def start(self) -> None:
        """What the process does first: its configuration is on the host's own disk, then it finds the keeper."""
        if self._host.remembered is not None:
            self._take_over(self._host.remembered)
        else:
            self.configure()
        self._engine.after(self._chance.uniform(0.01, 0.3), self.when_awake, self._meet_keeper)
        self._wake()

    def configure(self) -> None:
        """The configuration is new: it is taken over, but not before it is known whether a licence goes on under another one."""
        if self._host.config is not None and not self._may_resume:
            self._take_over(self._host.config)

    def _take_over(self, config: PoolConfig) -> None:
        self.take(lambda now: hearts.Configured(now, config))

    def _meet_keeper(self) -> None:
        self._host.keeper_speaks()

    def kill(self) -> None:
        """It is gone, at once."""
        self.gone = True
        self._inbox.clear()

    # time

    def clock(self) -> float:
        """The host's clock."""
        return self._host.clock()

    def pause(self, seconds: float, *, loop_only: bool = False) -> None:
        """Stop it for so long (SIGSTOP); or its decision loop only, while its disk worker goes on."""
        until = self._engine.now + seconds
        self._loop_paused_until = max(self._loop_paused_until, until)
        if not loop_only:
            self._paused_until = max(self._paused_until, until)
        self._engine.at(until, self._go_on)

    def when_awake(self, what: Callable[[], None]) -> None:
        """Do it now, or when the process runs again; never if it is gone."""
        self._when(self._paused_until, self._worker_inbox, what)

    def take(self, event: Callable[[float], hearts.Event]) -> None:
        """Hand an event to the machine, made with the time at which it is taken in."""
        self._when(self._loop_paused_until, self._inbox, lambda: self._step(event(self.clock())))

    def hear(self, said: Statement) -> None:
        """A packet arrives."""
        self.take(lambda now: hearts.PacketHeard(now, said))

    def _when(self, paused_until: float, inbox: deque[Callable[[], None]], what: Callable[[], None]) -> None:
        if self.gone:
            return
        if self._engine.now >= paused_until:
            what()
        elif len(inbox) < _SOCKET_HOLDS:
            inbox.append(what)

    def _go_on(self) -> None:
        while self._worker_inbox and self._engine.now >= self._paused_until and not self.gone:
            self._worker_inbox.popleft()()
        while self._inbox and self._engine.now >= self._loop_paused_until and not self.gone:
            self._inbox.popleft()()
        self._wake()

    def _wake(self) -> None:
        if self.gone or self._engine.now < self._loop_paused_until:
            return
        self._step(hearts.Tick(self.clock()))
        self._sleep()

    def _sleep(self) -> None:
        heart, now = self.heart, self.clock()
        due = now + _LONGEST_SLEEP_SECONDS
        if heart.config is not None and heart.phase is not Phase.FENCING and heart.keeper is not None:
            if heart.pending is None:
                due = min(due, heart.next_cycle_at)
            if heart.claimed:
                due = min(due, heart.next_packet_at)
        wait = max(0.005, due - now) + 0.01 * self._chance.random()
        self._wakes_at = self._engine.now + wait
        self._engine.at(self._wakes_at, self._ring, self._wakes_at)

    def _ring(self, when: float) -> None:
        if when == self._wakes_at:
            self._wake()

    # the machine

    def _step(self, event: hearts.Event) -> None:
        before = self.heart
        self.heart, actions = heartbeat.step(before, event)
        core = self.heart.config
        if isinstance(event, hearts.Configured):
            self._latest = event.config
        if core is not None and core is not before.config and self._latest is not None and core.members == self._latest.members:
            self._bound = core
        for action in actions:
            self._act(action, event.now)
        self._host.monitor.after_step(self._host, before, self.heart)
        if self._may_resume and self.heart.keeper is not None and not self.heart.resuming:
            self._may_resume = False
            self._engine.after(self._chance.random(), self.configure)

    def _act(self, action: hearts.Action, now: float) -> None:
        match action:
            case hearts.StartCycle():
                self._begin(action, now)
            case hearts.SendPacket(said):
                self._host.send(said)
            case hearts.OpenWatchdog(timeout):
                self._host.keeper_hears(lambda: self._host.keeper.open(timeout))
            case hearts.GiveDeadline(incarnation, deadline):
                self._host.remembered = self._bound
                name = f"{incarnation:016x}"
                self._host.keeper_hears(lambda: self._host.keeper.take(lambda at: keeping.DeadlineGiven(at, name, deadline)))
            case hearts.ReleaseKeeper(incarnation):
                name = f"{incarnation:016x}"
                self._host.keeper_hears(lambda: self._host.keeper.take(lambda at: keeping.Released(at, name)))
            case hearts.StopVms():
                self._host.stop_vms(self)
            case hearts.Say(sentence, loud):
                self._host.monitor.said(self._host, sentence, loud=loud)
            case hearts.CountDrop():
                pass

    def _begin(self, what: hearts.StartCycle, issued: float) -> None:
        self._order = (what, issued)
        self._use(what.disks)
        started = disk_sets.begin(self._disks, what.number, what.slot, what.block)
        self._disks = started.disks
        self._give(started.orders)

    def _use(self, names: tuple[str, ...]) -> None:
        if tuple(self._paths) == names:
            return
        self._disks = disk_sets.use(self._disks, tuple(self._paths), names)
        self._paths = {name: self._host.paths[int(name)] for name in names}

    def _give(self, indexes: tuple[int, ...]) -> None:
        assert self._order is not None
        what, issued = self._order
        names = tuple(self._paths)
        for index in indexes:
            header = what.header if index in what.blank_disks else None
            done = partial(self._answered, names[index])
            self._paths[names[index]].run(self, what, issued, header, done)

    def _answered(self, name: str, cycle: Cycle) -> None:
        """The worker is done; the decision loop takes it in when it can."""
        self._when(self._loop_paused_until, self._inbox, lambda: self._take_answer(name, cycle))

    def _take_answer(self, name: str, cycle: Cycle) -> None:
        if name not in self._paths:
            return
        index = tuple(self._paths).index(name)
        outcome = disk_sets.answered(self._disks, index, cycle)
        self._disks = outcome.disks
        self._give(outcome.orders)
        if outcome.cycle is not None:
            self._step(hearts.CycleDone(self.clock(), outcome.cycle))

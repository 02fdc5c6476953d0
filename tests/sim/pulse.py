"""The simulated shell around `heartbeat.step`: what pulse's own loop does, with pauses and deaths at the worst moments.

A paused process takes in nothing; packets, answers of disks and words of the keeper wait, and come all at once when it goes on. A process
that was killed has lost its state; what it had sent to a disk may still land.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate_core import disks as disk_sets
from quorate_core import heart as hearts
from quorate_core import heartbeat, keeping
from quorate_core.heart import Heart
from quorate_core.licence import Cycle
from quorate_core.statement import Phase, Statement

if TYPE_CHECKING:
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
        self._disks = disk_sets.Disks(len(host.paths))
        self._wakes_at = float("inf")
        self._order: tuple[hearts.StartCycle, float] | None = None

    def start(self) -> None:
        """What the process does first: its configuration is on the host's own disk, then it finds the keeper."""
        if self._host.config is not None:
            self.take(lambda now: hearts.Configured(now, self._host.config))  # type: ignore[arg-type]
        self._engine.after(self._chance.uniform(0.01, 0.3), self.when_awake, self._meet_keeper)
        self._wake()

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
        for action in actions:
            self._act(action, event.now)
        self._host.monitor.after_step(self._host, before, self.heart)

    def _act(self, action: hearts.Action, now: float) -> None:
        match action:
            case hearts.StartCycle():
                self._begin(action, now)
            case hearts.SendPacket(said):
                self._host.send(said)
            case hearts.OpenWatchdog(timeout):
                self._host.keeper_hears(lambda: self._host.keeper.open(timeout))
            case hearts.GiveDeadline(incarnation, deadline):
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
        started = disk_sets.begin(self._disks, what.number, what.slot, what.block)
        self._disks = started.disks
        self._give(started.orders)

    def _give(self, indexes: tuple[int, ...]) -> None:
        assert self._order is not None
        what, issued = self._order
        for index in indexes:
            header = what.header if index in what.blank_disks else None
            path = self._host.paths[index]
            path.run(self, what, issued, header, lambda cycle, index=index: self._answered(index, cycle))  # type: ignore[misc]

    def _answered(self, index: int, cycle: Cycle) -> None:
        """The worker is done; the decision loop takes it in when it can."""
        self._when(self._loop_paused_until, self._inbox, lambda: self._take_answer(index, cycle))

    def _take_answer(self, index: int, cycle: Cycle) -> None:
        outcome = disk_sets.answered(self._disks, index, cycle)
        self._disks = outcome.disks
        self._give(outcome.orders)
        if outcome.cycle is not None:
            self._step(hearts.CycleDone(self.clock(), outcome.cycle))

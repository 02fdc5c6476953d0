"""The simulated shell around `keeping.step`, the watchdog, and the worst that a scheduler can do to the two.

The watchdog has its own clock. It bites W + g after the last ping. Opening it pings, and so does closing it, or a kill.

A hostile schedule ("late", "reopen") lets every act that passed its check happen as late as it can, just before the watchdog bites. Then
the keeper is killed at the last moment, comes back at once, and everything begins again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from quorate_core import keeping
from quorate_core.keeping import Keeping, Mode

if TYPE_CHECKING:
    from .engine import Engine
    from .host import Host

_LONGEST_SLEEP_SECONDS = 0.5
_LAST_MOMENT_SECONDS = 0.001
_RESTARTS = 6


class Dog:
    """A watchdog: `bite` is called when it has not been pinged for W + g by its own clock."""

    def __init__(self, engine: Engine, rate: float, granularity_seconds: float, bite: Callable[[], None]) -> None:
        self._engine, self._rate, self._granularity, self._bite = engine, rate, granularity_seconds, bite
        self.timeout_seconds = 0.0
        self.due: float | None = None

    def start(self, timeout_seconds: float) -> None:
        """Opened: it runs, with that timeout unless it already runs."""
        if self.due is None:
            self.timeout_seconds = timeout_seconds
        self.ping()

    def ping(self) -> None:
        """Count anew."""
        was = self.due
        self.due = self._engine.now + self.timeout_seconds / self._rate + self._granularity
        if was is None:
            self._engine.at(self.due, self._look)

    def stop(self) -> None:
        """Disarmed for good."""
        self.due = None

    def _look(self) -> None:
        if self.due is None:
            return
        if self._engine.now >= self.due:
            self._bite()
        else:
            self._engine.at(self.due, self._look)


class Keeper:
    """One life of the keeper. `strategy` is how hostile the schedule is to it: "" not at all."""

    def __init__(self, host: Host, number: int) -> None:
        self._host, self._engine, self._dog = host, host.engine, host.dog
        self._chance = host.engine.chance(f"keeper {host.index} {number}")
        self.state = Keeping(host.boot_name)
        self.gone = False
        self._paused_until = 0.0
        self._inbox: list[Callable[[], None]] = []
        self._open = False
        self._watches_end = self._held = False
        self._pets_held = self._turns = 0

    def start(self) -> None:
        """What the process does first: it reads its marker."""
        self.state, device = keeping.restore(self._host.marker, self._host.boot_name, self._clock())
        if device is None:
            self._loop()
        elif self._host.keeper_strategy and self._host.restarts:
            self._at_the_last_moment(lambda: self._reopen(then_die=True))
        else:
            self._reopen(then_die=False)

    def _reopen(self, *, then_die: bool) -> None:
        self._dog.start(self.state.asked_timeout_seconds)
        self._open = True
        self.state = replace(self.state, timeout_seconds=self._dog.timeout_seconds, petted_at=self._clock())
        if then_die:
            self._finish_hostile_turn()
        else:
            self._loop()

    def kill(self) -> None:
        """It is gone; the kernel closes its device, which pings."""
        if self.gone:
            return
        self.gone = True
        if self._open:
            self._dog.ping()
        self._host.keeper_is_gone()

    def pause(self, seconds: float) -> None:
        """Stop it for so long."""
        self._paused_until = max(self._paused_until, self._engine.now + seconds)
        self._engine.at(self._paused_until, self._go_on)

    def hear(self, what: Callable[[], None]) -> None:
        """Something arrives on its socket."""
        if self.gone:
            return
        if self._engine.now < self._paused_until:
            self._inbox.append(what)
        else:
            what()

    def take(self, event: Callable[[float], keeping.Event]) -> None:
        """Hand it to the machine."""
        if not self.gone:
            self._step(event(self._clock()))

    def open(self, timeout_seconds: float) -> None:
        """Pulse wants the watchdog opened."""
        host = self._host
        if self.gone or self.state.mode is not Mode.CLOSED:
            return
        if not host.watchdog_problem and not host.watchdog_has_failed:
            self._dog.start(max(timeout_seconds, host.watchdog_least_seconds))
            self._open = True
            self._step(keeping.Opened(self._clock(), "dog", timeout_seconds, self._dog.timeout_seconds))
        host.keeper_speaks()

    def _clock(self) -> float:
        return self._host.clock()

    def _go_on(self) -> None:
        if not self.gone and self._engine.now >= self._paused_until:
            self._turn()

    def _turn(self) -> None:
        """Time first, then what has arrived, as the real loop does; then sleep."""
        self._step(keeping.Tick(self._clock()))
        waiting, self._inbox = self._inbox, []
        for what in waiting:
            what()
        self._loop()

    def _loop(self) -> None:
        self._turns += 1
        self._ring(self._turns)

    def _ring(self, turn: int) -> None:
        if self.gone or self._engine.now < self._paused_until or turn != self._turns:
            return
        self._step(keeping.Tick(self._clock()))
        if self._host.keeper_strategy and not self._watches_end and self.state.mode is Mode.LICENSED:
            self._watch_for_the_end()
        due = min(_LONGEST_SLEEP_SECONDS, max(0.0, self.state.next_pet_at - self._clock())) if self._open else _LONGEST_SLEEP_SECONDS
        self._engine.after(max(0.01, due) + 0.05 * self._chance.random(), self._ring, turn)

    def _step(self, event: keeping.Event) -> None:
        after, actions = keeping.step(self.state, event)
        answer: str | None = None
        for action in actions:
            match action:
                case keeping.SaveMarker(marker):
                    if self._host.marker_fails:
                        return
                    self._host.marker = marker
                case keeping.Pet():
                    if self._held:
                        self._pets_held += 1
                    elif self._host.watchdog_has_failed:
                        answer = "input/output error"
                    elif self._open:
                        self._dog.ping()
                        answer = ""
                case keeping.CloseIfPossible():
                    after = self._close(after)
                case keeping.LetGo():
                    self._open = False
                case keeping.Say(sentence):
                    self._host.monitor.said(self._host, f"keeper: {sentence}", loud=False)
        changed = (after.mode, after.problem) != (self.state.mode, self.state.problem)
        self.state = after
        if changed:
            self._host.keeper_speaks()
        if answer is not None:
            self._step(keeping.PetAnswered(self._clock(), answer))

    def _close(self, state: Keeping) -> Keeping:
        if not self._host.watchdog_can_stop or self._host.watchdog_has_failed:
            return state
        self._dog.stop()
        self._open = False
        closed = Keeping(state.boot_id)
        self._host.marker = keeping.marker_of(closed)
        return closed

    # hostility

    def _watch_for_the_end(self) -> None:
        """Be there when the licence ends."""
        self._watches_end = True
        deadline = self.state.deadline
        moment = _LAST_MOMENT_SECONDS
        before = 2 * self.state.timeout_seconds / 4 + 10 * moment if self._host.keeper_strategy == "late" else moment
        act = self._hold_pets if self._host.keeper_strategy == "late" else self._die_and_return

        def look() -> None:
            if self.gone or not self._still(deadline):
                self._watches_end = False
                return
            act(deadline)

        self._engine.after((deadline - self._clock()) / self._host.rate - before, look)

    def _still(self, deadline: float) -> bool:
        return self.state.mode is Mode.LICENSED and self.state.deadline == deadline and self._engine.now >= self._paused_until

    def _die_and_return(self, deadline: float) -> None:
        """Killed just before the licence ends, so that the next keeper passes its check at the last instant."""
        self._watches_end = False
        self._restart()

    def _hold_pets(self, deadline: float) -> None:
        """A pet whose check passed early lands as the licence ends; and another one has passed its check by then."""
        moment, interval = _LAST_MOMENT_SECONDS, self.state.timeout_seconds / 4
        ends = self._engine.now + (deadline - self._clock()) / self._host.rate
        self._turns += 1  # its own loop stands still from here on
        self._held = True

        def tick() -> None:
            if not self.gone:
                self._step(keeping.Tick(self._clock()))

        def first_lands() -> None:
            if self.gone:
                return
            if self._pets_held:
                self._dog.ping()
            if not self._still(deadline):
                self._held, self._pets_held, self._watches_end = False, 0, False
                self._loop()
                return
            self._pets_held = 0
            tick()
            if self._pets_held:
                self._at_the_last_moment(self._late_pet)
            else:
                self._finish_hostile_turn()

        self._engine.at(ends - interval - 3 * moment, tick)
        self._engine.at(ends - moment, first_lands)

    def _at_the_last_moment(self, what: Callable[[], None]) -> None:
        """Stand still until just before the watchdog bites; then do it."""
        due = self._dog.due
        if due is None:
            what()
            return
        self._paused_until = float("inf")
        self._engine.at(due - _LAST_MOMENT_SECONDS, self._if_here, what)

    def _if_here(self, what: Callable[[], None]) -> None:
        if not self.gone:
            what()

    def _restart(self) -> None:
        self.kill()
        if self._host.restarts < _RESTARTS:
            self._host.restarts += 1
            self._host.start_keeper()

    def _late_pet(self) -> None:
        self._dog.ping()
        self._finish_hostile_turn()

    def _finish_hostile_turn(self) -> None:
        """One more turn of its loop, with all that waits for it; then it is killed at the last moment and comes back at once."""

        self._held = False

        def one_turn() -> None:
            due = self._dog.due
            self._step(keeping.Tick(self._clock()))
            waiting, self._inbox = self._inbox, []
            for what in waiting:
                what()
            if self._dog.due != due:
                self._at_the_last_moment(self._restart)
            else:
                self._restart()

        self._at_the_last_moment(one_turn)

"""All heartbeat disks of the pool, one worker each, as one: asks those that are idle, hands over a cycle once `quorate_core.disks` has it.

The rule is the core's, and so is the list of disks; here are only the threads and the orders.
"""

from collections.abc import Sequence
from dataclasses import replace

from quorate_agent.pulse.disk import Disk, Order
from quorate_core import disks
from quorate_core.heart import StartCycle
from quorate_core.licence import Cycle


class Storage:
    """The workers and the state of the cycle under way."""

    def __init__(self) -> None:
        self._workers: list[Disk] = []
        self._state = disks.Disks()
        self._order: Order | None = None
        self._may_begin: tuple[int, ...] = ()

    def order(self, pool_id: bytes, issued_at: float, what: StartCycle) -> None:
        """Ask all idle disks for that cycle; returns at once."""
        self._use(what.disks)
        self._order = Order(pool_id, what.number, issued_at, what.slot, what.block, what.header, what.last_slot)
        self._may_begin = what.blank_disks
        outcome = disks.begin(self._state, what.number, what.slot, what.block)
        self._state = outcome.disks
        self._give(outcome.orders)

    def results(self) -> list[Cycle]:
        """The whole cycles that have been decided since the last call."""
        found = []
        for index, worker in enumerate(self._workers):
            for cycle in worker.results():
                outcome = disks.answered(self._state, index, cycle)
                self._state = outcome.disks
                self._give(outcome.orders)
                if outcome.cycle is not None:
                    found.append(outcome.cycle)
        return found

    def sources(self) -> list[Disk]:
        """For select."""
        return self._workers

    @property
    def problem(self) -> str:
        """What is wrong with single disks; "" where there is one disk only, whose problems the cycle itself tells."""
        if len(self._workers) < 2:
            return ""
        found = {self._workers[i].path: why for i, why in sorted(self._state.problems.items())}
        return "; ".join(why if path in why else f"heartbeat disk {path}: {why}" for path, why in found.items())

    def _use(self, paths: Sequence[str]) -> None:
        before = {worker.path: worker for worker in self._workers}
        if list(before) == list(paths):
            return
        self._state = disks.use(self._state, list(before), paths)
        self._workers = [before.pop(path) if path in before else Disk(path) for path in paths]
        for unused in before.values():
            unused.retire()

    def _give(self, indexes: Sequence[int]) -> None:
        for index in indexes:
            assert self._order is not None  # disks are asked for nothing before the first order
            self._workers[index].order(self._order if index in self._may_begin else replace(self._order, header=None))

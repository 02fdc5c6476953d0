"""The heartbeat network: every directed link may be cut, lose, delay or repeat packets, and may deliver again what it carried long ago."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from quorate_core.statement import Statement

from .engine import Engine

_REMEMBERED = 60


@dataclass(slots=True)
class Link:
    """One direction between two hosts. `cuts` counts the faults that cut it; the others are the worst of those that are active."""

    cuts: int = 0
    losses: list[float] = field(default_factory=list)
    delays: list[tuple[float, float]] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    lost_in_a_row: int = 0
    most_lost_in_a_row: int = 0


class Network:
    """All links of a pool. `deliver` takes the receiver's index and the packet."""

    def __init__(self, engine: Engine, count: int, deliver: Callable[[int, Statement], None]) -> None:
        self._engine, self._deliver = engine, deliver
        self.links = {(a, b): Link() for a in range(count) for b in range(count) if a != b}
        self._sent: list[deque[Statement]] = [deque(maxlen=_REMEMBERED) for _ in range(count)]
        self._chance = [engine.chance(f"network {index}") for index in range(count)]
        self._targets = [[b for b in range(count) if b != a] for a in range(count)]

    def send(self, sender: int, said: Statement) -> None:
        """One packet to every other member."""
        self._sent[sender].append(said)
        chance = self._chance[sender]
        for receiver in self._targets[sender]:
            self._carry(self.links[sender, receiver], receiver, said, chance)

    def _carry(self, link: Link, receiver: int, said: Statement, chance: random.Random) -> None:
        draw, wait = chance.random(), 0.001 + 0.02 * chance.random()
        if link.cuts:
            return
        if link.losses and draw < max(link.losses) and not 0 < link.most_lost_in_a_row <= link.lost_in_a_row:
            link.lost_in_a_row += 1
            return
        link.lost_in_a_row = 0
        if link.delays:
            wait += chance.uniform(*max(link.delays))
        self._engine.after(wait, self._arrive, link, receiver, said)
        if link.repeats and chance.random() < max(link.repeats):
            self._engine.after(wait + chance.uniform(0, 8), self._arrive, link, receiver, said)

    def _arrive(self, link: Link, receiver: int, said: Statement) -> None:
        if not link.cuts:
            self._deliver(receiver, said)

    def replay(self, sender: int) -> None:
        """Everything that this host has sent of late arrives once more everywhere, whether it lives or not, in a wild order."""
        chance = self._chance[sender]
        old = list(self._sent[sender])
        chance.shuffle(old)
        for said in old:
            for receiver in self._targets[sender]:
                self._engine.after(chance.uniform(0, 2), self._deliver, receiver, said)

"""The heartbeat disks and the ways to them: slow, hanging, failing, stale, torn, late, and disks that bring an old write back.

A cycle is what the agent's worker does: look into the own slot, write it, read all slots; three operations, each with an instant at which
it really happens, somewhere between its request and its answer. What was sent may land although its sender has died.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from quorate_core import slot
from quorate_core.heart import StartCycle
from quorate_core.licence import Cycle
from quorate_core.statement import Malformed

from .engine import Engine

POOL_ID = bytes(range(1, 17))
EMPTY = bytes(slot.BLOCK_BYTES)
MOST_DISKS = 6
"""How many there may be in a schedule, used by the pool or not."""
_REMEMBERED = 40
_SECTOR = 512


class Process(Protocol):
    """The process that a worker belongs to: it has a clock, and it may be paused or gone."""

    def clock(self) -> float:
        """Its host's clock."""

    def when_awake(self, what: Callable[[], None]) -> None:
        """Do it now, or as soon as the process is not paused; never if it is gone."""


class SharedDisk:
    """One heartbeat disk: what stands on it, and what has been written of late."""

    def __init__(self) -> None:
        self.header = EMPTY
        self.blocks: dict[int, bytes] = {}
        self._written: dict[int, deque[bytes]] = {}

    def write(self, index: int, block: bytes) -> None:
        """A block lands."""
        self.blocks[index] = block
        self._written.setdefault(index, deque(maxlen=_REMEMBERED)).append(block)

    def bring_back(self, index: int, age: int) -> None:
        """An old write of that slot lands again."""
        old = self._written.get(index)
        if old:
            self.blocks[index] = old[max(0, len(old) - 1 - age)]


@dataclass(slots=True, eq=False)
class Effect:
    """One fault of a path. `kinds` are the operations it touches: look, write, read.

    `fails`: they answer with an error; `hangs`: they answer when the fault is over, with both with an error. `lands`: such a write lands
    all the same, after `late_seconds` if that is set. `slow` is the time of a whole cycle. `torn` is the share of writes of which only the
    first sectors land.
    `stale`: reads show what stood there when the fault began.
    """

    kinds: frozenset[str] = frozenset(("look", "write", "read"))
    fails: bool = False
    hangs: bool = False
    lands: bool = False
    late_seconds: float | None = None
    slow: tuple[float, float] | None = None
    torn: float = 0.0
    share: float = 1.0
    stale: bool = False
    snapshot: tuple[bytes, dict[int, bytes]] | None = None
    waiting: list[tuple[Process, Callable[[], None]]] = field(default_factory=list)


@dataclass(slots=True)
class _Order:
    what: StartCycle
    issued: float
    header: bytes | None
    done: Callable[[Cycle], None]
    shares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    found: bytes = b""
    ours: bool = True
    read_issued: float = 0.0
    error: str = ""
    got_header: bytes = b""
    got: dict[int, bytes] = field(default_factory=dict)


class Path:
    """One host's way to one disk, and the worker that uses it."""

    def __init__(self, engine: Engine, disk: SharedDisk, chance: random.Random) -> None:
        self._engine, self._disk, self._chance = engine, disk, chance
        self._effects: list[Effect] = []
        self.on_landed: Callable[[], None] | None = None
        self._looked_at, self._is_pools = b"", False

    def add(self, effect: Effect) -> None:
        """A fault begins."""
        if effect.stale:
            effect.snapshot = (self._disk.header, dict(self._disk.blocks))
        self._effects.append(effect)

    def remove(self, effect: Effect) -> None:
        """A fault is over: what hung goes on."""
        self._effects.remove(effect)
        waiting, effect.waiting = effect.waiting, []
        for _, proceed in waiting:
            proceed()

    def holds(self, process: Process) -> bool:
        """Whether a request of that process will not be answered before a fault is over."""
        return any(waiting is process for effect in self._effects for waiting, _ in effect.waiting)

    def run(self, process: Process, what: StartCycle, issued: float, header: bytes | None, done: Callable[[Cycle], None]) -> None:
        """A cycle; `done` gets it when, and if, it comes back."""
        order = _Order(what, issued, header, done)
        if not self._effects:
            wait = self._chance.uniform(0.004, 0.04)
            self._engine.after(wait / 2, self._at_once, process, order)
            return
        slow = next((e.slow for e in self._effects if e.slow is not None), None)
        total = self._chance.uniform(*slow) if slow else self._chance.uniform(0.004, 0.04)
        one, two = sorted((self._chance.random(), self._chance.random()))
        order.shares = (total * one, total * (two - one), total * (1 - two))
        process.when_awake(lambda: self._look(process, order))

    def _at_once(self, process: Process, order: _Order) -> None:
        """Nothing is wrong: all operations happen within a few milliseconds."""
        what = order.what
        order.ours = order.header is not None or self._is_ours()
        order.found = self._disk.blocks.get(what.slot, EMPTY) if what.block is not None and order.ours else b""
        self._land(order, what.block if order.ours else None)
        order.read_issued = process.clock()
        order.got_header, order.got = self._disk.header, dict(self._disk.blocks)
        self._engine.after(0.01, process.when_awake, lambda: self._complete(process, order))

    # one operation after the other

    def _look(self, process: Process, order: _Order) -> None:
        if order.what.block is None:
            self._write(process, order)
            return

        def happens() -> None:
            order.ours = order.header is not None or self._is_ours()
            order.found = self._content()[1].get(order.what.slot, EMPTY) if order.ours else b""

        self._operate("look", process, order, order.shares[0], happens, lambda: self._write(process, order))

    def _write(self, process: Process, order: _Order) -> None:
        if order.what.block is None and order.header is None:
            self._read(process, order)
            return
        block = order.what.block if order.ours else None
        if block is None and order.header is None:
            self._read(process, order)
            return
        torn = max((e.torn for e in self._effects), default=0.0)
        if block is not None and torn and self._chance.random() < torn:
            cut = _SECTOR * self._chance.randrange(1, 8)
            old = self._disk.blocks.get(order.what.slot, EMPTY)
            block = block[:cut] + old[cut:]
        landing = block
        self._operate(
            "write", process, order, order.shares[1], lambda: self._land(order, landing), lambda: self._read(process, order)
        )  # fmt: skip

    def _read(self, process: Process, order: _Order) -> None:
        order.read_issued = process.clock()
        self._operate("read", process, order, order.shares[2], lambda: self._take(order), lambda: self._complete(process, order))

    def _operate(
        self, kind: str, process: Process, order: _Order, seconds: float, happens: Callable[[], None], then: Callable[[], None]
    ) -> None:
        effect = next(
            (e for e in self._effects if kind in e.kinds and (e.hangs or e.fails) and (e.share >= 1 or self._chance.random() < e.share)),
            None,
        )
        instant = seconds * self._chance.random()

        def answered() -> None:
            process.when_awake(then)

        if effect is None:
            self._engine.after(instant, happens)
            if kind == "read":
                # One request, but the blocks are not read in one instant.
                self._engine.after(seconds * self._chance.random(), happens)
            self._engine.after(seconds, answered)
            return
        if kind == "write" and effect.lands:
            self._engine.after(instant if effect.late_seconds is None else effect.late_seconds, happens)
        if effect.fails and not effect.hangs:
            order.error = f"heartbeat disk: input/output error of a {kind}"
            self._engine.after(seconds, process.when_awake, lambda: self._complete(process, order))
            return

        early = kind == "read" and self._chance.random() < 0.5
        if early:
            self._engine.after(instant, happens)  # it is carried out; only the answer hangs

        def released() -> None:
            if effect.fails:
                order.error = f"heartbeat disk: input/output error of a {kind}"
                process.when_awake(lambda: self._complete(process, order))
                return
            if not early and (kind != "write" or not effect.lands):
                happens()
            answered()

        effect.waiting.append((process, released))

    def _land(self, order: _Order, block: bytes | None) -> None:
        if order.header is not None:
            self._disk.header = order.header
        if block is not None:
            self._disk.write(order.what.slot, block)
            if self.on_landed is not None:
                self.on_landed()

    def _is_ours(self) -> bool:
        """Whether the disk carries this pool's header: no other is written, and it is looked at before each write."""
        header = self._content()[0]
        if header is not self._looked_at:
            self._looked_at = header
            try:
                self._is_pools = slot.decode_header(header) == POOL_ID
            except Malformed:
                self._is_pools = False
        return self._is_pools

    def _take(self, order: _Order) -> None:
        header, blocks = self._content()
        if not order.got_header:
            order.got_header, order.got = header, dict(blocks)
            return
        for index, block in blocks.items():
            if self._chance.random() < 0.5:
                order.got[index] = block

    def _content(self) -> tuple[bytes, dict[int, bytes]]:
        for effect in self._effects:
            if effect.snapshot is not None:
                return effect.snapshot
        return self._disk.header, self._disk.blocks

    def _complete(self, process: Process, order: _Order) -> None:
        what = order.what
        completed = process.clock()
        if order.error:
            order.done(
                Cycle(what.number, order.issued, order.read_issued or order.issued, completed, what.block, error=order.error)
            )  # fmt: skip
            return
        written = what.block if order.ours else None
        blocks = {index: order.got.get(index, EMPTY) for index in range(what.last_slot + 1)}
        order.done(
            Cycle(what.number, order.issued, order.read_issued, completed, written, order.got_header, blocks, found=order.found)
        )  # fmt: skip

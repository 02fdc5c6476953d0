"""Several heartbeat disks as one: which of them carry a storage cycle, and when it counts. Pure.

A cycle counts once a majority of the disks has carried it: the own block written and read back on each, under one and the same header. Any
two majorities share a disk, so what one host has written to a majority is found by every later read of a majority. With two disks both are
needed: two protect against a wrong disk, not against a lost one.

A disk that hangs is not waited for and not asked again until it has answered; its late answers are dropped. Of each slot the copy with the
highest sequence counts: sequences go on rising over all lives of a slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate_core import slot
from quorate_core.licence import Cycle
from quorate_core.statement import Malformed


@dataclass(frozen=True, slots=True)
class Disks:
    """The disks and the cycle under way, by number (0: none yet). `block` is what it writes to the own slot, None if it only reads.

    `busy`: disks that have not yet answered an order, this one or an older one. `came`: what has come back for this cycle. `problems`: what
    was wrong with each disk when it last answered, only for those where something was. `blank`: those on which nothing was ever written.
    """

    count: int = 1
    number: int = 0
    slot: int = 0
    block: bytes | None = None
    done: bool = True
    busy: frozenset[int] = frozenset()
    came: Mapping[int, Cycle] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)
    blank: frozenset[int] = frozenset()

    @property
    def needed(self) -> int:
        """How many disks make a majority."""
        return self.count // 2 + 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The disks after an answer; the whole cycle, if it has just been decided; the disks that are to be given the present order now."""

    disks: Disks
    cycle: Cycle | None = None
    orders: tuple[int, ...] = ()


def begin(disks: Disks, number: int, own_slot: int, block: bytes | None) -> Outcome:
    """A new cycle: every disk that is idle gets its order."""
    idle = tuple(index for index in range(disks.count) if index not in disks.busy)
    problems = {**disks.problems, **dict.fromkeys(disks.busy, "it has not answered for a whole cycle")}
    busy = disks.busy | set(idle)
    return Outcome(
        replace(disks, number=number, slot=own_slot, block=block, done=False, came={}, busy=busy, problems=problems), orders=idle
    )


def answered(disks: Disks, index: int, cycle: Cycle) -> Outcome:
    """What follows from the answer of one disk, of this cycle or a late one of an older cycle."""
    blank, problems = set(disks.blank) - {index}, {i: why for i, why in disks.problems.items() if i != index}
    if not cycle.error and slot.is_empty(cycle.header) and not any(map(any, cycle.blocks.values())):
        blank.add(index)
    problem = _problem(disks, cycle) if cycle.number == disks.number else cycle.error
    if problem:
        problems[index] = problem
    disks = replace(disks, busy=disks.busy - {index}, blank=frozenset(blank), problems=problems)
    if cycle.number != disks.number:
        # It comes back from a hang and may still help the cycle under way, which proves life at its beginning, whenever it is carried out.
        again = not disks.done
        return Outcome(replace(disks, busy=disks.busy | {index}) if again else disks, orders=(index,) if again else ())
    if disks.done:
        return Outcome(disks)
    disks = replace(disks, came={**disks.came, index: cycle})
    whole = _decide(disks)
    return Outcome(replace(disks, done=whole is not None), whole)


def _decide(disks: Disks) -> Cycle | None:
    """The cycle of a majority, an error if there can be none any more, else None: wait for the others."""
    good = _alike({i: c for i, c in disks.came.items() if not c.error and _carried(disks, c)})
    if len(good) >= disks.needed:
        return _merge(disks, good)
    if len(good) + disks.count - len(disks.came) >= disks.needed:
        return None
    readable = _alike({i: c for i, c in disks.came.items() if not c.error})
    if len(readable) >= disks.needed:
        # Not carried, but read: what the others have written is to be known. The own block as it is not lets nobody take it for evidence.
        return _merge(disks, readable)
    if disks.count == 1:
        return disks.came[0]
    first = disks.came[min(disks.came)]
    said = "; ".join(_said(i, disks.came[i]) for i in sorted(disks.came))
    why = f"no {disks.needed} of {disks.count} heartbeat disks carry the same pool: {said}"
    late = max(c.completed_at for c in disks.came.values())
    return Cycle(disks.number, first.issued_at, first.read_issued_at, late, disks.block, error=why, blank=tuple(sorted(disks.blank)))


def _carried(disks: Disks, cycle: Cycle) -> bool:
    return cycle.written == disks.block and (disks.block is None or cycle.blocks.get(disks.slot) == disks.block)


def _alike(cycles: dict[int, Cycle]) -> dict[int, Cycle]:
    """The largest group with the same header."""
    groups: dict[str, dict[int, Cycle]] = {}
    for index in sorted(cycles):
        groups.setdefault(_header(cycles[index]), {})[index] = cycles[index]
    return max(groups.values(), key=len, default={})


def _header(cycle: Cycle) -> str:
    try:
        return f"belongs to pool {slot.decode_header(cycle.header).hex()}"
    except Malformed as why:
        return f"has a first block that is {why}"


def _said(index: int, cycle: Cycle) -> str:
    return cycle.error or f"disk {index + 1} {_header(cycle)}"


def _problem(disks: Disks, cycle: Cycle) -> str:
    if cycle.error or _carried(disks, cycle):
        return cycle.error
    return "the own slot did not come back as it was written" if cycle.written is not None else f"it {_header(cycle)}; not written"


def _merge(disks: Disks, cycles: dict[int, Cycle]) -> Cycle:
    """Many reads as one. Its times are the least favourable: early where something began, late where it ended."""
    parts = list(cycles.values())
    spoilt = next((c for c in parts if not _carried(disks, c)), None)
    blocks = {index: newest([c.blocks[index] for c in parts]) for index in parts[0].blocks if all(index in c.blocks for c in parts)}
    if spoilt is not None:
        blocks[disks.slot] = spoilt.blocks.get(disks.slot, b"")
    return Cycle(
        disks.number,
        min(c.issued_at for c in parts),
        min(c.read_issued_at for c in parts),
        max(c.completed_at for c in parts),
        spoilt.written if spoilt is not None else disks.block,
        parts[0].header,
        blocks,
        found=newest([c.found for c in parts]),
        blank=tuple(sorted(disks.blank)),
    )


def newest(copies: list[bytes]) -> bytes:
    """Of the copies of one slot the valid one with the highest sequence; without a valid one, one that is not empty."""
    if all(copy == copies[0] for copy in copies):
        return copies[0]
    return max(copies, key=_age)


def _age(copy: bytes) -> tuple[int, bool]:
    try:
        return slot.decode(copy).statement.sequence + 1, True
    except Malformed:
        return 0, any(copy)

"""Several heartbeat disks as one: which of them carry a storage cycle, and when it counts. Pure.

A cycle counts once a majority of the disks has carried it: the own block written and read back on each, under one and the same header. Any
two majorities share a disk, so what one host has written to a majority is found by every later read of a majority. With two disks both are
needed: two protect against a wrong disk, not against a lost one.

A disk that hangs is not waited for and not asked again until it has answered; its late answers are dropped. Of each slot the copy with the
highest sequence counts: sequences go on rising over all lives of a slot. Of three disks, one on which a write has failed carries nothing
until that write can no longer land: it would lie over what was written since, and the majority that hides the failure would hide that too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate_core import slot
from quorate_core.licence import Cycle
from quorate_core.statement import Malformed
from quorate_core.timing import DRAIN_SECONDS


@dataclass(frozen=True, slots=True)
class Disks:
    """The disks and the cycle under way, by number (0: none yet). `block` is what it writes to the own slot, None if it only reads.

    `busy`: disks that have not yet answered an order, this one or an older one. `came`: what has come back for this cycle. `problems`: what
    was wrong with each disk when it last answered, only for those where something was. `blank`: those on which nothing was ever written.
    `failed_at`: when a write was last answered with an error, on this host's clock.
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
    failed_at: Mapping[int, float] = field(default_factory=dict)

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
    if cycle.error and cycle.written is not None:
        disks = replace(disks, failed_at={**disks.failed_at, index: cycle.completed_at})
    problem = _problem(disks, index, cycle) if cycle.number == disks.number else cycle.error
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
    good = _alike({i: c for i, c in disks.came.items() if not c.error and _carried(disks, i, c)})
    if len(good) >= disks.needed:
        return _merge(disks, good)
    if len(good) + disks.count - len(disks.came) >= disks.needed:
        return None
    readable = _alike({i: c for i, c in disks.came.items() if not c.error})
    if len(readable) >= disks.needed:
        # Not carried, but read: what the others have written is to be known. As it stands it is no evidence.
        return _merge(disks, readable)
    if disks.count == 1:
        return disks.came[0]
    first = disks.came[min(disks.came)]
    said = "; ".join(_said(i, disks.came[i]) for i in sorted(disks.came))
    why = f"no {disks.needed} of {disks.count} heartbeat disks carry the same pool: {said}"
    late = max(c.completed_at for c in disks.came.values())
    return Cycle(disks.number, first.issued_at, first.read_issued_at, late, disks.block, error=why, blank=tuple(sorted(disks.blank)))


def _carried(disks: Disks, index: int, cycle: Cycle) -> bool:
    return _stands(disks, cycle) and _settled(disks, index, cycle)


def _stands(disks: Disks, cycle: Cycle) -> bool:
    return cycle.written == disks.block and (disks.block is None or cycle.blocks.get(disks.slot) == disks.block)


def _settled(disks: Disks, index: int, cycle: Cycle) -> bool:
    """Whether no write that failed before may still land. With fewer than three disks no majority hides a failure: the cycle tells it."""
    failed_at = disks.failed_at.get(index)
    return disks.count < 3 or disks.block is None or failed_at is None or cycle.issued_at >= failed_at + DRAIN_SECONDS


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


def _problem(disks: Disks, index: int, cycle: Cycle) -> str:
    if cycle.error or _carried(disks, index, cycle):
        return cycle.error
    if not _settled(disks, index, cycle):
        return f"a write has failed and may still land; it counts again {DRAIN_SECONDS:g} s later"
    return "the own slot did not come back as it was written" if cycle.written is not None else f"it {_header(cycle)}; not written"


def _merge(disks: Disks, cycles: dict[int, Cycle]) -> Cycle:
    """Many reads as one. Its times are the least favourable: early where something began, late where it ended."""
    parts = list(cycles.values())
    spoilt = next((c for c in parts if not _stands(disks, c)), None)
    carried = all(_carried(disks, i, c) for i, c in cycles.items())
    blocks = {index: newest([c.blocks[index] for c in parts]) for index in parts[0].blocks if all(index in c.blocks for c in parts)}
    if spoilt is not None:
        blocks[disks.slot] = spoilt.blocks.get(disks.slot, b"")
    return Cycle(
        disks.number,
        min(c.issued_at for c in parts),
        min(c.read_issued_at for c in parts),
        max(c.completed_at for c in parts),
        disks.block if carried else spoilt.written if spoilt is not None else None,
        parts[0].header,
        blocks,
        found=_worst(disks.block, [c.found for c in parts]),
        blank=tuple(sorted(disks.blank)),
    )


def _worst(own: bytes | None, found: list[bytes]) -> bytes:
    """Of what stood in the own slot before it was written the copy that tells most against this host: another incarnation's, or the oldest.

    Also a record that was missing on one disk only was missing: there are majorities without the others.
    """
    if all(copy == found[0] for copy in found) or own is None:
        return found[0]
    me = slot.decode(own).statement.incarnation
    strangers = [copy for copy in found if _incarnation(copy) not in (None, me)]
    return max(strangers, key=_age) if strangers else min(found, key=_age)


def _incarnation(copy: bytes) -> int | None:
    try:
        return slot.decode(copy).statement.incarnation
    except Malformed:
        return None


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

"""Several heartbeat disks as one: which of them carry a storage cycle, and when it counts. Pure.

A cycle counts once a majority of the disks has carried it: the own block written and read back on each, under one and the same header. Any
two majorities share a disk, so what one host has written to a majority meets every later read of a majority. With two disks both are
needed: two protect against a wrong disk, not against a lost one.

Copies of one slot may differ from disk to disk, and none of them is newer for certain: what every disk shows is handed on (`Cycle.reads`),
also by a disk that answers when the cycle is decided already. Nothing is thrown away that might be a sign of life, or a record.

A disk that hangs is not waited for and not asked again until it has answered; its late answers are dropped, but a write of it that has
failed is told by every cycle that this disk carries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from quorate_core import slot
from quorate_core.licence import Cycle
from quorate_core.statement import Malformed


@dataclass(frozen=True, slots=True)
class Disks:
    """The disks and the cycle under way, by number (0: none yet). `block` is what it writes to the own slot, None if it only reads.

    `busy`: disks that have not yet answered an order, this one or an older one; `hung`: those that had not when this cycle began. `came`:
    what has come back for this cycle; `late`: for the one before, after that was decided. `problems`: what was wrong with each disk when it
    last answered, only for those where something was. `blank`: those on which nothing was ever written. `failed_at`: when a write to it was
    last answered with an error, on this host's clock.
    """

    count: int = 1
    number: int = 0
    slot: int = 0
    block: bytes | None = None
    done: bool = True
    busy: frozenset[int] = frozenset()
    hung: frozenset[int] = frozenset()
    came: Mapping[int, Cycle] = field(default_factory=dict)
    late: Mapping[int, Cycle] = field(default_factory=dict)
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


def use(disks: Disks, before: Sequence[str], after: Sequence[str]) -> Disks:
    """Other disks, by name, instead of these. One that is used on goes on being busy, and its failed write stays known."""
    was = {name: index for index, name in enumerate(before)}
    kept = {index: was[name] for index, name in enumerate(after) if name in was}
    busy = frozenset(index for index, old in kept.items() if old in disks.busy)
    failed_at = {index: disks.failed_at[old] for index, old in kept.items() if old in disks.failed_at}
    return Disks(len(after), busy=busy, failed_at=failed_at)


def begin(disks: Disks, number: int, own_slot: int, block: bytes | None) -> Outcome:
    """A new cycle, whatever became of the one before: every disk that is idle gets its order."""
    idle = tuple(index for index in range(disks.count) if index not in disks.busy)
    problems = {**disks.problems, **dict.fromkeys(disks.busy, "it has not answered for a whole cycle")}
    hung, busy = disks.busy, disks.busy | set(idle)
    return Outcome(
        replace(disks, number=number, slot=own_slot, block=block, done=False, came={}, busy=busy, hung=hung, problems=problems),
        orders=idle,
    )


def answered(disks: Disks, index: int, cycle: Cycle) -> Outcome:
    """What follows from the answer of one disk, of this cycle or a late one of an older cycle."""
    blank, problems = set(disks.blank) - {index}, {i: why for i, why in disks.problems.items() if i != index}
    if not cycle.error and slot.is_empty(cycle.header) and not any(map(any, cycle.blocks.values())):
        blank.add(index)
    if cycle.error and cycle.written is not None:
        disks = replace(disks, failed_at={**disks.failed_at, index: cycle.completed_at})
    problem = _problem(disks, cycle) if cycle.number == disks.number else cycle.error
    if problem:
        problems[index] = problem
    disks = replace(disks, busy=disks.busy - {index}, blank=frozenset(blank), problems=problems)
    if cycle.number != disks.number:
        # It comes back from a hang and may still help the cycle under way, which proves life at its beginning, whenever it is carried out.
        again = not disks.done
        back = replace(disks, busy=disks.busy | {index}, hung=disks.hung - {index}) if again else disks
        return Outcome(back, orders=(index,) if again else ())
    if disks.done:
        return Outcome(replace(disks, late={**disks.late, index: cycle}))
    disks = replace(disks, came={**disks.came, index: cycle})
    whole = _decide(disks)
    return Outcome(disks if whole is None else replace(disks, done=True, late={}), whole)


def _decide(disks: Disks) -> Cycle | None:
    """The cycle of a majority, an error if there can be none any more, else None: wait for the others, but for those that hung before."""
    good = _alike({i: c for i, c in disks.came.items() if not c.error and _stands(disks, c)})
    if len(good) >= disks.needed:
        return _merge(disks, good)
    awaited = disks.count - len(disks.came.keys() | disks.hung)
    if len(good) + awaited >= disks.needed:
        return None
    readable = _alike({i: c for i, c in disks.came.items() if not c.error})
    if len(readable) >= disks.needed:
        # Not carried, but read: what the others have written is to be known. As it stands it is no evidence.
        return _merge(disks, readable)
    if disks.count == 1:
        return replace(disks.came[0], failed_at=disks.failed_at.get(0))
    first = disks.came[min(disks.came)]
    said = "; ".join([*(_said(i, disks.came[i]) for i in sorted(disks.came)), *(f"disk {i + 1} hangs" for i in sorted(disks.hung))])
    return Cycle(
        disks.number,
        first.issued_at,
        first.read_issued_at,
        max(c.completed_at for c in disks.came.values()),
        disks.block,
        error=f"no {disks.needed} of {disks.count} heartbeat disks carry the same pool: {said}",
        blank=tuple(sorted(disks.blank)),
        # Those that are left, once they answer, would be enough.
        refused=disks.count - sum(c.refused for c in disks.came.values()) < disks.needed,
    )


def _stands(disks: Disks, cycle: Cycle) -> bool:
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
    if cycle.error or _stands(disks, cycle):
        return cycle.error
    return "the own slot did not come back as it was written" if cycle.written is not None else f"it {_header(cycle)}; not written"


def _merge(disks: Disks, cycles: dict[int, Cycle]) -> Cycle:
    """Many reads as one. Its times are the least favourable: early where something began, late where it ended."""
    parts = list(cycles.values())
    spoilt = next((c for c in parts if not _stands(disks, c)), None)
    header = _header(parts[0])
    beside = {i: c for i, c in {**disks.late, **disks.came}.items() if i not in cycles and not c.error and _header(c) == header}
    blocks = {index: next((c.blocks[index] for c in parts if any(c.blocks[index])), block) for index, block in parts[0].blocks.items()}
    if disks.slot in blocks:
        blocks[disks.slot] = (spoilt or parts[0]).blocks[disks.slot]
    return Cycle(
        disks.number,
        min(c.issued_at for c in parts),
        min(c.read_issued_at for c in parts),
        max(c.completed_at for c in parts),
        disks.block if spoilt is None else spoilt.written,
        parts[0].header,
        blocks,
        found=_worst(disks.block, [c.found for c in parts]),
        blank=tuple(sorted(disks.blank)),
        reads={index: c.blocks for index, c in sorted({**beside, **cycles}.items())},
        carried_by=frozenset(cycles),
        failed_at=max((at for index, at in disks.failed_at.items() if index in cycles), default=None),
    )


def _worst(own: bytes | None, found: list[bytes]) -> bytes:
    """Of what stood in the own slot before it was written the copy that tells most against this host: another incarnation's, or the oldest.

    Also a record that was missing on one disk only was missing: there are majorities without the others.
    """
    if all(copy == found[0] for copy in found) or own is None:
        return found[0]
    me = slot.decode(own).statement.incarnation
    strangers = [copy for copy in found if (read := slot.legible(copy)) is not None and read.statement.incarnation != me]
    return max(strangers, key=_age) if strangers else min(found, key=_age)


def _age(copy: bytes) -> tuple[int, bool]:
    read = slot.legible(copy)
    return (0, any(copy)) if read is None else (read.statement.sequence + 1, True)

"""The copies of one slot on several disks: which are intact, and which of them still hold. It decides nothing about life and death.

Of the copies of one life the newest holds. Whoever begins a new life takes a number above all that it reads of a majority of the disks
(`numbers`). So a life that was ever armed, whose number stood on a majority, is below all that came after it. No more than that is known: a
life that never reached a majority may leave any number on a single disk, and of lives that were on other sets of disks nothing is known: no
majority of the one need meet one of the other. Within one boot the numbers tell the order of everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quorate_core import numbers
from quorate_core.licence import Cycle
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot, legible


@dataclass(frozen=True, slots=True)
class Found:
    """What one read found of one slot: the block of each disk; those of them that are intact and the member's own; the latest block of
    another owner, as the generation of its disks and its number, (-1, -1) without one; and the disks that carried the read."""

    blocks: Mapping[int, bytes] = field(default_factory=dict)
    intact: Mapping[int, Slot] = field(default_factory=dict)
    foreign: tuple[int, int] = (-1, -1)
    carried_by: frozenset[int] = frozenset()

    def holding(self) -> list[Slot]:
        """Those that nothing later is known of: what they say counts."""
        copies = self.intact.values()
        if len(copies) < 2:
            return list(copies)
        held: list[Slot] = []
        for one in copies:
            if not any(_surpasses(other, one) for other in copies) and one not in held:
                held.append(one)
        return held


def find(cycle: Cycle, config: PoolConfig) -> dict[int, Found]:
    """What a cycle found of each member's slot."""
    return {member.slot: find_one(cycle, config, member) for member in config.members}


def find_one(cycle: Cycle, config: PoolConfig, member: Member) -> Found:
    """What a cycle found of that member's slot."""
    blocks = cycle.copies(member.slot)
    read: dict[bytes, Slot | None] = {}
    intact: dict[int, Slot] = {}
    foreign = (-1, -1)
    for disk, block in blocks.items():
        if block not in read:
            read[block] = legible(block)
        one = read[block]
        if one is None or one.pool_id != config.pool_id:
            continue
        if one.statement.host == member.host and one.statement.slot == member.slot:
            intact[disk] = one
        else:
            foreign = max(foreign, age(one))
    return Found(blocks, intact, foreign, frozenset(cycle.carried_by or blocks))


def age(one: Slot) -> tuple[int, int]:
    """What grows from owner to owner of a slot: the generation of the disks, and the number."""
    return one.disks_generation, one.statement.sequence


def newest(copies: Iterable[Slot]) -> Slot | None:
    """The copy with the highest number; None of none."""
    return max(copies, key=lambda one: one.statement.sequence, default=None)


def is_later(other: Slot, one: Slot) -> bool:
    """Whether the number says that the other copy is the later one."""
    if other.boot_id == one.boot_id:
        return numbers.in_boot(other.statement.sequence) > numbers.in_boot(one.statement.sequence)
    return other.statement.sequence > one.statement.sequence


def _surpasses(other: Slot, one: Slot) -> bool:
    if other.boot_id != one.boot_id and other.disks_digest != one.disks_digest:
        return False
    # Another life of the same boot is after the release of the one before, whatever it says itself.
    same = other.boot_id == one.boot_id or other.statement.incarnation == one.statement.incarnation
    return is_later(other, one) and (same or other.was_armed)


def outlived(one: Slot, others: Iterable[Slot]) -> bool:
    """Whether the same boot of that host has come to a later life: that one was released."""
    return any(
        other.boot_id == one.boot_id and other.statement.incarnation != one.statement.incarnation and is_later(other, one)
        for other in others
    )

"""When a new life of a host may write its slot: never over a life that may still be running."""

from dataclasses import replace

import pytest

from quorate_core import claim, slot
from quorate_core.claim import Claim
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL_ID, BOOT = bytes(range(1, 17)), bytes(range(16))
SAID = Statement("a", 0, 7, 1, bytes(32), Phase.ARMED)
FORMER = Slot(POOL_ID, b"former boot id..", SAID, STANDARD.values, True)
UNARMED = replace(FORMER, watchdog_armed=False, statement=replace(SAID, phase=Phase.JOINING))


def waits(block: bytes, dead: frozenset[int] = frozenset()) -> float:
    """For how many seconds the slot is left alone."""
    seen = Claim({0: block}, 0.0)
    return next(t for t in range(100) if not claim.objection(seen, t, "a", BOOT, POOL_ID, dead, STANDARD))


@pytest.mark.parametrize(
    ("block", "seconds"),
    [
        (bytes(slot.BLOCK_BYTES), 0),
        (slot.encode(FORMER), 59),
        (slot.encode(replace(FORMER, statement=replace(SAID, phase=Phase.FENCING))), 59),
        (slot.encode(replace(FORMER, statement=replace(SAID, host="b"))), 59),
        (slot.encode(UNARMED), 12),
        (slot.encode(replace(UNARMED, boot_id=BOOT)), 0),
        (b"?" * slot.BLOCK_BYTES, 12),
    ],
    ids=["empty", "armed", "fencing", "armed, somebody else's", "not armed", "not armed, same boot", "unreadable"],
)
def test_a_slot_is_left_alone_as_long_as_its_former_owner_may_live(block: bytes, seconds: float) -> None:
    assert waits(block) == seconds


def test_a_former_life_that_is_certified_dead_is_not_waited_for() -> None:
    assert waits(slot.encode(FORMER), frozenset({7})) == 0
    assert waits(slot.encode(FORMER), frozenset({8})) == 59


def test_a_slot_that_changes_is_in_use_by_another_machine() -> None:
    """Rows 36 and 37."""
    first = claim.look(None, {0: slot.encode(FORMER)}, 0)
    moved = claim.look(first, {0: slot.encode(replace(FORMER, statement=replace(SAID, sequence=2)))}, 50)
    assert "two machines may share one slot" in claim.objection(moved, 60, "a", BOOT, POOL_ID, frozenset(), STANDARD)

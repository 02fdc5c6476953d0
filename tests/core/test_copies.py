"""Which copies of a slot still hold: what is left behind on one disk neither condemns anybody for ever nor hides a record."""

from dataclasses import replace

import pytest

from quorate_core import copies, slot
from quorate_core.copies import Found
from quorate_core.licence import Cycle
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD)


def written(sequence: int, incarnation: int = 7, boot: bytes = b"b", armed: bool = True, host: str = "b") -> Slot:
    said = Statement(host, 1, incarnation, sequence, POOL.hash, Phase.ARMED if armed else Phase.JOINING)
    return Slot(POOL.pool_id, boot * 16, said, STANDARD.values, armed, disks_digest=POOL.disks_digest)


RECORD = replace(written(100), evictions=((0, 5),))


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        (written(101), False),
        (written(99), True),
        (written(5_000_000, incarnation=6, boot=b"a", armed=False), True),
        (written(5_000_000, incarnation=6, armed=False), False),
        (written(2_000_000, incarnation=8, boot=b"c"), False),
        (written(99, incarnation=8, boot=b"c"), True),
        (replace(written(2_000_000, incarnation=8, boot=b"c"), disks_digest=5), True),
        (replace(written(2_000_000, incarnation=8), disks_digest=5), False),
        (replace(written(101), disks_digest=5), False),
    ],
    ids=[
        "the same life later",
        "earlier",
        "never armed",
        "never armed, same boot",
        "a later armed life",
        "an earlier armed life",
        "an armed life on other disks",
        "a later armed life of the same boot on other disks",
        "the same life later on other disks",
    ],
)
def test_a_copy_holds_until_something_later_is_known(other: Slot, *, holds: bool) -> None:
    """A record that was dropped stands for ever on a disk that its author has lost; one that stands must not be hidden."""
    held = Found(intact={1: other, 2: RECORD}).holding()
    assert (RECORD in held) is holds
    assert held


def test_other_owners_and_other_pools_are_no_copies_and_the_numbers_of_other_owners_are_known() -> None:
    blocks = {0: written(9), 1: written(500, host="gone"), 2: replace(written(900), pool_id=bytes(range(2, 18)))}
    reads = {disk: {0: bytes(slot.BLOCK_BYTES), 1: slot.encode(one)} for disk, one in blocks.items()}
    found = copies.find(Cycle(1, 0, 0, 1, None, reads=reads, carried_by=frozenset({0, 1})), POOL)
    assert (found[1].intact, found[1].foreign, found[1].carried_by) == ({0: written(9)}, (0, 500), {0, 1})
    assert (found[0].intact, found[0].foreign) == ({}, (-1, -1))
    later = {2: {0: bytes(slot.BLOCK_BYTES), 1: slot.encode(replace(written(3, host="gone"), disks_digest=1 << 16 | 7))}}
    assert copies.find(Cycle(1, 0, 0, 1, None, reads=reads | later), POOL)[1].foreign == (1, 3), "later disks, later owner"

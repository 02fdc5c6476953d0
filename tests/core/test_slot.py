"""The disk format: a golden block, and no block with a mistake in it is ever taken for a statement."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate_core import pool, slot
from quorate_core.crc32c import crc32c
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Known, Malformed, Phase, Statement, Views
from quorate_core.timing import STANDARD

GOLDEN = Path(__file__).parent / "slot-v2.hex"
POOL_ID = bytes(range(16))
EXAMPLE = Slot(
    pool_id=POOL_ID,
    boot_id=bytes(range(16, 32)),
    statement=Statement(
        host="node-3.example",
        slot=3,
        incarnation=0x0123456789ABCDEF,
        sequence=4711,
        config_hash=bytes(range(32)),
        phase=Phase.ARMED,
        views=Views(0b1011, 0b1001, 0b1111),
        known=(Known(0, 7, 4711), Known(3, 0x0123456789ABCDEF)),
    ),
    timing=STANDARD.values,
    watchdog_armed=True,
    stopped=True,
    weight=7,
    required=0b1111,
    intent=0b1011,
    evictions=((2, 99),),
    certificates=(Issued(1, 42, 59.125, 59.0), Issued(2, 99, 53.5, 53.0, Evidence.EVICTION)),
)


def test_the_golden_block_is_still_written_and_read_the_same() -> None:
    block = bytes.fromhex(GOLDEN.read_text())
    assert slot.encode(EXAMPLE) == block
    assert slot.decode(block) == EXAMPLE


def test_crc32c_is_the_one_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(st.integers(0, slot.BLOCK_BYTES * 8 - 1))
def test_any_flipped_bit_makes_a_slot_unreadable(bit: int) -> None:
    """Row 17."""
    block = bytearray(slot.encode(EXAMPLE))
    block[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        slot.decode(bytes(block))


@given(st.integers(1, slot.BLOCK_BYTES // 512 - 1), st.integers(1, 1000))
def test_a_block_torn_at_a_sector_is_never_taken_for_either_write(sectors: int, later: int) -> None:
    """Row 17: half of one write and half of another. Where the two halves are alike, it is simply one of them."""
    newer = replace(EXAMPLE, statement=replace(EXAMPLE.statement, sequence=EXAMPLE.statement.sequence + later))
    torn = slot.encode(newer)[: 512 * sectors] + slot.encode(EXAMPLE)[512 * sectors :]
    with pytest.raises(Malformed):
        slot.decode(torn)


@given(st.binary(max_size=slot.BLOCK_BYTES + 1))
def test_garbage_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(Malformed):
        slot.decode(data.ljust(slot.BLOCK_BYTES, b"\0"))
    with pytest.raises(Malformed):
        slot.decode(data)


def test_the_largest_slot_fits_into_one_block() -> None:
    everybody = tuple(Known(i, 2**64 - 1, 2**32 - 1) for i in range(pool.MAX_SLOTS))
    largest = Slot(
        POOL_ID,
        bytes(16),
        Statement("h" * 253, 63, 1, 1, bytes(32), Phase.ARMED, Views(2**64 - 1, 2**64 - 1, 2**64 - 1), everybody),
        STANDARD.values,
        True,
        True,
        pool.MAX_WEIGHT,
        2**64 - 1,
        2**64 - 1,
        tuple((known.slot, known.incarnation) for known in everybody),
        tuple(Issued(i, 2**64 - 1, 59.0, 59.0) for i in range(pool.MAX_SLOTS)),
    )
    assert slot.decode(slot.encode(largest)) == largest


def test_the_header_binds_a_disk_to_its_pool() -> None:
    assert slot.decode_header(slot.encode_header(POOL_ID)) == POOL_ID
    with pytest.raises(Malformed, match="never written"):
        slot.decode_header(bytes(slot.BLOCK_BYTES))
    with pytest.raises(Malformed, match="not written by Quorate"):
        slot.decode_header(slot.encode(EXAMPLE))


def test_a_silence_longer_than_a_slot_can_say_is_stored_as_the_longest_that_it_can() -> None:
    """49.7 days in milliseconds; a certificate of such a one must not fail."""
    issued = Issued(1, 77, 5_000_000.0, 59.0)
    assert slot.decode(slot.encode(replace(EXAMPLE, certificates=(issued,)))).certificates == (
        replace(issued, silent_seconds=4_294_967.295),
    )

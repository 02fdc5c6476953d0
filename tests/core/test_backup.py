"""The backup region: a torn or changed copy is never taken for a backup, and one usable copy is always left."""

import hashlib
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core import backup, slot
from quorate_core.backup import Backup, Place
from quorate_core.crc32c import crc32c
from quorate_core.statement import Malformed

POOL, OTHER = bytes(range(1, 17)), bytes(range(2, 18))
OLD = Backup(POOL, 41, b"the older one " * 500)
NEW = Backup(POOL, 42, b"the newer one " * 700)
GOLDEN_HEAD = (
    "51554f524241434b0100000000000000" "0102030405060708090a0b0c0d0e0f10" "07000000000000000d00000005000000"
    "fba8a0e576b4e47917acf90140080c3495a4665c78d1643336c216687ee4ecbd" "c9a8d2e7"
)  # fmt: skip
GOLDEN_PAYLOAD = "789ccb48cdc9c90700062c0215"


def decoded(data: bytes) -> Backup | None:
    try:
        return backup.decode(data)
    except Malformed:
        return None


@given(st.binary(max_size=20000), st.integers(0, 2**64 - 1))
def test_a_backup_comes_back_as_it_was_written(payload: bytes, generation: int) -> None:
    data = backup.encode(Backup(POOL, generation, payload))
    assert backup.decode(data) == Backup(POOL, generation, payload)
    assert backup.length_of(data[: slot.BLOCK_BYTES]) == len(data)
    assert len(data) % slot.BLOCK_BYTES == 0


def test_the_region_lies_behind_the_slots_in_whole_blocks() -> None:
    places = [backup.offset_of(copy) for copy in range(backup.COPIES)]
    assert places[0] >= slot.DISK_BYTES
    assert places[0] + backup.COPY_BYTES == places[1]
    assert places[1] + backup.COPY_BYTES == backup.END_BYTES
    assert all(place % slot.BLOCK_BYTES == 0 for place in places)


def test_the_copies_are_written_in_turn_and_the_newest_counts() -> None:
    assert backup.next_place([None, None], POOL) == Place(0, 1)
    assert backup.next_place([OLD, None], POOL) == Place(1, 42)
    assert backup.next_place([OLD, NEW], POOL) == Place(0, 43)
    assert backup.newest([NEW, OLD], POOL) == NEW
    assert backup.newest([None, None], POOL) is None


def test_a_copy_of_another_pool_never_counts_and_may_be_overwritten() -> None:
    foreign = Backup(OTHER, 1000, b"")
    assert backup.newest([foreign, OLD], POOL) == OLD
    assert backup.next_place([foreign, OLD], POOL) == Place(0, 42)


@given(st.integers(1, 60))
def test_a_write_that_tears_leaves_the_other_copy(sectors: int) -> None:
    """Over an older, longer copy, at any sector: it is either whole, or no backup."""
    before = backup.encode(Backup(POOL, 40, bytes(hashlib.sha512(b"x").digest()) + b"".join(struct.pack("<I", n * n) for n in range(9000))))
    fresh = backup.encode(NEW)
    torn = fresh[: 512 * sectors] + before[512 * sectors :]
    found = [decoded(torn), OLD]
    whole = torn[: len(fresh)] == fresh
    assert (found[0] == NEW) is whole
    assert backup.newest(found, POOL) == (NEW if whole else OLD)


@settings(max_examples=300)
@given(st.data())
def test_any_flipped_bit_makes_a_copy_unreadable(data: st.DataObject) -> None:
    block = bytearray(backup.encode(OLD))
    bit = data.draw(st.one_of(st.integers(0, 90 * 8), st.integers(0, len(block) * 8 - 1)))
    block[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        backup.decode(bytes(block))


def resealed(stored: bytes, full_length: int) -> bytes:
    head = backup._HEAD.pack(b"QUORBACK", backup.VERSION, POOL, 1, len(stored), full_length, hashlib.sha256(stored).digest())
    header = (head + struct.pack("<I", crc32c(head))).ljust(slot.BLOCK_BYTES, b"\0")
    return header + stored.ljust(-(-len(stored) // slot.BLOCK_BYTES) * slot.BLOCK_BYTES, b"\0")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(8192), "never written"),
        (slot.encode_header(POOL) + bytes(4096), "not written by Quorate"),
        (backup.encode(OLD)[:4096], "only 4096 bytes"),
        (backup.encode(OLD)[:100], "a header of 100 bytes"),
        (backup.encode(OLD)[:8] + b"\x09" + backup.encode(OLD)[9:], "backup version 9"),
        (resealed(b"no zlib", 5), "cannot be unpacked"),
        (resealed(zlib.compress(b"hello"), 4), "does not have the 4 bytes"),
        (resealed(zlib.compress(b"hello"), 6), "does not have the 6 bytes"),
        (resealed(zlib.compress(b"hello") + b"tail", 5), "does not have the 5 bytes"),
        (resealed(zlib.compress(bytes(1 << 20)), 1000), "does not have the 1000 bytes"),
        (resealed(zlib.compress(b""), 2**32 - 1), "lengths of 8 and 4294967295"),
    ],
)
def test_what_is_no_backup_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        backup.decode(data)


def test_a_payload_that_does_not_fit_is_refused_with_the_numbers() -> None:
    noise = b"".join(hashlib.sha512(struct.pack("<I", n)).digest() for n in range(66000))
    with pytest.raises(ValueError, match=r"a backup of \d+ bytes, compressed, does not fit into 4190208"):
        backup.encode(Backup(POOL, 1, noise))
    with pytest.raises(ValueError, match="is longer than 67108864"):
        backup.encode(Backup(POOL, 1, bytes(backup.MAX_PAYLOAD_BYTES + 1)))


def test_what_stands_there_is_left_alone_only_if_it_is_not_ours() -> None:
    torn = backup.encode(OLD)[:512] + bytes(3584)
    assert not backup.is_foreign(bytes(4096))
    assert not backup.is_foreign(torn)
    assert backup.is_foreign(b"LUKS" + bytes(4092))


def test_a_copy_that_the_first_version_wrote_is_still_read() -> None:
    data = b"".join(bytes.fromhex(part).ljust(slot.BLOCK_BYTES, b"\0") for part in (GOLDEN_HEAD, GOLDEN_PAYLOAD))
    assert backup.decode(data) == Backup(POOL, 7, b"hello")

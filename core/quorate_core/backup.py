"""The backup region of the heartbeat disk: two copies of what the pool's objects say, far behind the slots. Bytes in, bytes out.

The copies are written in turn, so that a write that tears leaves the other one. Nothing in here is evidence of anything: no host arms,
fences or certifies by it. It is for people whose API server has lost its objects.

The payload carries SHA-256, not the CRC32C of the slots: that one is pure Python here and takes a second for the largest payload. SHA-256
comes with the standard library at the speed of the machine, and no mixture of two writes passes it. The header is one block as a slot is.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from quorate_core.crc32c import crc32c
from quorate_core.slot import BLOCK_BYTES, DISK_BYTES, is_empty
from quorate_core.statement import Malformed

VERSION = 1
COPIES = 2
COPY_BYTES = 4 * 1024 * 1024
START_BYTES = 1024 * 1024
"""Where the first copy lies; the room between the slots and here is kept for later formats."""
END_BYTES = START_BYTES + COPIES * COPY_BYTES
"""A disk of this size has room for both copies."""
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""Nothing longer is ever unpacked: a few bytes may claim to be a very long text."""

assert DISK_BYTES <= START_BYTES

_MAGIC = b"QUORBACK"
_HEAD = struct.Struct("<8sH6x16sQII32s")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Backup:
    """One copy. The one with the higher generation is newer; the payload means nothing here."""

    pool_id: bytes
    generation: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next backup goes: which copy, and its generation."""

    copy: int
    generation: int


def offset_of(copy: int) -> int:
    """Where a copy lies on the disk, in bytes."""
    return START_BYTES + copy * COPY_BYTES


def encode(backup: Backup) -> bytes:
    """The bytes of a copy, whole blocks. Raises ValueError, with the numbers, if it does not fit."""
    if len(backup.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a backup of {len(backup.payload)} bytes is longer than {MAX_PAYLOAD_BYTES}")
    stored = zlib.compress(backup.payload, 6)
    room = COPY_BYTES - BLOCK_BYTES
    if len(stored) > room:
        raise ValueError(f"a backup of {len(stored)} bytes, compressed, does not fit into {room}")
    digest = hashlib.sha256(stored).digest()
    head = _HEAD.pack(_MAGIC, VERSION, backup.pool_id, backup.generation, len(stored), len(backup.payload), digest)
    # The header's checksum stands right behind it and covers it alone; the rest of the block is zero and checked as such.
    header = (head + _CRC.pack(crc32c(head))).ljust(BLOCK_BYTES, b"\0")
    return header + stored.ljust(_whole_blocks(len(stored)), b"\0")


def length_of(header: bytes) -> int:
    """How many bytes this copy has, by its first block: what is to be read to decode it. Raises Malformed."""
    return BLOCK_BYTES + _whole_blocks(_head(header)[3])


def decode(data: bytes) -> Backup:
    """The copy that begins with these bytes; what lies behind it belongs to older, longer ones. Raises Malformed, saying why."""
    _, pool_id, generation, length, full_length, digest = _head(data[:BLOCK_BYTES])
    end = BLOCK_BYTES + length
    stored, padding = data[BLOCK_BYTES:end], data[end : BLOCK_BYTES + _whole_blocks(length)]
    if len(stored) + len(padding) != _whole_blocks(length):
        raise Malformed(f"only {len(data)} bytes")
    if any(padding) or hashlib.sha256(stored).digest() != digest:
        raise Malformed("checksum of the payload does not match")
    unpacker = zlib.decompressobj()
    try:
        payload = unpacker.decompress(stored, full_length + 1)
    except zlib.error as error:
        raise Malformed(f"a payload that cannot be unpacked: {error}") from error
    if len(payload) != full_length or not unpacker.eof or unpacker.unused_data:
        raise Malformed(f"a payload that does not have the {full_length} bytes it claims")
    return Backup(pool_id, generation, payload)


def newest(found: Sequence[Backup | None], pool_id: bytes) -> Backup | None:
    """The backup that counts: of that pool, and the highest generation. None if there is none."""
    ours = [one for one in found if one is not None and one.pool_id == pool_id]
    return max(ours, key=lambda one: one.generation, default=None)


def next_place(found: Sequence[Backup | None], pool_id: bytes) -> Place:
    """Where the next backup of that pool goes: never over the one that counts now."""
    best = newest(found, pool_id)
    if best is None:
        return Place(0, 1)
    return Place((found.index(best) + 1) % COPIES, best.generation + 1)


def is_foreign(header: bytes) -> bool:
    """Whether something else than Quorate wrote here. A torn copy is still ours: its first bytes say so."""
    return not is_empty(header) and not header.startswith(_MAGIC)


def _head(block: bytes) -> tuple[bytes, bytes, int, int, int, bytes]:
    if len(block) != BLOCK_BYTES:
        raise Malformed(f"a header of {len(block)} bytes")
    magic, version, pool_id, generation, length, full_length, digest = _HEAD.unpack_from(block)
    if magic != _MAGIC:
        raise Malformed("never written" if is_empty(block) else "not written by Quorate")
    if version != VERSION:
        raise Malformed(f"backup version {version}; this program reads version {VERSION}")
    (crc,) = _CRC.unpack_from(block, _HEAD.size)
    # Packed again, so that bytes which the form skips count too.
    head = _HEAD.pack(magic, version, pool_id, generation, length, full_length, digest)
    if head != block[: _HEAD.size] or crc32c(head) != crc or any(block[_HEAD.size + _CRC.size :]):
        raise Malformed("checksum of the header does not match")
    if length > COPY_BYTES - BLOCK_BYTES or full_length > MAX_PAYLOAD_BYTES:
        raise Malformed(f"lengths of {length} and {full_length} bytes")
    return magic, pool_id, generation, length, full_length, digest


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES

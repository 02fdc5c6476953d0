"""The heartbeat disk: one header block, then 64 slots of 4096 bytes, each written by one host only. Bytes in, bytes out.

A slot is one block, so that its write is atomic on every disk that deserves trust; the CRC finds the others. All numbers are little-endian.
A slot that fails any check is no statement at all: it is neither a sign of life nor a sign of death.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from quorate_core import pool, statement
from quorate_core.crc32c import crc32c
from quorate_core.statement import Malformed, Phase, Statement
from quorate_core.timing import TimingValues

BLOCK_BYTES = 4096
DISK_BYTES = BLOCK_BYTES * (1 + pool.MAX_SLOTS)
VERSION = 2

_SLOT_MAGIC = b"QUORSLOT"
_DISK_MAGIC = b"QUORDISK"
_PREFIX = struct.Struct("<8sHH4x16s16s")
_TIMING = struct.Struct("<IIIIIII")
_RIGHTS = struct.Struct("<BBHIQQ")
_CERTIFICATE = struct.Struct("<BB6xQII")
_CRC = struct.Struct("<I")
_MOST_MILLISECONDS = 2**32 - 1


class Evidence(IntEnum):
    """What a certificate rests on: an unchanged slot, an eviction that has run out, or the evicted host's own word that its VMs are gone.
    The numbers are part of the disk format."""

    SILENCE = 0
    EVICTION = 1
    CONFIRMED = 2


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it stands in its issuer's slot. `silent_seconds` is how long the issuer has watched it silent, or waited;
    `bound_seconds` how long it had to. In seconds; stored as milliseconds, 49.7 days at most: longer is as good."""

    slot: int
    incarnation: int
    silent_seconds: float
    bound_seconds: float
    evidence: Evidence = Evidence.SILENCE


@dataclass(frozen=True, slots=True)
class Slot:
    """One host's slot. All sets of slots have one bit each.

    `watchdog_armed`: its watchdog runs. `stopped`: it is fenced, no VM is left on it and none can start. `weight` counts before the
    number of hosts when a partition is decided. `disks_digest`: on which heartbeat disks it proves its life (`PoolConfig.disks_digest`).
    `required`: whose word it would need to live without storage. `intent`: the hosts that are to live on, if it proposes that the others
    be evicted; 0 if not. `evictions`: (slot, incarnation) of those that it has evicted.
    """

    pool_id: bytes
    boot_id: bytes
    statement: Statement
    timing: TimingValues
    watchdog_armed: bool = False
    stopped: bool = False
    weight: int = 0
    required: int = 0
    intent: int = 0
    evictions: tuple[tuple[int, int], ...] = ()
    certificates: tuple[Issued, ...] = ()
    disks_digest: int = 0

    @property
    def disks_generation(self) -> int:
        """How often the pool's disks had been changed."""
        return self.disks_digest >> 16

    @property
    def was_armed(self) -> bool:
        """Whether that life was under its watchdog, so that others may wait for its certificate. One that says it is fencing was armed,
        and its watchdog still runs: fencing ends in a reset, not in disarming."""
        return self.watchdog_armed and self.statement.phase in (Phase.ARMED, Phase.FENCING)


def offset_of(slot_index: int) -> int:
    """Where a slot lies on the disk, in bytes."""
    return BLOCK_BYTES * (1 + slot_index)


def encode(slot: Slot) -> bytes:
    """The block of a slot. Raises ValueError if it does not fit (64 slots always do)."""
    t = slot.timing
    body = b"".join(
        (
            statement.pack(slot.statement),
            _TIMING.pack(
                round(t.licence_seconds * 1000),
                round(t.watchdog_seconds * 1000),
                round(t.cycle_limit_seconds * 1000),
                round(t.granularity_seconds * 1000),
                round(t.clock_rate_bound * 1e6),
                round(t.drain_seconds * 1000),
                t.kappa,
            ),
            _RIGHTS.pack(slot.watchdog_armed, slot.stopped, slot.weight, slot.disks_digest, slot.required, slot.intent),
            statement.pack_pairs(slot.evictions),
            struct.pack("<H", len(slot.certificates)),
            *(
                _CERTIFICATE.pack(c.slot, c.evidence, c.incarnation, _milliseconds(c.silent_seconds), _milliseconds(c.bound_seconds))
                for c in slot.certificates
            ),
        )
    )
    length = _PREFIX.size + len(body)
    return _seal(_PREFIX.pack(_SLOT_MAGIC, VERSION, length, slot.pool_id, slot.boot_id) + body)


def decode(block: bytes) -> Slot:
    """The slot in that block. Raises Malformed, saying why."""
    data, pool_id, boot_id = _unseal(block, _SLOT_MAGIC)
    said, offset = statement.unpack(data, _PREFIX.size)
    licence, watchdog, cycle_limit, granularity, rate, drain, kappa = statement.take(_TIMING, data, offset)
    offset += _TIMING.size
    if licence == 0 or kappa == 0 or rate >= 1_000_000:
        raise Malformed("timing values that bound nothing")
    watchdog_armed, stopped, weight, disks, required, intent = statement.take(_RIGHTS, data, offset)
    if watchdog_armed > 1 or stopped > 1:
        raise Malformed(f"flags of {watchdog_armed} and {stopped}")
    evictions, offset = statement.unpack_pairs(data, offset + _RIGHTS.size)
    (count,) = statement.take(struct.Struct("<H"), data, offset)
    offset += 2
    if count > pool.MAX_SLOTS:
        raise Malformed(f"{count} certificates")
    certificates = []
    for _ in range(count):
        index, evidence, incarnation, silent, bound = statement.take(_CERTIFICATE, data, offset)
        if index >= pool.MAX_SLOTS or evidence > max(Evidence):
            raise Malformed(f"a certificate for slot {index} on evidence {evidence}")
        certificates.append(Issued(index, incarnation, silent / 1000, bound / 1000, Evidence(evidence)))
        offset += _CERTIFICATE.size
    if offset != len(data):
        raise Malformed(f"{len(data) - offset} bytes too many")
    values = TimingValues(licence / 1000, watchdog / 1000, cycle_limit / 1000, granularity / 1000, rate / 1e6, drain / 1000, kappa)
    return Slot(
        pool_id, boot_id, said, values, bool(watchdog_armed), bool(stopped), weight, required, intent, evictions, tuple(certificates), disks
    )  # fmt: skip


def legible(block: bytes) -> Slot | None:
    """The slot in that block; None if it holds none that can be read."""
    try:
        return decode(block)
    except Malformed:
        return None


def encode_header(pool_id: bytes) -> bytes:
    """The disk's first block: it binds the disk to one pool."""
    return _seal(_PREFIX.pack(_DISK_MAGIC, VERSION, _PREFIX.size, pool_id, bytes(16)))


def decode_header(block: bytes) -> bytes:
    """The pool id that the disk belongs to. Raises Malformed."""
    _, pool_id, _ = _unseal(block, _DISK_MAGIC)
    return pool_id


def is_empty(block: bytes) -> bool:
    """Whether nothing was ever written here."""
    return block == bytes(len(block))


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), _MOST_MILLISECONDS)


def _seal(data: bytes) -> bytes:
    room = BLOCK_BYTES - _CRC.size
    if len(data) > room:
        raise ValueError(f"a slot of {len(data)} bytes does not fit into {room}")
    # The rest of the block is zero and checked as such, so the CRC need only cover what is used (pure Python is slow).
    return data + bytes(room - len(data)) + _CRC.pack(crc32c(data))


def _unseal(block: bytes, magic: bytes) -> tuple[bytes, bytes, bytes]:
    if len(block) != BLOCK_BYTES:
        raise Malformed(f"a block of {len(block)} bytes")
    found, version, length, pool_id, boot_id = _PREFIX.unpack_from(block)
    if found != magic:
        raise Malformed("never written" if is_empty(block) else "not written by Quorate")
    if version != VERSION:
        raise Malformed(f"format version {version}; this agent reads version {VERSION}")
    if not _PREFIX.size <= length <= BLOCK_BYTES - _CRC.size:
        raise Malformed(f"a length of {length} bytes")
    data = block[:length]
    (crc,) = _CRC.unpack_from(block, BLOCK_BYTES - _CRC.size)
    if crc32c(data) != crc or not is_empty(block[length : BLOCK_BYTES - _CRC.size]):
        raise Malformed("checksum does not match")
    return data, pool_id, boot_id

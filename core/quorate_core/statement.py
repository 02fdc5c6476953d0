"""What a host states about itself and whom it sees: the part that a slot of the disk and a packet of the network share.

Bytes in, bytes out; nothing is trusted before its bounds are checked.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from quorate_core import pool


class Malformed(Exception):
    """These bytes are not what they claim to be; the message says why."""


class Phase(IntEnum):
    """Where a host's agent stands; the numbers are part of the disk format."""

    STARTING = 0
    JOINING = 1
    ARMED = 2
    FENCING = 3
    DISARMED = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Views:
    """Sets of slots, one bit each: whom I see on the network, on storage, and whom I propose to arm with (0: nobody yet)."""

    network: int = 0
    storage: int = 0
    proposal: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """One host's word. `known` names, for each slot it sees, the incarnation that it means: a set of bits alone would also
    bless a host that has been reborn since."""

    host: str
    slot: int
    incarnation: int
    sequence: int
    config_hash: bytes
    phase: Phase
    views: Views = Views()
    known: tuple[tuple[int, int], ...] = ()

    def sees(self, slot: int, incarnation: int) -> bool:
        """Whether this host says that it sees that incarnation on both channels."""
        both = self.views.network & self.views.storage
        return bool(both >> slot & 1) and (slot, incarnation) in self.known


_HEAD = struct.Struct("<HBBQQ32sQQQ")
_KNOWN = struct.Struct("<B7xQ")


def pack(statement: Statement) -> bytes:
    """The statement as bytes."""
    name = statement.host.encode()
    views = statement.views
    head = _HEAD.pack(
        len(name),
        statement.slot,
        statement.phase,
        statement.incarnation,
        statement.sequence,
        statement.config_hash,
        views.network,
        views.storage,
        views.proposal,
    )
    return head + name + pack_pairs(statement.known)


def unpack(data: bytes, offset: int) -> tuple[Statement, int]:
    """The statement at that offset and the offset after it. Raises Malformed."""
    name_length, slot, phase, incarnation, sequence, config_hash, network, storage, proposal = take(_HEAD, data, offset)
    offset += _HEAD.size
    if not 0 < name_length <= 253 or offset + name_length + 2 > len(data):
        raise Malformed(f"a host name of {name_length} bytes")
    if slot >= pool.MAX_SLOTS:
        raise Malformed(f"slot {slot}")
    if phase > max(Phase):
        raise Malformed(f"phase {phase}")
    if incarnation == 0:
        raise Malformed("incarnation 0")
    try:
        host = data[offset : offset + name_length].decode()
    except UnicodeDecodeError as error:
        raise Malformed("a host name that is not text") from error
    offset += name_length
    known, offset = unpack_pairs(data, offset)
    views = Views(network, storage, proposal)
    return Statement(host, slot, incarnation, sequence, config_hash, Phase(phase), views, known), offset


def pack_pairs(pairs: tuple[tuple[int, int], ...]) -> bytes:
    """A list of (slot, incarnation) as bytes."""
    return struct.pack("<H", len(pairs)) + b"".join(_KNOWN.pack(slot, incarnation) for slot, incarnation in pairs)


def unpack_pairs(data: bytes, offset: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """A list of (slot, incarnation) and the offset after it. Raises Malformed."""
    (count,) = take(struct.Struct("<H"), data, offset)
    offset += 2
    if count > pool.MAX_SLOTS:
        raise Malformed(f"a list of {count} hosts")
    pairs = []
    for _ in range(count):
        slot, incarnation = take(_KNOWN, data, offset)
        if slot >= pool.MAX_SLOTS:
            raise Malformed(f"slot {slot} in a list")
        pairs.append((slot, incarnation))
        offset += _KNOWN.size
    return tuple(pairs), offset


def take(form: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    """Fields of that form at that offset. Raises Malformed where the data ends before them."""
    if offset + form.size > len(data):
        raise Malformed(f"only {len(data)} bytes")
    return form.unpack_from(data, offset)

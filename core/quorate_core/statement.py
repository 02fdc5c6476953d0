"""What a host states about itself and whom it sees: the part that a slot of the disk and a packet of the network share.

Bytes in, bytes out; nothing is trusted before its bounds are checked.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from quorate_core import pool

ECHO_MASK = 0xFFFFFFFF
"""The part of a packet's number that an answer carries."""


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
class Known:
    """The incarnation that a host means where it says that it sees a slot. `echo` is the low half of the highest packet number heard from
    it: an answer to that packet; 0 where no answer is given."""

    slot: int
    incarnation: int
    echo: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """One host's word. `known` names, for each slot it sees, the incarnation that it means: a set of bits alone would also
    bless a host that has been reborn since. `storageless`: its storage does not answer, so it condemns nobody."""

    host: str
    slot: int
    incarnation: int
    sequence: int
    config_hash: bytes
    phase: Phase
    views: Views = Views()
    known: tuple[Known, ...] = ()
    storageless: bool = False

    def sees(self, slot: int, incarnation: int) -> bool:
        """Whether this host says that it sees that incarnation on both channels."""
        return bool(self.views.storage >> slot & 1) and self.hears(slot, incarnation)

    def hears(self, slot: int, incarnation: int) -> bool:
        """Whether this host says that it sees that incarnation on the network."""
        return bool(self.views.network >> slot & 1) and any((k.slot, k.incarnation) == (slot, incarnation) for k in self.known)

    def echo_of(self, slot: int, incarnation: int) -> int:
        """The number by which this host answers that incarnation; 0: it does not answer."""
        return next((k.echo for k in self.known if (k.slot, k.incarnation) == (slot, incarnation)), 0)


_HEAD = struct.Struct("<HBBB7xQQ32sQQQ")
_KNOWN = struct.Struct("<B3xIQ")
_PAIR = struct.Struct("<B7xQ")
_COUNT = struct.Struct("<H")


def pack(statement: Statement) -> bytes:
    """The statement as bytes."""
    name = statement.host.encode()
    views = statement.views
    head = _HEAD.pack(
        len(name),
        statement.slot,
        statement.phase,
        statement.storageless,
        statement.incarnation,
        statement.sequence,
        statement.config_hash,
        views.network,
        views.storage,
        views.proposal,
    )
    return head + name + _pack(_KNOWN, tuple((k.slot, k.echo, k.incarnation) for k in statement.known))


def unpack(data: bytes, offset: int) -> tuple[Statement, int]:
    """The statement at that offset and the offset after it. Raises Malformed."""
    name_length, slot, phase, storageless, incarnation, sequence, config_hash, network, storage, proposal = take(_HEAD, data, offset)
    offset += _HEAD.size
    if not 0 < name_length <= 253 or offset + name_length + 2 > len(data):
        raise Malformed(f"a host name of {name_length} bytes")
    if slot >= pool.MAX_SLOTS:
        raise Malformed(f"slot {slot}")
    if phase > max(Phase):
        raise Malformed(f"phase {phase}")
    if storageless > 1:
        raise Malformed(f"a flag of {storageless}")
    if incarnation == 0:
        raise Malformed("incarnation 0")
    try:
        host = data[offset : offset + name_length].decode()
    except UnicodeDecodeError as error:
        raise Malformed("a host name that is not text") from error
    offset += name_length
    known, offset = _unpack(_KNOWN, data, offset)
    views = Views(network, storage, proposal)
    heard = tuple(Known(index, life, echo) for index, echo, life in known)
    return Statement(host, slot, incarnation, sequence, config_hash, Phase(phase), views, heard, bool(storageless)), offset


def pack_pairs(pairs: tuple[tuple[int, int], ...]) -> bytes:
    """A list of (slot, incarnation) as bytes."""
    return _pack(_PAIR, pairs)


def unpack_pairs(data: bytes, offset: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """A list of (slot, incarnation) and the offset after it. Raises Malformed."""
    rows, offset = _unpack(_PAIR, data, offset)
    return tuple((slot, incarnation) for slot, incarnation in rows), offset


def _pack(form: struct.Struct, rows: tuple[tuple[int, ...], ...]) -> bytes:
    return _COUNT.pack(len(rows)) + b"".join(form.pack(*row) for row in rows)


def _unpack(form: struct.Struct, data: bytes, offset: int) -> tuple[list[tuple[Any, ...]], int]:
    """Rows whose first field is a slot."""
    (count,) = take(_COUNT, data, offset)
    offset += _COUNT.size
    if count > pool.MAX_SLOTS:
        raise Malformed(f"a list of {count} hosts")
    rows = []
    for _ in range(count):
        row = take(form, data, offset)
        if row[0] >= pool.MAX_SLOTS:
            raise Malformed(f"slot {row[0]} in a list")
        rows.append(row)
        offset += form.size
    return rows, offset


def take(form: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    """Fields of that form at that offset. Raises Malformed where the data ends before them."""
    if offset + form.size > len(data):
        raise Malformed(f"only {len(data)} bytes")
    return form.unpack_from(data, offset)

"""Heartbeat packets: a statement signed with the pool's key. Bytes in, bytes out; every refusal is a word that a counter can carry.

The signature is checked before anything else is read, bounds before anything is used as an index.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from quorate_core import pool, statement
from quorate_core.statement import Malformed, Statement

VERSION = 2
MAX_BYTES = 1472
"""Fits into one Ethernet frame; the largest statement is smaller."""

_MAGIC = b"QUORBEAT"
_PREFIX = struct.Struct("<8sHH16s")
_MAC_BYTES = 32
_REMEMBERED_LIVES = 4


class Drop(StrEnum):
    """Why a packet was thrown away; the label of its counter."""

    OVERSIZED = "oversized"
    SHORT = "short"
    NOT_OURS = "not ours"
    VERSION = "other version"
    FORGED = "signature"
    OTHER_POOL = "other pool"
    MALFORMED = "malformed"
    STRANGER = "not a member"
    REFLECTED = "my own"
    DUPLICATE = "duplicate"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Gate:
    """Remembers the highest sequence of the last few incarnations of each slot, so that nothing old passes twice."""

    seen: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)


def encode(said: Statement, pool_id: bytes, key: bytes) -> bytes:
    """The packet of that statement."""
    body = statement.pack(said)
    data = _PREFIX.pack(_MAGIC, VERSION, _PREFIX.size + len(body), pool_id) + body
    return data + hmac.new(key, data, hashlib.sha256).digest()


def decode(data: bytes, pool_id: bytes, key: bytes) -> Statement | Drop:
    """The statement in that packet, or why it is dropped."""
    if len(data) > MAX_BYTES:
        return Drop.OVERSIZED
    if len(data) < _PREFIX.size + _MAC_BYTES:
        return Drop.SHORT
    signed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    magic, version, length, sender_pool = _PREFIX.unpack_from(signed)
    if magic != _MAGIC:
        return Drop.NOT_OURS
    if not hmac.compare_digest(hmac.new(key, signed, hashlib.sha256).digest(), mac):
        return Drop.FORGED
    if version != VERSION:
        return Drop.VERSION
    if sender_pool != pool_id:
        return Drop.OTHER_POOL
    try:
        said, end = statement.unpack(signed, _PREFIX.size)
    except Malformed:
        return Drop.MALFORMED
    return said if end == length == len(signed) else Drop.MALFORMED


def admit(gate: Gate, said: Statement, config: pool.PoolConfig, me: str) -> tuple[Gate, Drop | None]:
    """Whether the statement comes from another member and is newer than all before it; the gate remembers it if so."""
    if said.host == me:
        return gate, Drop.REFLECTED
    member = config.member_at(said.slot)
    if member is None or member.host != said.host:
        return gate, Drop.STRANGER
    lives = dict(gate.seen.get(said.slot, ()))
    newest = lives.get(said.incarnation, 0)
    if said.sequence <= newest:
        # The newest packet once more is what a second network path brings.
        return gate, Drop.DUPLICATE if said.sequence == newest else Drop.REPLAYED
    lives.pop(said.incarnation, None)
    lives[said.incarnation] = said.sequence
    kept = tuple(lives.items())[-_REMEMBERED_LIVES:]
    return replace(gate, seen={**gate.seen, said.slot: kept}), None

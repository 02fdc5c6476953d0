"""Packets: only what a member signed, for this pool, and not yet seen, gets through; every refusal has its own word. Row 52."""

import hashlib
import hmac
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate_core import packet
from quorate_core.packet import Drop, Gate
from quorate_core.pool import MAX_SLOTS, Member, PoolConfig
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.timing import STANDARD

KEY, POOL_ID = b"k" * 32, bytes(range(16))
CONFIG = PoolConfig(POOL_ID, (Member(0, "a"), Member(1, "b")), STANDARD)
SAID = Statement("b", 1, 77, 5, bytes(32), Phase.ARMED, Views(3, 3, 3), (Known(0, 1, 3), Known(1, 77)))


def signed(data: bytes, key: bytes = KEY) -> bytes:
    return data + hmac.new(key, data, hashlib.sha256).digest()


def test_what_a_member_signed_arrives_as_it_was_said() -> None:
    assert packet.decode(packet.encode(SAID, POOL_ID, KEY), POOL_ID, KEY) == SAID


@pytest.mark.parametrize(
    ("data", "drop"),
    [
        (packet.encode(SAID, POOL_ID, b"x" * 32), Drop.FORGED),
        (packet.encode(SAID, bytes(15) + b"x", KEY), Drop.OTHER_POOL),
        (b"", Drop.SHORT),
        (bytes(packet.MAX_BYTES + 1), Drop.OVERSIZED),
        (bytes(200), Drop.NOT_OURS),
        (packet.encode(SAID, POOL_ID, KEY) + b"x", Drop.FORGED),
        (signed(packet.encode(SAID, POOL_ID, KEY)[:-32] + b"x"), Drop.MALFORMED),
        (signed(struct.pack("<8sHH16s", b"QUORBEAT", 9, 28, POOL_ID)), Drop.VERSION),
        (signed(struct.pack("<8sHH16s", b"QUORBEAT", packet.VERSION, 28, POOL_ID)), Drop.MALFORMED),
    ],
    ids=["forged", "other pool", "empty", "oversized", "noise", "appended", "signed but longer", "version", "nothing inside"],
)
def test_every_bad_packet_is_dropped_for_its_own_reason(data: bytes, drop: Drop) -> None:
    assert packet.decode(data, POOL_ID, KEY) is drop


@given(st.binary(max_size=600))
def test_even_signed_garbage_is_refused_before_it_is_used(body: bytes) -> None:
    data = signed(struct.pack("<8sHH16s", b"QUORBEAT", packet.VERSION, 28 + len(body), POOL_ID) + body)
    found = packet.decode(data, POOL_ID, KEY)
    assert isinstance(found, Drop) or found.slot < MAX_SLOTS


def test_a_signed_index_out_of_range_is_malformed() -> None:
    data = bytearray(packet.encode(SAID, POOL_ID, KEY)[:-32])
    data[28 + 2] = MAX_SLOTS  # the slot byte of the statement
    assert packet.decode(signed(bytes(data)), POOL_ID, KEY) is Drop.MALFORMED


@pytest.mark.parametrize(
    ("said", "drop"),
    [
        (replace(SAID, host="a", slot=0), Drop.REFLECTED),
        (replace(SAID, host="b", slot=0), Drop.STRANGER),
        (replace(SAID, host="c", slot=2), Drop.STRANGER),
    ],
    ids=["my own", "wrong slot", "no member"],
)
def test_only_members_in_their_own_slot_are_heard(said: Statement, drop: Drop) -> None:
    assert packet.admit(Gate(), said, CONFIG, "a")[1] is drop


def test_nothing_is_heard_twice_even_if_an_older_life_is_replayed_in_between() -> None:
    gate, drop = packet.admit(Gate(), SAID, CONFIG, "a")
    assert drop is None
    former = replace(SAID, incarnation=66, sequence=900)
    gate, drop = packet.admit(gate, former, CONFIG, "a")
    assert drop is None, "it is the membership's business that this life is over"
    for again in (SAID, former):
        assert packet.admit(gate, again, CONFIG, "a") == (gate, Drop.DUPLICATE), "a second path brings it too"
    assert packet.admit(gate, replace(SAID, sequence=4), CONFIG, "a") == (gate, Drop.REPLAYED)
    assert packet.admit(gate, replace(SAID, sequence=6), CONFIG, "a")[1] is None


def test_the_largest_statement_fits_into_a_packet() -> None:
    everybody = tuple(Known(i, 2**64 - 1, 2**32 - 1) for i in range(MAX_SLOTS))
    assert len(packet.encode(replace(SAID, host="h" * 253, known=everybody), POOL_ID, KEY)) <= packet.MAX_BYTES

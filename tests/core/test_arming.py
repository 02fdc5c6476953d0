"""The fixed point: whoever is missing, and for whatever reason, is named, and nobody arms without it."""

from dataclasses import replace

import pytest

from quorate_core import arming, certificate
from quorate_core.arming import Me, Ready
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.timing import FAST, STANDARD, Timing

CONFIG = PoolConfig(bytes(range(16)), (Member(0, "a"), Member(1, "b"), Member(2, "c")), STANDARD)
NOW = 1000.0
ME = Me(0, 10, NOW)


def peer(index: int, phase: Phase = Phase.JOINING, proposal: int = 0b111, **more: object) -> Peer:
    name = "abc"[index]
    said = Statement(
        name, index, 10 + index, 5, CONFIG.hash, phase, Views(0b111, 0b111, proposal), (Known(0, 10), Known(1, 11), Known(2, 12))
    )
    said = replace(said, **more)  # type: ignore[arg-type]
    armed, disks = phase is Phase.ARMED, CONFIG.disks_digest
    own = Slot(CONFIG.pool_id, bytes(16), said, STANDARD.values, armed, required=0b111, disks_digest=disks)
    watch = certificate.Watch(said.incarnation, NOW - 1, phase is Phase.ARMED, STANDARD.values, 0b111)
    return Peer({0: b"x"}, frozenset({0}), frozenset({0}), own, NOW - 1, said, NOW - 1, watch)


def of_timing(one: Peer, timing: Timing) -> Peer:
    assert one.slot is not None
    return replace(one, slot=replace(one.slot, timing=timing.values))


def on_other_disks(one: Peer) -> Peer:
    assert one.slot is not None
    return replace(one, slot=replace(one.slot, disks_digest=4711))


def consider(*peers: Peer, config: PoolConfig = CONFIG, dead: dict[int, frozenset[int]] | None = None) -> Ready:
    return arming.consider(ME, config, {p.slot.statement.slot: p for p in peers if p.slot}, dead or {})


def test_all_see_all_and_propose_the_same_so_all_arm() -> None:
    assert consider(peer(1), peer(2)) == Ready(0b111)


def test_a_proposal_is_made_before_anybody_else_has_made_one() -> None:
    ready = consider(peer(1, proposal=0), peer(2))
    assert ready.proposal == 0b111
    assert "b: not yet proposing" in ready.missing


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(peer(1), changed_at=None), "not seen on storage"),
        (replace(peer(1), changed_at=NOW - 13), "not seen on storage"),
        (replace(peer(1), heard_at=NOW - 9), "not seen on the network"),
        (replace(peer(1), packet=None), "not seen on the network"),
        (peer(1, views=Views(0b110, 0b111, 0b111)), "does not yet say"),
        (peer(1, views=Views(0b111, 0b110, 0b111)), "does not yet say"),
        (peer(1, known=(Known(0, 9), Known(1, 11))), "does not yet say"),
        (peer(1, config_hash=bytes(32)), "another pool configuration (members or watchdog timeout)"),
        (on_other_disks(peer(1, config_hash=bytes(32))), "another pool configuration (its heartbeat disks are others)"),
        (of_timing(peer(1, config_hash=bytes(32)), FAST), "another pool configuration (its licence is 12 s, here it is 20 s)"),
        (peer(1, phase=Phase.REFUSED), "Refused"),
        (peer(1, phase=Phase.DISARMED), "Disarmed"),
        (replace(peer(1), watch=certificate.Watch(99, NOW, True, STANDARD.values)), "silent"),
    ],
    ids=[
        "never seen to change", "silent on storage", "silent on the network", "never heard", "does not hear me", "does not read me",
        "means my former life", "other members", "other disks", "42 other timing", "43 refused", "disarmed", "38 reborn",
    ],
)  # fmt: skip
def test_one_host_that_does_not_agree_keeps_the_pool_from_arming_and_is_named(other: Peer, why: str) -> None:
    ready = consider(other, peer(2))
    assert why in ready.missing
    assert "b" in ready.missing.split()[0]


def test_a_host_that_is_not_there_at_all_keeps_the_pool_from_arming() -> None:
    assert "c is not seen on storage or the network" in consider(peer(1)).missing


def test_a_late_host_joins_when_it_and_every_armed_host_see_each_other_whatever_a_third_one_does() -> None:
    assert consider(peer(1, phase=Phase.ARMED, proposal=0b010)) == Ready(0b011)


def test_a_silent_armed_host_blocks_joining_until_it_is_certified() -> None:
    """Row 41."""
    silent = replace(peer(2, phase=Phase.ARMED), changed_at=NOW - 30, heard_at=NOW - 30)
    assert "c was armed and is silent" in consider(peer(1, phase=Phase.ARMED), silent).missing
    gone = Peer({0: b"x"})
    ready = arming.consider(ME, CONFIG, {1: peer(1, phase=Phase.ARMED), 2: gone}, {2: frozenset({12})})
    assert ready == Ready(0b011)


def test_members_in_maintenance_are_not_waited_for() -> None:
    config = replace(CONFIG, members=(Member(0, "a"), Member(1, "b"), Member(2, "c", excluded=True)))
    ready = consider(peer(1, proposal=0b011, config_hash=config.hash), config=config)
    assert ready == Ready(0b011)


def test_the_hash_covers_members_and_timing_and_not_the_order_of_members() -> None:
    assert replace(CONFIG, members=CONFIG.members[::-1]).hash == CONFIG.hash
    for other in (replace(CONFIG, timing=FAST), replace(CONFIG, members=CONFIG.members[:2]), replace(CONFIG, pool_id=bytes(15) + b"x")):
        assert other.hash != CONFIG.hash


def test_a_newcomer_waits_until_the_armed_need_its_word_again() -> None:
    """Row 25: if one of them died before that, nobody could certify it."""
    armed = peer(1, Phase.ARMED)
    assert armed.slot is not None
    aloof = replace(armed, slot=replace(armed.slot, required=0b110))
    assert consider(armed, peer(2, Phase.ARMED)).missing == ""
    assert "b: has certified this host's former life and not yet let it in again" in consider(aloof, peer(2, Phase.ARMED)).missing


def test_while_a_partition_is_decided_nobody_joins() -> None:
    """Row 41."""
    armed = peer(1, Phase.ARMED)
    assert armed.slot is not None
    deciding = replace(armed, slot=replace(armed.slot, intent=0b110))
    assert "b: deciding who lives on" in consider(deciding, peer(2, Phase.ARMED)).missing

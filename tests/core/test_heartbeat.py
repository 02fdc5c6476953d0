"""The machine as a whole, where the parts meet: configuration that changes, the dead who still write."""

from dataclasses import replace

from quorate_core import heartbeat, slot
from quorate_core.certificate import Watch
from quorate_core.heart import Configured, CountDrop, CycleDone, Heart, Keeper, PacketHeard, Pending, Say, StartCycle, Tick
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import FAST, STANDARD

CONFIG = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD)
KEEPER = Keeper(Mode.LICENSED, 5, 120.0, "dog", "dog", 8.0)
ARMED = Heart(
    "a", bytes(16), 5, config=CONFIG, phase=Phase.ARMED, message="", keeper=KEEPER, claimed=True, sequence=10, deadline=120.0,
    licensed=True, confirmed=True, disk_problem="", next_cycle_at=1e9, next_packet_at=1e9,
)  # fmt: skip
OF_B = Slot(CONFIG.pool_id, bytes(16), Statement("b", 1, 77, 3, CONFIG.hash, Phase.ARMED), STANDARD.values, True)


def words(actions: tuple[object, ...]) -> str:
    return " ".join(a.sentence for a in actions if isinstance(a, Say))


def test_a_new_host_in_the_pool_changes_nothing_for_an_armed_one() -> None:
    wider = replace(CONFIG, members=(*CONFIG.members, Member(2, "c")))
    after, actions = heartbeat.step(ARMED, Configured(100, wider))
    assert (after.phase, after.deadline, after.config) == (Phase.ARMED, 120.0, wider)
    assert actions == ()


def test_an_armed_host_keeps_the_timing_that_it_has_published() -> None:
    after, actions = heartbeat.step(ARMED, Configured(100, replace(CONFIG, timing=FAST)))
    assert after.config == CONFIG
    assert "take effect when" in words(actions)


def test_an_armed_host_keeps_its_slot_and_pool_whatever_a_new_configuration_says() -> None:
    for other in (
        replace(CONFIG, members=(Member(3, "a"), Member(1, "b"))),
        replace(CONFIG, members=(Member(1, "b"),)),
        replace(CONFIG, pool_id=bytes(15) + b"x"),
    ):
        after, actions = heartbeat.step(ARMED, Configured(100, other))
        assert after.config == CONFIG
        assert "keeps the old one" in words(actions)


def test_a_host_whose_pool_was_lost_and_made_again_can_be_disarmed_by_disabling_the_new_one() -> None:
    again = replace(CONFIG, pool_id=bytes(15) + b"x", enabled=False, disabled_reason="made again")
    after, _ = heartbeat.step(ARMED, Configured(100, again))
    assert after.phase is Phase.DISARMED
    assert after.config == replace(CONFIG, enabled=False, disabled_reason="made again")
    assert after.deadline == 120.0, "still under its licence until all can read that it is disarmed"


def test_a_slot_that_was_given_to_another_host_is_looked_at_afresh() -> None:
    watched = Peer({0: b"x"}, frozenset({0}), frozenset({0}), OF_B, 99.0, watch=Watch(77, 99.0, True, STANDARD.values))
    before = replace(ARMED, peers={1: watched}, dead={1: frozenset({76})}, issued=(Issued(1, 76, 59, 59),))
    after, _ = heartbeat.step(before, Configured(100, replace(CONFIG, members=(Member(0, "a"), Member(1, "c")))))
    assert (after.peers, after.dead, after.issued) == ({}, {}, ())


def test_the_licence_is_over_the_moment_its_deadline_has_passed_and_no_later_cycle_revives_it() -> None:
    block = b""
    before = replace(ARMED, pending=Pending(9, 119.0, None, Phase.ARMED))
    after, actions = heartbeat.step(before, CycleDone(120.01, Cycle(9, 119.0, 119.5, 120.0, block)))
    assert after.phase is Phase.FENCING
    assert "fencing" in words(actions)
    for event in (Tick(121), Configured(121, CONFIG), CycleDone(121, Cycle(9, 119.0, 119.5, 120.0, block))):
        still, actions = heartbeat.step(after, event)
        assert still.phase is Phase.FENCING
        assert not any(isinstance(a, StartCycle) for a in actions)


def test_signs_of_life_of_the_certified_dead_are_ignored_and_reported_once() -> None:
    """Row 11."""
    ghost = replace(OF_B.statement, sequence=4)
    before = replace(ARMED, dead={1: frozenset({77})}, peers={1: Peer({0: slot.encode(OF_B)})})
    after, actions = heartbeat.step(before, PacketHeard(100, ghost))
    assert after.peers[1].packet is None
    assert "certified dead" in words(actions)
    assert words(heartbeat.step(after, PacketHeard(101, replace(ghost, sequence=5)))[1]) == ""

    late = slot.encode(replace(OF_B, statement=ghost))
    own = Slot(CONFIG.pool_id, bytes(16), Statement("a", 0, 5, 10, CONFIG.hash, Phase.ARMED), STANDARD.values, True)
    mine = slot.encode(own)
    cycle = Cycle(9, 100.0, 100.1, 100.2, mine, slot.encode_header(CONFIG.pool_id), {0: mine, 1: late})
    after, actions = heartbeat.step(replace(before, pending=Pending(9, 100.0, own, Phase.ARMED)), CycleDone(100.3, cycle))
    assert "a slot write of incarnation 000000000000004d of b" in words(actions)
    assert after.peers[1].slot is None
    assert after.deadline == 120.0, "its own licence is renewed all the same (E + L)"


def test_replayed_packets_are_counted_and_change_nothing() -> None:
    """Row 52."""
    once, _ = heartbeat.step(ARMED, PacketHeard(100, OF_B.statement))
    twice, actions = heartbeat.step(once, PacketHeard(108, OF_B.statement))
    assert actions == (CountDrop("duplicate"),)
    assert twice.peers[1].heard_at == 100


def test_a_host_whose_keeper_never_took_the_licence_keeps_its_vms_when_it_is_paused() -> None:
    """Nobody was told that it is armed, and the watchdog that it gave back will not reset it: its VMs would be killed for nothing."""
    paused = replace(
        ARMED, config=replace(CONFIG, enabled=False), phase=Phase.DISARMED, licensed=False, confirmed=False, keeper=Keeper(Mode.CLOSED)
    )
    after, actions = heartbeat.step(paused, Tick(120.1))
    assert (after.phase, after.deadline) == (Phase.DISARMED, None)
    assert "the keeper has not taken the licence" in words(actions)

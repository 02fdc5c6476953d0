"""A host that gives its licence back: once it is released, nothing but the keeper can end it, and nothing licenses it again."""

from dataclasses import replace

import pytest

from quorate_core import heartbeat, publish, slot
from quorate_core.heart import (
    Configured,
    CycleDone,
    Event,
    GiveDeadline,
    Heart,
    Keeper,
    KeeperSaid,
    OpenWatchdog,
    Pending,
    ReleaseKeeper,
    StartCycle,
    StopVms,
    Tick,
)
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

CONFIG = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD, enabled=False)
LICENSED = Keeper(Mode.LICENSED, 5, 119.0, "/dev/watchdog", "dog", 8.0)
LEAVING = Heart(
    "a", bytes(16), 5, CONFIG, Phase.DISARMED, keeper=LICENSED, claimed=True, sequence=9, disk_problem="", deadline=119.0,
    evidence_at=99.0, licensed=True, confirmed=True,
)  # fmt: skip


def after_cycle(heart: Heart, now: float, *, failed_at: float | None = None, other: Slot | None = None) -> tuple[Heart, tuple[object, ...]]:
    """After a cycle that began and ended then."""
    heart, actions = heartbeat.step(replace(heart, next_cycle_at=0.0), Tick(now))
    order = next(a for a in actions if isinstance(a, StartCycle))
    assert order.block is not None
    blocks = {0: order.block, 1: slot.encode(other) if other else bytes(slot.BLOCK_BYTES)}
    cycle = Cycle(
        order.number, now, now, now, order.block, slot.encode_header(CONFIG.pool_id), blocks, found=order.block, failed_at=failed_at
    )
    return heartbeat.step(heart, CycleDone(now, cycle))


def released() -> Heart:
    heart, actions = after_cycle(LEAVING, 100.0)
    assert [a for a in actions if isinstance(a, ReleaseKeeper | GiveDeadline)] == [ReleaseKeeper(5)]
    return heart


def test_after_its_release_the_keeper_is_given_no_deadline_whatever_a_later_cycle_proves() -> None:
    """It would take it for a new licence, which this host, once it hears that it is released, does not renew."""
    _, actions = after_cycle(released(), 102.0, failed_at=101.0)
    assert [a for a in actions if isinstance(a, ReleaseKeeper | GiveDeadline)] == [ReleaseKeeper(5)]


EVICTOR = Slot(
    CONFIG.pool_id, b"b" * 16, Statement("b", 1, 6, 9, CONFIG.hash, Phase.ARMED), STANDARD.values, True, evictions=((0, 5),),
    disks_digest=CONFIG.disks_digest,
)  # fmt: skip


def test_a_released_host_does_not_fence_when_its_licence_ends_or_a_record_names_it() -> None:
    """The keeper may have let go of the watchdog: nothing would reset it, and everybody can read that it is disarmed."""
    heart, actions = heartbeat.step(released(), Tick(500.0))
    assert not any(isinstance(a, StopVms) for a in actions)
    heart, _ = after_cycle(replace(heart, pending=None), 501.0, other=EVICTOR)
    assert (heart.phase, heart.released) == (Phase.DISARMED, True)
    heart, _ = heartbeat.step(heart, KeeperSaid(502.0, replace(LICENSED, mode=Mode.OPEN)))
    assert (heart.phase, heart.deadline, heart.released) == (Phase.DISARMED, None, False)


def test_one_whose_licence_ends_before_its_release_fences() -> None:
    assert heartbeat.step(LEAVING, Tick(119.1))[0].phase is Phase.FENCING
    assert after_cycle(LEAVING, 100.0, other=EVICTOR)[0].phase is Phase.FENCING


def test_a_released_host_whose_keeper_says_that_the_licence_has_ended_fences() -> None:
    """The word came too late, and the watchdog resets it."""
    assert heartbeat.step(released(), KeeperSaid(120.0, replace(LICENSED, mode=Mode.EXPIRED)))[0].phase is Phase.FENCING


@pytest.mark.parametrize(
    "event", [Tick(140.0), KeeperSaid(140.0, replace(LICENSED, mode=Mode.OPEN))], ids=["the deadline passes", "the keeper says so"]
)
def test_one_whose_keeper_never_took_the_licence_is_free_after_its_release_too(event: Event) -> None:
    unlicensed = replace(LEAVING, licensed=False, keeper=replace(LICENSED, mode=Mode.OPEN, incarnation=0))
    heart, _ = after_cycle(unlicensed, 100.0)
    heart, _ = heartbeat.step(replace(heart, pending=None), event)
    assert (heart.phase, heart.deadline, heart.released) == (Phase.DISARMED, None, False)


def test_a_host_that_waits_for_its_slot_forgets_what_it_knew_of_one_that_changes_hands() -> None:
    """It would watch the former owner on, and never see that it is disarmed: the blocks are the new owner's to its eyes."""
    three = replace(CONFIG, members=(*CONFIG.members, Member(2, "c")))
    waiting = replace(
        LEAVING, phase=Phase.STARTING, claimed=False, deadline=None, licensed=False, config=three, peers={1: Peer(), 2: Peer()},
        pending=Pending(1, 99.0, None, Phase.STARTING),
    )  # fmt: skip
    given = replace(three, members=(*CONFIG.members, Member(2, "new")))
    assert heartbeat.step(waiting, Configured(100.0, given))[0].peers.keys() == {1}
    assert heartbeat.step(waiting, Configured(100.0, replace(three, pool_id=bytes(range(2, 18)))))[0].peers == {}


NOBODY_YET = replace(LICENSED, mode=Mode.OPEN, incarnation=0, deadline=0.0)


def freed() -> Heart:
    """Its keeper has let go of the licence."""
    heart, _ = heartbeat.step(released(), KeeperSaid(101.0, NOBODY_YET))
    return heart


def test_a_life_that_was_released_is_followed_by_another_one_that_no_record_names() -> None:
    """Who evicted it may be dead, and its record stand for ever; or it may be counting: it must not be ignored, nor obeyed."""
    heart = freed()
    assert (heart.incarnation, heart.spent) == (5, True)
    heart, _ = heartbeat.step(heart, Configured(101.5, replace(CONFIG, enabled=True)))
    assert (heart.phase, heart.deadline) == (Phase.DISARMED, None), "this life does not arm again"
    heart, _ = after_cycle(heart, 102.0, other=EVICTOR)
    assert heart.incarnation not in (0, 5)
    assert (heart.claimed, heart.lives, heart.evidence_at) == (False, {5}, None)
    block = slot.encode(own_slot_of(5, 9))
    heart, _ = read_only(heart, 102.5, block)
    assert heart.claimed, "its own former life is not waited for, armed or not: it was released"
    heart, _ = after_cycle(heart, 103.0, other=EVICTOR)
    assert heart.no_evidence == ""
    assert heart.phase is Phase.JOINING


def own_slot_of(incarnation: int, sequence: int) -> Slot:
    said = Statement("a", 0, incarnation, sequence, CONFIG.hash, Phase.ARMED)
    return Slot(CONFIG.pool_id, bytes(16), said, STANDARD.values, True, disks_digest=CONFIG.disks_digest)


def read_only(heart: Heart, now: float, own: bytes) -> tuple[Heart, tuple[object, ...]]:
    """After a cycle that only read, and found that in the own slot."""
    heart, actions = heartbeat.step(replace(heart, next_cycle_at=0.0), Tick(now))
    order = next(a for a in actions if isinstance(a, StartCycle))
    assert order.block is None
    blocks = {0: own, 1: bytes(slot.BLOCK_BYTES)}
    return heartbeat.step(heart, CycleDone(now, Cycle(order.number, now, now, now, None, slot.encode_header(CONFIG.pool_id), blocks)))


def test_a_keeper_that_has_not_heard_the_release_is_told_again() -> None:
    """It may have been restarted just then, and without storage no cycle says it again."""
    _, actions = heartbeat.step(released(), KeeperSaid(101.0, LICENSED))
    assert [a for a in actions if isinstance(a, ReleaseKeeper | GiveDeadline)] == [ReleaseKeeper(5)]
    _, actions = heartbeat.step(LEAVING, KeeperSaid(101.0, LICENSED))
    assert not actions


def test_other_disks_that_are_heard_of_before_the_release_are_taken_over_after_it() -> None:
    other = replace(CONFIG, disks=("other",), disks_generation=1)
    heart, _ = heartbeat.step(released(), Configured(100.5, other))
    assert heart.config == CONFIG
    heart, _ = heartbeat.step(heart, KeeperSaid(101.0, NOBODY_YET))
    assert (heart.config, heart.wanted, heart.claimed) == (other, None, False)


ARMING = replace(LEAVING, config=replace(CONFIG, enabled=True), phase=Phase.ARMED, licensed=False, confirmed=False)


def test_a_host_whose_keeper_let_go_before_the_licence_came_opens_the_watchdog_again() -> None:
    """Else it would call itself armed for as long as its storage is well, with nothing to reset it."""
    heart, actions = heartbeat.step(ARMING, KeeperSaid(101.0, replace(NOBODY_YET, mode=Mode.CLOSED)))
    assert (heart.phase, heart.deadline) == (Phase.JOINING, None)
    assert any(isinstance(a, OpenWatchdog) for a in actions)


def test_while_the_keeper_is_away_it_is_not_known_whether_a_licence_has_ended() -> None:
    """Fencing is final: it would stop its VMs for ever, with nothing to reset it if the keeper never took the licence."""
    gone, _ = heartbeat.step(replace(ARMING, keeper=None), Tick(119.5))
    assert gone.phase is Phase.ARMED
    assert heartbeat.step(gone, KeeperSaid(120.0, replace(LICENSED, mode=Mode.EXPIRED)))[0].phase is Phase.FENCING
    back, _ = heartbeat.step(gone, KeeperSaid(120.0, NOBODY_YET))
    back, _ = heartbeat.step(back, Tick(120.1))
    assert (back.phase, back.deadline) == (Phase.JOINING, None)


def test_a_disarmed_host_gives_its_word_also_without_a_licence_once_it_has_no_storage() -> None:
    """Who has not heard that it may do without that word lives on it."""
    heart = replace(freed(), no_evidence="EIO")
    said = [publish.storageless(heart, CONFIG, at) for at in (105.0, 111.0)]
    assert said == [False, True]
    assert not publish.storageless(replace(heart, phase=Phase.JOINING), CONFIG, 111.0)

"""What a host publishes of its watchdog while its keeper is away. Observers reckon with it, so it may never become shorter."""

from dataclasses import replace

from quorate_agent.pulse import describe
from quorate_core import heartbeat, publish, slot
from quorate_core.heart import Configured, CycleDone, Heart, Keeper, KeeperGone, KeeperSaid, StartCycle, Tick
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.pool import Member, PoolConfig
from quorate_core.statement import Phase
from quorate_core.timing import FAST, STANDARD, Timing

CONFIG = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD)
ARMED_KEEPER = Keeper(Mode.LICENSED, 5, 120.0, "dog", "dog", 60.0)
ARMED = Heart(
    "a", bytes(16), 5, config=CONFIG, phase=Phase.ARMED, message="", keeper=ARMED_KEEPER,
    claimed=True, sequence=10, deadline=120.0, licensed=True, confirmed=True, disk_problem="", next_packet_at=1e9,
)  # fmt: skip


def published(heart: Heart) -> slot.Slot:
    assert heart.config is not None
    assert heart.member is not None
    return slot.decode(slot.encode(publish.own_slot(heart, heart.config, heart.member, 101.0)))


def test_a_lost_keeper_does_not_shorten_the_watchdog_timeout_that_an_armed_host_has_published() -> None:
    """The device could only be set to 60 s. The keeper is killed: closing pings, so the dog bites up to 61 s later."""
    assert published(ARMED).timing.watchdog_seconds == 60
    alone, _ = heartbeat.step(ARMED, KeeperGone(101))
    _, actions = heartbeat.step(alone, Tick(101.1))
    (cycle,) = (a for a in actions if isinstance(a, StartCycle))
    assert cycle.block is not None
    written = slot.decode(cycle.block)
    assert written.watchdog_armed
    assert written.timing.watchdog_seconds == 60, "survivors now certify after 59 s a host whose dog bites 60 s later or more"


def test_a_keeper_that_has_lost_its_marker_does_not_shorten_it_either() -> None:
    """The run folder was emptied: the new keeper knows of no watchdog, but the old one's dog still counts its 60 s."""
    restarted = Keeper(Mode.CLOSED, 0, 0.0, "", "", 0.0)
    assert published(replace(ARMED, keeper=restarted)).timing.watchdog_seconds == 60


def resumed(config: PoolConfig, before: Heart, timeout_seconds: float, *, keeper_stays: bool = True) -> Heart:
    """A new pulse under the licence of the one before, once it has read what that one had published."""
    fresh = Heart("a", bytes(16), 9, config=config, disk_problem="", next_packet_at=1e9)
    heart, _ = heartbeat.step(fresh, KeeperSaid(101, replace(ARMED_KEEPER, timeout_seconds=timeout_seconds)))
    heart, actions = heartbeat.step(heart, Tick(101.1))
    (order,) = (a for a in actions if isinstance(a, StartCycle))
    if not keeper_stays:
        heart, _ = heartbeat.step(heart, KeeperGone(101.15))
    blocks = {0: slot.encode(publish.own_slot(before, CONFIG, CONFIG.members[0], 100.0))}
    cycle = Cycle(order.number, 101.1, 101.2, 101.3, None, slot.encode_header(CONFIG.pool_id), blocks)
    return heartbeat.step(heart, CycleDone(101.3, cycle))[0]


def test_a_resumed_life_does_not_shorten_what_the_former_pulse_had_published() -> None:
    """Pulse and keeper are both new: the keeper has opened the device again and finds a shorter timeout than the slot promises."""
    heart = resumed(CONFIG, ARMED, 8.0)
    assert heart.phase is Phase.ARMED
    assert published(heart).timing.watchdog_seconds == 60


JOINING = replace(ARMED, phase=Phase.JOINING, licensed=False, confirmed=False, keeper=None, deadline=None)


def test_a_resumed_life_publishes_what_its_keeper_said_also_where_the_former_pulse_had_not_published_it_yet() -> None:
    """That one was killed as it armed. Its keeper is killed too, before this one has read its slot."""
    heart = resumed(CONFIG, JOINING, 60.0, keeper_stays=False)
    assert published(heart).timing.watchdog_seconds == 60


def test_a_resumed_life_publishes_the_longer_of_the_licence_that_runs_and_the_one_that_was_published() -> None:
    """A longer one had come, and the pulse before armed with it and was killed before its slot said so; or a shorter one was to come."""
    longer = replace(CONFIG, timing=Timing(40, 8))
    for config, licence in ((longer, 40), (replace(CONFIG, timing=FAST), 20)):
        heart = resumed(config, JOINING, 8.0)
        assert published(heart).timing.licence_seconds == licence
        assert (heart.phase, heart.confirmed, published(heart).statement.phase) == (Phase.ARMED, False, Phase.JOINING)


def test_a_licence_that_was_given_back_binds_the_next_one_to_nothing() -> None:
    freed = replace(ARMED, deadline=None, licensed=False)
    assert published(replace(freed, keeper=replace(ARMED_KEEPER, mode=Mode.OPEN, timeout_seconds=8.0))).timing.watchdog_seconds == 8


def test_the_report_names_the_silence_that_the_published_timing_demands_and_not_that_of_the_present_profile() -> None:
    """The pool went from 20 s to 12 s while this host was armed, and its device only does 60 s."""
    alone, _ = heartbeat.step(ARMED, KeeperGone(101))
    heart, _ = heartbeat.step(alone, Configured(101, replace(CONFIG, timing=FAST)))
    bound = describe.state(heart, 101.0, describe.Troubles(()), {}, "boot")["boundSeconds"]
    assert bound == published(heart).timing.release_after_silence_seconds == STANDARD.values_with_watchdog(60).release_after_silence_seconds
    assert describe.state(replace(heart, claimed=False), 101.0, describe.Troubles(()), {}, "boot")["boundSeconds"] is None

"""Changes of the pool's configuration while hosts are armed, and by what the controller makes of the agents' words."""

from dataclasses import replace

from quorate_agent.pulse import describe
from quorate_core import heartbeat, slot
from quorate_core.certificate import Watch
from quorate_core.facts import HostPhase
from quorate_core.heart import Configured, CycleDone, Heart, Keeper, KeeperSaid, PacketHeard, Pending, StartCycle, Tick
from quorate_core.hostphase import HostFacts, judge
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

CONFIG = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD)
POOL = replace(CONFIG, members=(Member(0, "a"), Member(1, "b"), Member(2, "c")))
VICTIM = Slot(
    POOL.pool_id,
    bytes(16),
    Statement("b", 1, 77, 3, POOL.hash, Phase.ARMED),
    STANDARD.values,
    True,
    required=0b111,
    disks_digest=POOL.disks_digest,
)
DEAD = slot.encode(VICTIM)
NO_DOG = Keeper(Mode.CLOSED, problem="/dev/watchdog: No such file or directory")
REFUSED = Heart(
    "a", bytes(16), 5, config=CONFIG, phase=Phase.REFUSED, message="no usable watchdog", keeper=NO_DOG, claimed=True, disk_problem="",
    evidence_at=99.0, next_cycle_at=1e9, next_packet_at=1e9,
)  # fmt: skip


def verdict_on(heart: Heart) -> HostPhase:
    said = describe.state(heart, 100.0, describe.Troubles(()), {}, "boot")
    facts = HostFacts(
        "a", incarnation=said["incarnation"], boot_id="boot", state=said["state"], armed=said["armed"], message=said["message"]
    )
    return judge([facts, HostFacts("b", incarnation="b" * 16, state="Armed", armed=True)], 59)["a"].phase


def test_a_host_without_a_watchdog_stays_excluded_instead_of_changing_the_pools_hash_every_few_seconds() -> None:
    """Excluded makes its agent disarmed; Disarmed makes it a member again; then it is refused again: nobody else arms in peace."""
    heart, phases = REFUSED, []
    for turn in range(6):
        phases.append(verdict_on(heart))
        excluded = phases[-1] in (HostPhase.EXCLUDED, HostPhase.MAINTENANCE)
        told = replace(CONFIG, members=(Member(0, "a", excluded), Member(1, "b")))
        heart, _ = heartbeat.step(heart, Configured(100.0 + turn, told))
        heart, _ = heartbeat.step(heart, Tick(100.5 + turn))
    assert set(phases[1:]) == {HostPhase.EXCLUDED}, phases


def test_a_fencing_heart_that_no_licence_binds_joins_again() -> None:
    """The keeper never took the deadline (its marker could not be saved: tmpfs full), so no watchdog will end this host: it must go on."""
    keeper = Keeper(Mode.OPEN, 0, 0.0, "dog", "dog", 8.0)
    heart = replace(REFUSED, keeper=keeper, phase=Phase.ARMED, message="", deadline=120.0, licensed=False, confirmed=False)
    actions: tuple[object, ...] = ()
    for now in (121.0, 200.0, 300.0):
        heart, _ = heartbeat.step(heart, KeeperSaid(now, keeper))
        heart, more = heartbeat.step(replace(heart, next_cycle_at=0.0), Tick(now))
        actions += more  # the first cycle never comes back here, so there is one only
    assert any(isinstance(action, StartCycle) for action in actions), heart.message


def issued_over(peers: dict[int, Peer], *, packets_from: int | None = None) -> list[tuple[float, int, int]]:
    """When, over 80 s in which b is silent and certified by c, this host certifies whom. A packet of that incarnation comes each cycle."""
    pool, dead, victim = POOL, DEAD, VICTIM
    found: list[tuple[float, int, int]] = []
    issuer = Slot(
        pool.pool_id, bytes(16), Statement("c", 2, 88, 9, pool.hash, Phase.ARMED), STANDARD.values, True,
        certificates=(Issued(1, 77, 59.5, 59.0),),
    )  # fmt: skip
    own = Slot(pool.pool_id, bytes(16), Statement("a", 0, 5, 10, pool.hash, Phase.ARMED), STANDARD.values, True)
    mine = slot.encode(own)
    heart = replace(
        REFUSED, config=pool, keeper=Keeper(Mode.LICENSED, 5, 220.0, "dog", "dog", 8.0), phase=Phase.ARMED, message="", deadline=220.0,
        licensed=True, confirmed=True, last_read_at=100.0, peers=peers,
    )  # fmt: skip
    for number in range(1, 40):
        now = 100.0 + 2 * number
        heart = replace(heart, pending=Pending(number, now, own, Phase.ARMED), deadline=now + 20)
        alive = replace(issuer, statement=replace(issuer.statement, sequence=9 + number))
        blocks = {0: mine, 1: dead, 2: slot.encode(alive)}
        cycle = Cycle(number, now, now + 0.1, now + 0.2, mine, slot.encode_header(pool.pool_id), blocks)
        heart, _ = heartbeat.step(heart, CycleDone(now + 0.2, cycle))
        if packets_from is not None:
            said = replace(victim.statement, incarnation=packets_from, sequence=100 + number)
            heart, _ = heartbeat.step(heart, PacketHeard(now + 0.3, said))
        found += [(now, c.slot, c.incarnation) for c in heart.issued if (c.slot, c.incarnation) not in {f[1:] for f in found}]
    return found


def test_every_survivor_publishes_the_death_also_when_another_one_said_so_first() -> None:
    """Else the certificate is lost with its one issuer: if that one dies or cannot reach the API, nobody ever tells the controller."""
    watched = Peer(
        {0: DEAD}, frozenset({0}), frozenset({0}), VICTIM, 40.0, watch=Watch(77, 41.0, True, STANDARD.values, 0b111, POOL.disks_digest)
    )
    assert [(index, life) for _, index, life in issued_over({1: watched})] == [(1, 77)]


def test_one_who_came_later_says_so_only_after_a_full_silence_of_its_own() -> None:
    """No certificate is copied: this host has read the dead host's slot since 102 s."""
    ((at, *whom),) = issued_over({})
    assert whom == [1, 77]
    assert at >= 102 + STANDARD.values.release_after_silence_seconds


def test_nobody_certifies_on_its_own_an_incarnation_whose_packets_it_still_hears() -> None:
    assert issued_over({}, packets_from=77) == []


def test_a_slot_that_a_cycle_has_not_read_is_not_claimed_on_it() -> None:
    """Row 9: the host was moved to it while that cycle was under way; it may be another one's."""
    keeper = Keeper(Mode.OPEN, 0, 0.0, "dog", "dog", 8.0)
    heart, (order, *_) = heartbeat.step(Heart("a", bytes(16), 5, config=CONFIG, keeper=keeper, disk_problem=""), Tick(100.0))
    assert isinstance(order, StartCycle)
    assert order.last_slot == 1
    heart, _ = heartbeat.step(heart, Configured(100.1, replace(CONFIG, members=(Member(5, "a"), Member(1, "b")))))
    empty = {index: bytes(slot.BLOCK_BYTES) for index in (0, 1)}
    heart, _ = heartbeat.step(heart, CycleDone(100.2, Cycle(1, 100.0, 100.0, 100.1, None, slot.encode_header(CONFIG.pool_id), empty)))
    assert not heart.claimed
    heart, actions = heartbeat.step(heart, Tick(100.3))
    again = next(action for action in actions if isinstance(action, StartCycle))
    assert (again.last_slot, again.block) == (5, None), "it looks there first"

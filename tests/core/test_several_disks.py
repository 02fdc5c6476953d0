"""A host with several heartbeat disks, with others than before, or with a pulse that was restarted beside bad ones."""

from dataclasses import replace

from quorate_core import heartbeat, publish, slot
from quorate_core.certificate import Watch
from quorate_core.eviction import Eviction
from quorate_core.heart import Configured, CycleDone, Heart, Keeper, KeeperSaid, Say, StartCycle, Tick
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement, Views
from quorate_core.timing import STANDARD

THREE = PoolConfig(bytes(range(1, 17)), (Member(0, "a"), Member(1, "b")), STANDARD, disks=("x", "y", "z"))
HEADER = slot.encode_header(THREE.pool_id)
EMPTY = bytes(slot.BLOCK_BYTES)
VICTIM = Slot(
    THREE.pool_id, bytes(16), Statement("b", 1, 77, 3, THREE.hash, Phase.ARMED), STANDARD.values, True, required=0b11,
    disks_digest=THREE.disks_digest,
)  # fmt: skip
WATCHED = Peer(
    {0: slot.encode(VICTIM)},
    frozenset({0}),
    frozenset({0}),
    VICTIM,
    41.0,
    watch=Watch(77, 41.0, True, STANDARD.values, 0b11, VICTIM.disks_digest),
)
JOINING = Heart(
    "a", bytes(16), 5, config=THREE, phase=Phase.JOINING, keeper=Keeper(Mode.OPEN, 0, 0.0, "dog", "dog", 8.0), claimed=True, sequence=10,
    disk_problem="", peers={1: WATCHED}, evidence_at=99.0, last_read_at=99.0,
)  # fmt: skip
ARMED = replace(
    JOINING, phase=Phase.ARMED, keeper=Keeper(Mode.LICENSED, 5, 120.0, "dog", "dog", 8.0), deadline=120.0, licensed=True, confirmed=True
)


def own(sequence: int, incarnation: int = 5, phase: Phase = Phase.ARMED, host: str = "a") -> Slot:
    said = Statement(host, 0, incarnation, sequence, THREE.hash, phase, Views(0b11, 0b11))
    return Slot(THREE.pool_id, bytes(16), said, STANDARD.values, phase is Phase.ARMED, required=0b11, disks_digest=THREE.disks_digest)


def cycle_of(order: StartCycle, at: float, *mine: Slot) -> Cycle:
    """One that only read; the own slot on one disk after the other."""
    reads = {disk: {0: slot.encode(one), 1: EMPTY} for disk, one in enumerate(mine)}
    return Cycle(order.number, at, at + 0.1, at + 0.2, None, HEADER, reads[0], reads=reads)


def start(heart: Heart, at: float) -> tuple[Heart, StartCycle]:
    heart, actions = heartbeat.step(replace(heart, next_cycle_at=at), Tick(at))
    return heart, next(a for a in actions if isinstance(a, StartCycle))


def test_on_other_disks_all_that_was_seen_is_forgotten_and_what_is_still_being_read_is_no_answer() -> None:
    """Row 28: else the absence of a host that is armed on the old ones would be its silence."""
    before, order = start(JOINING, 100.0)
    after, _ = heartbeat.step(before, Configured(100.1, replace(THREE, disks=("x", "y", "new"))))
    assert (after.peers, after.claimed, after.evidence_at, after.pending) == ({}, False, None, None)
    late, _ = heartbeat.step(after, CycleDone(100.2, cycle_of(order, 100.0, own(9))))
    assert (late.peers, late.claimed) == ({}, False)
    assert start(late, 100.3)[1].disks == ("x", "y", "new")


def test_a_licence_stays_on_its_disks_and_says_so_in_the_slot() -> None:
    after, actions = heartbeat.step(ARMED, Configured(100.1, replace(THREE, disks=("new",))))
    assert after.config == THREE
    assert any("other heartbeat disks take effect when" in a.sentence for a in actions if isinstance(a, Say))
    order = start(after, 100.3)[1]
    assert order.disks == ("x", "y", "z")
    assert order.block is not None
    assert slot.decode(order.block).disks_digest == THREE.disks_digest != replace(THREE, disks=("z", "y", "x")).disks_digest


def test_of_several_disks_a_cycle_that_hangs_is_given_up_and_of_one_it_is_waited_for() -> None:
    """Else one hung disk and a short error on another one are the end of the host."""
    record = Eviction(1, 77, STANDARD.values, since=90.0)
    for disks, numbers in ((("x", "y", "z"), [2]), (("x",), [])):
        heart, first = start(replace(ARMED, config=replace(THREE, disks=disks), evictions=(record,)), 100.0)
        assert first.number == 1
        heart, actions = heartbeat.step(heart, Tick(106.1))
        assert [a.number for a in actions if isinstance(a, StartCycle)] == numbers
        assert [r.since for r in heart.evictions] == ([None] if numbers else [90.0]), "what it found before its write is not known"
        again, actions = heartbeat.step(heart, Tick(112.3))
        assert not any(isinstance(a, Say) and "a storage cycle hangs" in a.sentence for a in actions), "said once"
        assert again.no_evidence == "the storage cycle hangs (limit 6 s)"


def restarted(at: float, *mine: Slot) -> Heart:
    """A pulse that was restarted under a licence, when it has read its slot."""
    heart, _ = heartbeat.step(Heart("a", bytes(16), 99, THREE), KeeperSaid(at, Keeper(Mode.LICENSED, 5, at + 15, "dog", "dog", 8.0)))
    heart, order = start(heart, at)
    return heartbeat.step(heart, CycleDone(at + 0.3, cycle_of(order, at, *mine)))[0]


def test_a_second_restart_that_reads_the_same_slot_speaks_with_higher_numbers_than_the_first() -> None:
    """Row 6: no write has come through between them; packets with numbers that were heard before would be dropped."""
    first, second = restarted(100.0, own(9)), restarted(101.0, own(9))
    assert second.sequence >= first.sequence + 100, "more than are used within that second"


def test_a_pulse_that_goes_on_beside_a_disk_that_cannot_be_written_says_in_time_that_it_has_no_storage() -> None:
    heart = replace(restarted(100.0, own(9)), no_evidence="input/output error")
    assert heart.evidence_at == 95.0, "its licence of 20 s ends at 115"
    assert not publish.storageless(heart, THREE, 104.9)
    assert publish.storageless(heart, THREE, 105.1)


def test_a_restarted_pulse_knows_its_own_copies_on_all_disks_and_is_not_misled_by_another_lifes() -> None:
    left = replace(own(5_000_000, incarnation=4, phase=Phase.JOINING), boot_id=b"l" * 16)
    records = [replace(own(9), evictions=((1, 70),)), replace(own(8), evictions=((1, 71),)), left]
    heart = restarted(100.0, *records)
    assert [(r.slot, r.incarnation) for r in heart.evictions] == [(1, 70)], "what it had dropped since is dropped"
    assert 9 < heart.sequence < 5_000_000


def test_a_new_life_begins_above_every_number_in_its_slot_whoever_has_written_it() -> None:
    """Row 37: else a former owner's block would hide it."""
    heart = replace(JOINING, claimed=False, sequence=0)
    former = replace(own(3 * 2**45, incarnation=4, phase=Phase.DISARMED, host="gone"), boot_id=b"g" * 16)
    for at in (100.0, 112.5):
        heart, order = start(heart, at)
        heart, _ = heartbeat.step(heart, CycleDone(at + 0.3, cycle_of(order, at, former, own(3, incarnation=2, phase=Phase.JOINING))))
    assert heart.claimed
    assert heart.sequence > former.statement.sequence
    assert set(heart.claimed_over) == {slot.encode(former), slot.encode(own(3, incarnation=2, phase=Phase.JOINING))}


def test_under_a_licence_also_those_who_have_left_are_obeyed() -> None:
    """Row 15: who has evicted this host may not hear that it has left the pool, and counts on being read."""
    apart = replace(THREE, members=(Member(0, "a"),))
    record = replace(VICTIM, evictions=((0, 5),))
    for before, fenced in ((ARMED, True), (JOINING, False)):
        heart, _ = heartbeat.step(before, Configured(100.0, apart))
        heart, order = start(heart, 100.1)
        assert order.last_slot == (1 if fenced else 0)
        blocks = {0: order.block or slot.encode(own(9)), 1: slot.encode(record)}
        reads = dict.fromkeys(range(3), blocks)
        cycle = Cycle(order.number, 100.1, 100.2, 100.3, order.block, HEADER, blocks, found=blocks[0], reads=reads)
        heart, _ = heartbeat.step(heart, CycleDone(100.4, cycle))
        assert (heart.phase is Phase.FENCING) is fenced, heart.no_evidence

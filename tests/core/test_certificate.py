"""When a silent host is known to be dead: each rule has the case in which it alone forbids the certificate."""

from dataclasses import replace

import pytest

from quorate_core import certificate, copies, slot
from quorate_core.certificate import Judge, Watch
from quorate_core.licence import Cycle
from quorate_core.membership import Peer, after_read
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import FAST, STANDARD

POOL = PoolConfig(bytes(range(16)), (Member(0, "h0"), Member(1, "h1")), STANDARD)
DISKS, ONE_GENERATION = POOL.disks_digest, 1 << 16
SAID = Statement("h1", 1, 7, 100, bytes(32), Phase.ARMED)
VICTIM = Slot(POOL.pool_id, bytes(16), SAID, STANDARD.values, True, required=0b111, disks_digest=DISKS)
R_S = 59.0
T_N = 8.0
ME = Judge(0, DISKS)


def read(at: float, seconds: float = 0.5) -> Cycle:
    return Cycle(1, at, at, at + seconds, b"")


def seen(
    before: Peer | None,
    at: float,
    on: dict[int, Slot | bytes],
    *,
    after_gap: bool = False,
    dead: frozenset[int] = frozenset(),
    disks: int = DISKS,
) -> Peer:
    """The peer after a read that began at that time and found this on each disk; bytes are what cannot be read."""
    reads = {disk: {1: one if isinstance(one, bytes) else slot.encode(one)} for disk, one in on.items()}
    found = copies.find(Cycle(1, at, at, at + 0.5, None, reads=reads, carried_by=frozenset(on)), POOL)[1]
    return after_read(before or Peer(), found, disks, at + 0.5, after_gap=after_gap, dead=dead)


def watched(one: Slot | bytes = VICTIM, before: Peer | None = None, at: float = 0.0, after_gap: bool = False) -> Peer:
    """After a read of a single disk."""
    return seen(before, at, {0: one}, after_gap=after_gap)


def watch_of(peer: Peer) -> Watch:
    assert peer.watch is not None
    return peer.watch


def test_the_count_begins_when_the_read_completed_and_ends_when_a_later_one_was_issued() -> None:
    watch = watched()
    assert watch_of(watch).since == 0.5
    early = certificate.verdict(watch_of(watch), 1, read(0.5 + R_S - 0.1, seconds=3), None, T_N, ME)
    assert isinstance(early, str)
    assert certificate.verdict(watch_of(watch), 1, read(0.5 + R_S), None, T_N, ME) == Issued(1, 7, R_S, R_S)


def test_the_victims_own_timing_counts() -> None:
    """Row 42."""
    fast = replace(VICTIM, timing=FAST.values)
    assert watch_of(watched(fast)).bound_seconds == 40


def test_a_late_write_before_the_certificate_starts_the_count_again() -> None:
    """Row 10."""
    moved = replace(VICTIM, statement=replace(SAID, sequence=101))
    watch = watched(moved, watched(), at=50)
    assert isinstance(certificate.verdict(watch_of(watch), 1, read(100), None, T_N, ME), str)


def test_a_gap_in_the_own_reads_starts_the_count_again() -> None:
    watch = watched(before=watched(), at=50, after_gap=True)
    assert isinstance(certificate.verdict(watch_of(watch), 1, read(100), None, T_N, ME), str)


def test_a_torn_slot_is_no_change_while_it_stays_torn_the_same_way() -> None:
    """Row 17."""
    torn = watched(b"torn", watched(), at=2)
    assert watch_of(torn).since == 2.5, "that it was torn just now is a sign of life"
    assert watch_of(watched(b"torn", torn, at=30)).since == 2.5
    assert watch_of(watched(b"torn otherwise", torn, at=30)).since == 30.5


@pytest.mark.parametrize(
    "changed",
    [
        {"watchdog_armed": False},
        {"statement": replace(SAID, phase=Phase.JOINING)},
        {"statement": replace(SAID, phase=Phase.DISARMED)},
        {"statement": replace(SAID, phase=Phase.REFUSED)},
    ],
    ids=["43 no watchdog", "joining", "disarmed", "refused"],
)
def test_a_host_that_no_watchdog_is_bound_to_reset_is_never_certified(changed: dict[str, object]) -> None:
    one = replace(VICTIM, **changed)  # type: ignore[arg-type]
    watch = watched(one)
    assert "not armed" in str(certificate.verdict(watch_of(watch), 1, read(10_000), None, T_N, ME))


def test_packets_that_still_arrive_forbid_it() -> None:
    watch = watched()
    assert "packets still arrive" in str(certificate.verdict(watch_of(watch), 1, read(100), 95.0, T_N, ME))
    assert isinstance(certificate.verdict(watch_of(watch), 1, read(100), 91.0, T_N, ME), Issued)


def test_a_newcomer_in_the_slot_neither_ends_nor_renews_the_count_for_its_armed_predecessor() -> None:
    """Row 38."""
    newborn = replace(VICTIM, statement=replace(SAID, incarnation=8, phase=Phase.JOINING), boot_id=b"b" * 16)
    watch = watched(newborn, watched(), at=30)
    assert (watch_of(watch).incarnation, watch_of(watch).since) == (7, 0.5)


def test_a_newcomer_of_the_same_boot_ends_the_watch_of_its_predecessor_without_a_certificate() -> None:
    """It was released from its licence while this observer could not read: nothing has reset the host, and its VMs run."""
    armed_again = replace(VICTIM, statement=replace(SAID, incarnation=8, sequence=101))
    watch = watched(armed_again, watched(), at=30)
    assert (watch_of(watch).incarnation, watch_of(watch).since) == (8, 30.5)
    assert certificate.verdict(watch_of(watch), 1, read(30.5 + R_S), None, T_N, ME) == Issued(1, 8, R_S, R_S), (
        "the newcomer is watched like any"
    )


def test_while_an_older_life_of_the_same_boot_stands_in_the_slot_nothing_is_counted() -> None:
    older = replace(VICTIM, statement=replace(SAID, incarnation=6, sequence=99))
    watch = watched()
    for at in (10.0, 40.0, 70.0):
        watch = watched(older, watch, at=at)
        assert isinstance(certificate.verdict(watch_of(watch), 1, read(at), None, T_N, ME), str)
    assert (watch_of(watch).incarnation, watch_of(watch).since) == (7, 70.5)


def test_a_newcomer_takes_the_place_of_a_predecessor_that_was_never_armed() -> None:
    joining = replace(VICTIM, statement=replace(SAID, phase=Phase.JOINING))
    newborn = replace(VICTIM, statement=replace(SAID, incarnation=8), boot_id=b"b" * 16)
    watch = watched(newborn, watched(joining), at=30)
    assert (watch_of(watch).incarnation, watch_of(watch).since) == (8, 30.5)


def test_one_whose_word_the_silent_host_would_not_need_does_not_certify_it() -> None:
    """It may live on the word of the others while the disk stands still."""
    alone = replace(VICTIM, required=0b110)
    assert "did not count this host" in str(certificate.verdict(watch_of(watched(alone)), 1, read(1000), None, T_N, ME))


def test_a_fenced_host_without_vms_is_dead_when_its_last_writes_have_landed_whoever_reads_it() -> None:
    """Row 57."""
    fenced = replace(VICTIM, statement=replace(SAID, phase=Phase.FENCING, sequence=101), stopped=True, required=0)
    watch = watched(fenced, watched(), at=10)
    assert certificate.confirmed(watch_of(watch), 1, read(15.5)) is None, "clocks may be off"
    assert certificate.confirmed(watch_of(watch), 1, read(15.505)) == Issued(1, 7, 5.005, 5.0, Evidence.CONFIRMED)
    assert watch_of(watched(fenced, watch, at=12)).stopped_at == 10.5, "counted from the first read that showed it"


@pytest.mark.parametrize("changed", [{"stopped": False}, {"statement": replace(SAID, sequence=101)}], ids=["VMs left", "not fenced"])
def test_nothing_but_the_word_of_a_fenced_host_without_vms_shortens_the_wait(changed: dict[str, object]) -> None:
    fenced = replace(VICTIM, statement=replace(SAID, phase=Phase.FENCING, sequence=101), stopped=True)
    one = replace(fenced, **changed)  # type: ignore[arg-type]
    assert certificate.confirmed(watch_of(watched(one)), 1, read(1000)) is None


def test_an_old_write_that_lands_late_starts_the_count_again_and_unsays_nothing() -> None:
    """Row 10: a block from before it was armed, or from before it was disarmed."""
    joining = replace(VICTIM, statement=replace(SAID, phase=Phase.JOINING, sequence=90), watchdog_armed=False)
    watch = watched(joining, watched(), at=30)
    assert (watch_of(watch).armed, watch_of(watch).since) == (True, 30.5)
    disarmed = replace(VICTIM, statement=replace(SAID, phase=Phase.DISARMED, sequence=120), watchdog_armed=False)
    watch = watched(VICTIM, watched(disarmed, watched(), at=30), at=32)
    assert not watch_of(watch).armed


def silent(peer: Peer, at: float) -> Issued | str:
    return certificate.verdict(watch_of(peer), 1, read(at), None, T_N, ME)


def test_copies_of_different_age_on_several_disks_are_no_change_however_they_are_read() -> None:
    """A host that died between two of its writes leaves them behind, and each read takes the majority that answers first."""
    newer = replace(VICTIM, statement=replace(SAID, sequence=101))
    peer = seen(None, 0, {0: VICTIM, 1: newer})
    for at in range(4, 60, 4):
        peer = seen(peer, at, {1: newer, 2: VICTIM} if at % 8 else {0: VICTIM, 2: VICTIM})
    assert watch_of(peer).since == 4.5, "the third disk was read for the first time then"
    assert isinstance(silent(peer, 4.5 + R_S), Issued)


def test_whatever_one_disk_shows_anew_is_a_sign_of_life_also_below_a_higher_number_on_another_disk() -> None:
    """Row 54: a write of the pulse before, with a lower number, lies over the present one on the only disk that both hosts reach."""
    older = replace(VICTIM, statement=replace(SAID, sequence=50))
    peer = seen(None, 0, {0: VICTIM, 1: VICTIM})
    peer = seen(peer, 30, {0: VICTIM, 1: older})
    assert (watch_of(peer).since, watch_of(peer).sequence) == (30.5, 100)


def test_a_life_that_left_a_higher_number_on_a_minority_of_the_disks_does_not_hide_the_present_one() -> None:
    left = replace(VICTIM, boot_id=b"a" * 16, statement=replace(SAID, incarnation=6, sequence=5_000_000, phase=Phase.JOINING))
    peer = seen(None, 0, {0: VICTIM, 1: VICTIM})
    for number in range(1, 40):
        moved = replace(VICTIM, statement=replace(SAID, sequence=100 + number))
        peer = seen(peer, 2.0 * number, {1: moved, 2: left})
        assert (watch_of(peer).incarnation, watch_of(peer).since) == (7, 2.0 * number + 0.5)
        assert peer.slot == moved


def test_one_who_comes_later_watches_the_armed_life_and_not_the_one_with_the_highest_number() -> None:
    left = replace(VICTIM, boot_id=b"a" * 16, statement=replace(SAID, incarnation=6, sequence=5_000_000, phase=Phase.JOINING))
    peer = seen(None, 0, {1: VICTIM, 2: left})
    assert watch_of(peer).incarnation == 7
    assert silent(peer, 0.5 + R_S) == Issued(1, 7, R_S, R_S)


def test_what_is_left_of_a_life_before_the_certified_one_is_not_certified_again() -> None:
    """The certificate would take the place of the one that the controller waits for."""
    before = replace(VICTIM, boot_id=b"a" * 16, statement=replace(SAID, incarnation=6, sequence=50))
    peer = seen(None, 0, {0: VICTIM, 1: VICTIM}, dead=frozenset({7}))
    peer = seen(peer, 2, {1: VICTIM, 2: before}, dead=frozenset({7}))
    assert (peer.watch, peer.slot) == (None, None)


def test_what_a_disk_shows_that_was_away_brings_no_former_life_back() -> None:
    """It was written long ago: the dead host would count as back, and its certificate would be withdrawn."""
    former = replace(VICTIM, boot_id=b"a" * 16, statement=replace(SAID, incarnation=6, sequence=50))
    for dead in (frozenset({7}), frozenset[int]()):
        peer = seen(None, 0, {0: VICTIM, 2: replace(former, statement=replace(former.statement, sequence=40))})
        peer = seen(peer, 2, {0: VICTIM, 1: VICTIM}, dead=dead)
        before = peer.slot
        peer = seen(peer, 4, {1: VICTIM, 2: former}, dead=dead)
        assert peer.slot == before == (None if dead else VICTIM)


def test_on_other_heartbeat_disks_than_its_own_nobody_is_silent() -> None:
    """Row 28: it has been armed on the disks before, and cannot hear that the pool has others now."""
    for disks in (DISKS + 1, 0):  # an older agent does not say on which
        assert watched(replace(VICTIM, disks_digest=disks)).watch is None, "nobody waits for a certificate that nobody can give"
        elsewhere = replace(VICTIM, disks_digest=disks, statement=replace(SAID, sequence=101))
        assert "on other heartbeat disks" in str(silent(watched(elsewhere, watched(), at=2), 1000))


def test_a_read_that_a_disk_has_carried_which_was_emptied_shows_nobodys_silence() -> None:
    """Another disk is found under the same name. Who proves its life on the old one may be alive."""
    empty = bytes(slot.BLOCK_BYTES)
    assert seen(watched(), 10, {0: empty}).emptied
    peer = seen(None, 0, {0: VICTIM, 1: VICTIM, 2: VICTIM})
    assert seen(peer, 10, {0: empty, 1: VICTIM}).emptied
    assert not seen(peer, 10, {1: VICTIM, 2: VICTIM}).emptied, "a majority without it is one all the same"
    assert not seen(None, 10, {0: empty, 1: VICTIM}).emptied, "a disk on which it never was"


def test_a_copy_of_a_life_that_was_released_is_not_watched_below_a_later_life_or_another_owner() -> None:
    """Its last word stood on the other disks, where it was written over; its VMs may run without a licence."""
    later = replace(VICTIM, watchdog_armed=False, statement=replace(SAID, incarnation=8, sequence=200, phase=Phase.DISARMED))
    owner = replace(later, boot_id=b"o" * 16, statement=replace(SAID, host="h5", incarnation=9, sequence=300))
    for other in (later, owner):
        peer = seen(None, 0, {0: other, 2: VICTIM})
        assert peer.watch is None or (peer.watch.incarnation, peer.watch.armed) == (8, False)
        assert watch_of(seen(None, 0, {0: replace(other, statement=replace(other.statement, sequence=99)), 2: VICTIM})).armed


def test_what_lives_on_other_disks_have_left_hides_no_life_on_these() -> None:
    """A majority of the one set need not meet one of the other: the number of a life says nothing about one that began on other disks. What
    another owner wrote there before hides nothing either; after it, this life may have been released."""
    later, digest = replace(VICTIM, disks_digest=DISKS + ONE_GENERATION), DISKS + ONE_GENERATION
    former = replace(VICTIM, boot_id=b"a" * 16, statement=replace(SAID, incarnation=6, sequence=500))
    owner = replace(former, statement=replace(former.statement, host="h5"))
    for left in (former, owner):
        for dead in (frozenset[int](), frozenset({6})):
            peer = seen(None, 0, {0: left, 2: later}, dead=dead, disks=digest)
            assert (watch_of(peer).incarnation, watch_of(peer).armed) == (7, True)
            assert watch_of(seen(peer, 2, {0: left, 2: later}, dead=dead, disks=digest)).since == 0.5
    after = replace(owner, disks_digest=digest, statement=replace(owner.statement, sequence=1))
    assert seen(None, 0, {0: after, 2: VICTIM}).watch is None

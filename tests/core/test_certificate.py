"""When a silent host is known to be dead: each rule has the case in which it alone forbids the certificate."""

from dataclasses import replace

import pytest

from quorate_core import certificate, slot
from quorate_core.certificate import Watch
from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import FAST, STANDARD

SAID = Statement("h1", 1, 7, 100, bytes(32), Phase.ARMED)
VICTIM = Slot(bytes(range(16)), bytes(16), SAID, STANDARD.values, True, required=0b111)
BLOCK = slot.encode(VICTIM)
R_S = 59.0
T_N = 8.0
ME = 0


def read(at: float, seconds: float = 0.5) -> Cycle:
    return Cycle(1, at, at, at + seconds, b"")


def watched(
    seen: Slot | None = VICTIM, block: bytes = BLOCK, before: Watch | None = None, at: float = 0.0, after_gap: bool = False
) -> Watch:
    watch = certificate.observe(before, seen, block, read(at), after_gap=after_gap)
    assert watch is not None
    return watch


def test_the_count_begins_when_the_read_completed_and_ends_when_a_later_one_was_issued() -> None:
    watch = watched()
    assert watch.since == 0.5
    early = certificate.verdict(watch, 1, read(0.5 + R_S - 0.1, seconds=3), None, T_N, ME)
    assert isinstance(early, str)
    assert certificate.verdict(watch, 1, read(0.5 + R_S), None, T_N, ME) == Issued(1, 7, R_S, R_S)


def test_the_victims_own_timing_counts() -> None:
    """Row 42."""
    fast = replace(VICTIM, timing=FAST.values)
    assert watched(fast, slot.encode(fast)).bound_seconds == 40


def test_a_late_write_before_the_certificate_starts_the_count_again() -> None:
    """Row 10."""
    moved = replace(VICTIM, statement=replace(SAID, sequence=101))
    watch = watched(moved, slot.encode(moved), watched(), at=50)
    assert isinstance(certificate.verdict(watch, 1, read(100), None, T_N, ME), str)


def test_a_gap_in_the_own_reads_starts_the_count_again() -> None:
    watch = watched(before=watched(), at=50, after_gap=True)
    assert isinstance(certificate.verdict(watch, 1, read(100), None, T_N, ME), str)


def test_a_torn_slot_is_no_change_while_it_stays_torn_the_same_way() -> None:
    """Row 17."""
    torn = watched(None, b"torn", watched(), at=2)
    assert torn.since == 2.5, "that it was torn just now is a sign of life"
    assert watched(None, b"torn", torn, at=30).since == 2.5
    assert watched(None, b"torn otherwise", torn, at=30).since == 30.5


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
    seen = replace(VICTIM, **changed)  # type: ignore[arg-type]
    watch = watched(seen, slot.encode(seen))
    assert "not armed" in str(certificate.verdict(watch, 1, read(10_000), None, T_N, ME))


def test_packets_that_still_arrive_forbid_it() -> None:
    watch = watched()
    assert "packets still arrive" in str(certificate.verdict(watch, 1, read(100), 95.0, T_N, ME))
    assert isinstance(certificate.verdict(watch, 1, read(100), 91.0, T_N, ME), Issued)


def test_a_newcomer_in_the_slot_neither_ends_nor_renews_the_count_for_its_armed_predecessor() -> None:
    """Row 38."""
    newborn = replace(VICTIM, statement=replace(SAID, incarnation=8, phase=Phase.JOINING), boot_id=b"b" * 16)
    watch = watched(newborn, slot.encode(newborn), watched(), at=30)
    assert (watch.incarnation, watch.since) == (7, 0.5)


def test_a_newcomer_of_the_same_boot_ends_the_watch_of_its_predecessor_without_a_certificate() -> None:
    """It was released from its licence while this observer could not read: nothing has reset the host, and its VMs run."""
    armed_again = replace(VICTIM, statement=replace(SAID, incarnation=8, sequence=101))
    watch = watched(armed_again, slot.encode(armed_again), watched(), at=30)
    assert (watch.incarnation, watch.since) == (8, 30.5)
    assert certificate.verdict(watch, 1, read(30.5 + R_S), None, T_N, ME) == Issued(1, 8, R_S, R_S), "the newcomer is watched like any"


def test_while_an_older_life_of_the_same_boot_stands_in_the_slot_nothing_is_counted() -> None:
    older = replace(VICTIM, statement=replace(SAID, incarnation=6, sequence=99))
    watch = watched()
    for at in (10.0, 40.0, 70.0):
        watch = watched(older, slot.encode(older), watch, at=at)
        assert isinstance(certificate.verdict(watch, 1, read(at), None, T_N, ME), str)
    assert (watch.incarnation, watch.since) == (7, 70.5)


def test_a_newcomer_takes_the_place_of_a_predecessor_that_was_never_armed() -> None:
    joining = replace(VICTIM, statement=replace(SAID, phase=Phase.JOINING))
    newborn = replace(VICTIM, statement=replace(SAID, incarnation=8), boot_id=b"b" * 16)
    watch = watched(newborn, slot.encode(newborn), watched(joining, slot.encode(joining)), at=30)
    assert (watch.incarnation, watch.since) == (8, 30.5)


def test_one_whose_word_the_silent_host_would_not_need_does_not_certify_it() -> None:
    """It may live on the word of the others while the disk stands still."""
    alone = replace(VICTIM, required=0b110)
    assert "did not count this host" in str(certificate.verdict(watched(alone, slot.encode(alone)), 1, read(1000), None, T_N, ME))


def test_a_fenced_host_without_vms_is_dead_when_its_last_writes_have_landed_whoever_reads_it() -> None:
    """Row 57."""
    fenced = replace(VICTIM, statement=replace(SAID, phase=Phase.FENCING, sequence=101), stopped=True, required=0)
    watch = watched(fenced, slot.encode(fenced), watched(), at=10)
    assert certificate.confirmed(watch, 1, read(15.4)) is None
    assert certificate.confirmed(watch, 1, read(15.5)) == Issued(1, 7, 5.0, 5.0, Evidence.CONFIRMED)
    assert watched(fenced, slot.encode(fenced), watch, at=12).stopped_at == 10.5, "counted from the first read that showed it"


@pytest.mark.parametrize("changed", [{"stopped": False}, {"statement": replace(SAID, sequence=101)}], ids=["VMs left", "not fenced"])
def test_nothing_but_the_word_of_a_fenced_host_without_vms_shortens_the_wait(changed: dict[str, object]) -> None:
    fenced = replace(VICTIM, statement=replace(SAID, phase=Phase.FENCING, sequence=101), stopped=True)
    seen = replace(fenced, **changed)  # type: ignore[arg-type]
    assert certificate.confirmed(watched(seen, slot.encode(seen)), 1, read(1000)) is None


def test_an_old_write_that_lands_late_starts_the_count_again_and_unsays_nothing() -> None:
    """Row 10: a block from before it was armed, or from before it was disarmed."""
    joining = replace(VICTIM, statement=replace(SAID, phase=Phase.JOINING, sequence=90), watchdog_armed=False)
    watch = watched(joining, slot.encode(joining), watched(), at=30)
    assert (watch.armed, watch.since) == (True, 30.5)
    disarmed = replace(VICTIM, statement=replace(SAID, phase=Phase.DISARMED, sequence=120), watchdog_armed=False)
    watch = watched(VICTIM, BLOCK, watched(disarmed, slot.encode(disarmed), watched(), at=30), at=32)
    assert not watch.armed


def test_copies_of_different_age_that_are_seen_in_turns_are_a_change_only_once() -> None:
    """Several disks: a host that died between two of its writes leaves them behind, and each read takes the majority that answers first."""
    newer = replace(VICTIM, statement=replace(SAID, sequence=101))
    watch = watched(newer, slot.encode(newer), watched(), at=2)
    assert watch.since == 2.5
    for at in range(4, 20, 4):
        watch = watched(before=watch, at=at)
        watch = watched(newer, slot.encode(newer), watch, at=at + 2)
    assert watch.since == 4.5, "the older copy was a change when it first came back, and never again"

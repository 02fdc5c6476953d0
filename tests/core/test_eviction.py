"""When an evicted host is dead: each rule has the case in which it alone forbids the certificate."""

from dataclasses import replace

import pytest

from quorate_core import eviction, slot
from quorate_core.certificate import Judge
from quorate_core.eviction import Alarm, Eviction
from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import FAST, STANDARD

MINE = Slot(bytes(range(16)), bytes(16), Statement("h0", 0, 5, 9, bytes(32), Phase.ARMED), STANDARD.values, True, evictions=((1, 7),))
BLOCK = slot.encode(MINE)
VICTIM = Slot(MINE.pool_id, bytes(16), Statement("h1", 1, 7, 9, bytes(32), Phase.ARMED), STANDARD.values, True, disks_digest=4711)
RECORD = Eviction(1, 7, STANDARD.values, required=0b011, disks_digest=4711)
R_E = 53.0
ME = Judge(0, 4711)


def cycle(at: float, found: bytes = BLOCK, error: str = "") -> Cycle:
    return Cycle(1, at, at + 0.2, at + 0.5, BLOCK, found=found, error=error)


def test_it_counts_from_the_completion_of_the_cycle_that_first_wrote_it() -> None:
    record = eviction.confirm(RECORD, MINE, cycle(100), settled=True)
    assert record.since == 100.5
    assert eviction.confirm(record, MINE, cycle(102), settled=True).since == 100.5
    assert isinstance(eviction.verdict(record, cycle(100.5 + R_E - 0.3), None, 8, ME), str)
    assert eviction.verdict(record, cycle(100.3 + R_E), None, 8, ME) == Issued(1, 7, R_E, R_E, Evidence.EVICTION)


def test_what_was_not_written_does_not_count() -> None:
    assert eviction.confirm(RECORD, replace(MINE, evictions=()), cycle(100), settled=True).since is None
    assert eviction.verdict(RECORD, cycle(1000), None, 8, ME) == "its eviction is not yet on the disk"


@pytest.mark.parametrize(
    "later",
    [
        cycle(102, found=slot.encode(replace(MINE, evictions=()))),
        cycle(102, found=b"torn" * 1024),
        cycle(102, found=b""),
        cycle(102, error="EIO"),
    ],
    ids=["overwritten by an old write", "torn", "nobody looked", "failed"],
)
def test_a_record_that_did_not_stand_there_before_the_next_write_counts_anew(later: Cycle) -> None:
    """Row 12, on the evictor's side."""
    record = eviction.doubt(replace(RECORD, since=100.5), later)
    assert record.since is None
    assert eviction.confirm(record, MINE, cycle(104), settled=True).since == 104.5


def test_a_record_that_stood_there_goes_on_counting() -> None:
    assert eviction.doubt(replace(RECORD, since=100.5), cycle(102)).since == 100.5


def test_it_does_not_count_before_an_older_write_must_have_landed() -> None:
    """Nor from that moment on: the late write may have hidden it on one of the disks that carried it, at which nobody has looked since."""
    assert eviction.confirm(RECORD, MINE, cycle(100), settled=False).since is None
    assert eviction.confirm(RECORD, MINE, cycle(105), settled=True).since == 105.5


def test_the_longest_timing_that_the_victim_has_published_counts() -> None:
    """Row 42."""
    fast = Eviction(1, 7, FAST.values, since=0.0)
    assert eviction.observe(fast, VICTIM, ME).timing == STANDARD.values
    assert eviction.observe(eviction.observe(fast, VICTIM, ME), replace(VICTIM, timing=FAST.values), ME).timing == STANDARD.values
    assert eviction.observe(fast, replace(VICTIM, statement=replace(VICTIM.statement, incarnation=8)), ME).timing == FAST.values


def test_one_that_still_gives_signs_of_life_when_it_should_be_dead_is_an_alarm_and_no_certificate() -> None:
    """Row 46."""
    record = replace(RECORD, since=0.0)
    alarm = eviction.verdict(record, cycle(60), 59.0, 8, ME)
    assert isinstance(alarm, Alarm)
    assert "its watchdog has not reset it" in alarm.why
    assert alarm == eviction.verdict(record, cycle(61), 60.0, 8, ME), "the same alarm is the same sentence, so that it is said once"
    assert isinstance(eviction.verdict(record, cycle(60), 50.0, 8, ME), Issued), "signs from before its end are none"


def test_one_whose_word_the_evicted_host_would_not_need_does_not_certify_it() -> None:
    """It cannot read the record without storage, and may live on the word of the others."""
    record = eviction.observe(replace(RECORD, since=0.0), replace(VICTIM, required=0b110), ME)
    assert "did not count this host" in str(eviction.verdict(record, cycle(1000), None, 8, ME))
    again = eviction.observe(record, replace(VICTIM, required=0b111), ME)
    assert eviction.verdict(again, cycle(1000), None, 8, ME) == "its eviction is not yet on the disk", "it read nothing of ours meanwhile"
    assert isinstance(eviction.verdict(eviction.confirm(again, MINE, cycle(1000), settled=True), cycle(1060), None, 8, ME), Issued)

"""What proves a host's life, and what does not."""

from dataclasses import replace

import pytest

from quorate_core import licence, slot
from quorate_core.licence import Cycle, Evidence, NoEvidence
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Issued, Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL_ID = bytes(range(1, 17))
LIMIT = STANDARD.cycle_limit_seconds
CONFIG = PoolConfig(POOL_ID, (Member(0, "h0"), Member(1, "h1")), STANDARD)
HERE = CONFIG.disks_digest


def slot_of(index: int, incarnation: int = 5, **more: object) -> Slot:
    said = Statement(f"h{index}", index, incarnation, 9, bytes(32), Phase.ARMED)
    return replace(Slot(POOL_ID, bytes(16), said, STANDARD.values, True, disks_digest=HERE), **more)  # type: ignore[arg-type]


MINE = slot.encode(slot_of(0))
GOOD = Cycle(1, 100.0, 100.1, 100.2, MINE, slot.encode_header(POOL_ID), {0: MINE})


def judged(cycle: Cycle, *others: Slot) -> Evidence | NoEvidence:
    return licence.judge(cycle, {s.statement.slot: (s,) for s in others}, CONFIG, 0, 5, LIMIT)


def test_a_whole_cycle_in_time_is_evidence_from_the_moment_before_its_write() -> None:
    proof = judged(GOOD, slot_of(0), slot_of(1))
    assert proof == Evidence(100.0)
    assert isinstance(proof, Evidence)
    assert proof.deadline(STANDARD.licence_seconds) == 120.0


@pytest.mark.parametrize(
    ("cycle", "why"),
    [
        (replace(GOOD, completed_at=100.0 + LIMIT + 0.01), "took"),
        (replace(GOOD, error="input/output error"), "input/output"),
        (replace(GOOD, written=None), "did not write"),
        (replace(GOOD, blocks={0: slot.encode(slot_of(0, incarnation=6))}), "did not come back"),
        (replace(GOOD, blocks={}), "did not come back"),
        (replace(GOOD, header=slot.encode_header(bytes(15) + b"x")), "belongs to pool"),
        (replace(GOOD, header=bytes(slot.BLOCK_BYTES)), "header"),
    ],
    ids=["13 hangs too long", "14/15 I/O error", "read only", "12/36 slot overwritten", "16 slot not there", "39 other pool", "39 wiped"],
)
def test_a_cycle_with_a_doubt_is_no_evidence(cycle: Cycle, why: str) -> None:
    proof = judged(cycle, slot_of(0), slot_of(1))
    assert isinstance(proof, NoEvidence)
    assert why in proof.reason
    assert not proof.condemned


@pytest.mark.parametrize(
    "other",
    [slot_of(1, evictions=((0, 5),)), slot_of(1, certificates=(Issued(0, 5, 59, 59),))],
    ids=["evicted", "certified dead"],
)
def test_a_record_that_condemns_this_incarnation_ends_its_evidence_for_good(other: Slot) -> None:
    proof = judged(GOOD, slot_of(0), other)
    assert isinstance(proof, NoEvidence)
    assert proof.condemned


def test_an_eviction_that_stands_on_other_disks_is_left_of_long_ago_but_the_certified_are_dead_wherever_it_stands() -> None:
    assert judged(GOOD, slot_of(1, disks_digest=HERE + 1, evictions=((0, 5),))) == Evidence(100.0)
    assert isinstance(judged(GOOD, slot_of(1, disks_digest=HERE + 1, certificates=(Issued(0, 5, 59, 59),))), NoEvidence)


def test_a_record_about_a_former_incarnation_does_not_concern_this_one() -> None:
    assert judged(GOOD, slot_of(1, evictions=((0, 4),), certificates=(Issued(0, 4, 59, 59),))) == Evidence(100.0)


def test_a_slot_that_another_incarnation_wrote_between_two_cycles_is_no_evidence() -> None:
    """Row 36: overwritten at once, so the read-back does not show it; but others may have read only the other one."""
    stranger = slot.encode(slot_of(0, incarnation=6))
    proof = judged(replace(GOOD, found=stranger), slot_of(1))
    assert isinstance(proof, NoEvidence)
    assert "incarnation 0000000000000006 wrote this host's own slot" in proof.reason
    assert licence.judge(replace(GOOD, found=stranger), {}, CONFIG, 0, 5, LIMIT, stranger) == Evidence(100.0), "it was claimed over"
    for own in (b"", MINE, bytes(slot.BLOCK_BYTES), b"torn".ljust(slot.BLOCK_BYTES, b"?")):
        assert judged(replace(GOOD, found=own), slot_of(1)) == Evidence(100.0)

"""Several heartbeat disks as one: what a majority carries counts, whatever a minority does. Attacked with random histories."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core import disks, slot
from quorate_core.licence import Cycle, Evidence, NoEvidence, judge
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL, OTHER = bytes(range(1, 17)), bytes(range(2, 18))
ME = 0
CONFIG = PoolConfig(POOL, (Member(0, "a"), Member(1, "b")), STANDARD)


def block(sequence: int, host: str = "a", index: int = ME, incarnation: int = 7, evicts: tuple[tuple[int, int], ...] = ()) -> bytes:
    said = Statement(host, index, incarnation, sequence, bytes(32), Phase.ARMED)
    return slot.encode(Slot(POOL, bytes(16), said, STANDARD.values, True, disks_digest=CONFIG.disks_digest, evictions=evicts))


@dataclass
class Platter:
    """One disk: a header and slots. `state` is well, error, hang, or torn (its own slot does not come back)."""

    header: bytes = field(default_factory=lambda: slot.encode_header(POOL))
    slots: dict[int, bytes] = field(default_factory=lambda: {0: bytes(4096), 1: bytes(4096)})
    state: str = "well"

    def carry(self, number: int, at: float, write: bytes | None) -> Cycle:
        if self.state == "error":
            return Cycle(number, at, at, at + 1, write, error="heartbeat disk: EIO")
        found = self.slots[ME] if write else b""
        ours = self.header == slot.encode_header(POOL)
        if write is not None and ours and self.state != "torn":
            self.slots[ME] = write
        written = write if ours else None
        return Cycle(number, at, at + 0.5, at + 1, written, self.header, dict(self.slots), found=found)


def run(platters: list[Platter], state: disks.Disks, number: int, write: bytes | None, at: float = 0.0) -> tuple[disks.Disks, Cycle | None]:
    """One cycle over all disks that answer."""
    outcome = disks.begin(state, number, ME, write)
    whole = None
    for index in outcome.orders:
        if platters[index].state != "hang":
            after = disks.answered(outcome.disks, index, platters[index].carry(number, at, write))
            outcome, whole = after, whole or after.cycle
    return outcome.disks, whole


def verdict(whole: Cycle | None) -> bool:
    assert whole is not None
    seen = {i: [slot.decode(b) for b in whole.copies(i).values() if any(b)] for i in whole.blocks if i != ME}
    return isinstance(judge(whole, seen, CONFIG, ME, 7, 6), Evidence)


@pytest.mark.parametrize("bad", ["error", "torn", "hang"])
@pytest.mark.parametrize(
    ("count", "lost", "alive"),
    [(1, 0, True), (1, 1, False), (2, 0, True), (2, 1, False), (3, 0, True), (3, 1, True), (3, 2, False), (3, 3, False)],
)
def test_a_cycle_is_evidence_exactly_when_a_majority_of_the_disks_carries_it(bad: str, count: int, lost: int, alive: bool) -> None:
    """Row 54."""
    platters = [Platter(state=bad if i < lost else "well") for i in range(count)]
    _, whole = run(platters, disks.Disks(count), 1, block(1))
    if bad == "hang" and not alive:
        assert whole is None
    else:
        assert verdict(whole) is alive


def test_with_one_disk_a_failed_cycle_says_what_that_disk_said() -> None:
    _, whole = run([Platter(state="error")], disks.Disks(1), 1, block(1))
    assert whole is not None
    assert whole.error == "heartbeat disk: EIO"


def test_disks_of_different_pools_are_no_majority_and_each_is_named() -> None:
    platters = [Platter(), Platter(header=slot.encode_header(OTHER))]
    _, whole = run(platters, disks.Disks(2), 1, block(1))
    assert whole is not None
    assert "no 2 of 2 heartbeat disks carry the same pool" in whole.error
    assert f"disk 2 belongs to pool {OTHER.hex()}" in whole.error


def test_a_foreign_third_disk_is_outvoted_and_reported() -> None:
    foreign = Platter(header=b"a file system".ljust(4096, b"."))
    state, whole = run([Platter(), foreign, Platter()], disks.Disks(3), 1, block(1))
    assert verdict(whole)
    assert "not written by Quorate" in state.problems[1]
    assert foreign.slots[ME] == bytes(4096)


def test_an_eviction_that_lies_on_any_disk_of_the_majority_is_seen() -> None:
    """The evictor wrote it to disks 0 and 1; this host can read 1 and 2 only."""
    old, record = block(5, "b", 1, 9), block(6, "b", 1, 9, evicts=((ME, 7),))
    platters = [Platter(slots={0: bytes(4096), 1: record}, state="error"), Platter(), Platter()]
    platters[1].slots[1], platters[2].slots[1] = record, old
    _, whole = run(platters, disks.Disks(3), 1, block(1))
    assert whole is not None
    assert whole.copies(1) == {1: record, 2: old}
    assert not verdict(whole)


def test_a_stranger_in_the_own_slot_is_found_on_whichever_disk_it_wrote_last() -> None:
    platters = [Platter(), Platter(), Platter()]
    state, _ = run(platters, disks.Disks(3), 1, block(1))
    platters[2].slots[ME] = block(50, incarnation=8)
    platters[1].slots[ME] = block(50, incarnation=8)
    _, whole = run(platters, state, 2, block(2))
    assert whole is not None
    proof = judge(whole, {}, CONFIG, ME, 7, 6, (block(1),))
    assert isinstance(proof, NoEvidence)
    assert "0000000000000008" in proof.reason


def test_a_hung_disk_gets_no_further_order_until_it_answers_and_its_late_answer_is_dropped() -> None:
    platters = [Platter(state="hang"), Platter(), Platter()]
    state, whole = run(platters, disks.Disks(3), 1, block(1))
    assert verdict(whole)
    second = disks.begin(state, 2, ME, block(2))
    assert second.orders == (1, 2)
    state = second.disks
    for index in (1, 2):
        after = disks.answered(state, index, platters[index].carry(2, 2.0, block(2)))
        state = after.disks
    assert after.cycle is not None
    assert state.problems == {0: "it has not answered for a whole cycle"}
    late = disks.answered(state, 0, Platter().carry(1, 0.0, block(1)))
    assert (late.cycle, late.orders, late.disks.problems) == (None, (), {})
    assert disks.begin(late.disks, 3, ME, block(3)).orders == (0, 1, 2)


def test_a_disk_that_comes_back_while_another_hangs_is_given_the_cycle_under_way() -> None:
    """Two of three are well again: the cycle must not wait for the third for ever."""
    platters = [Platter(state="hang"), Platter(), Platter()]
    state, _ = run(platters, disks.Disks(3), 1, block(1))
    platters[2].state = "hang"
    state, whole = run(platters, state, 2, block(2))
    assert whole is None
    back = disks.answered(state, 0, Platter().carry(1, 0.0, block(1)))
    assert back.orders == (0,)
    assert verdict(disks.answered(back.disks, 0, platters[1].carry(2, 2.0, block(2))).cycle)


def test_an_error_is_said_only_once_no_majority_can_come_any_more() -> None:
    state = disks.begin(disks.Disks(3), 1, ME, block(1)).disks
    one = disks.answered(state, 0, Platter(state="error").carry(1, 0.0, block(1)))
    assert one.cycle is None
    two = disks.answered(one.disks, 1, Platter(state="error").carry(1, 0.0, block(1)))
    assert two.cycle is not None
    assert two.cycle.error
    third = disks.answered(two.disks, 2, Platter().carry(1, 0.0, block(1)))
    assert third.cycle is None


def test_empty_disks_are_named_also_by_an_answer_that_came_too_late_to_count() -> None:
    empty = Platter(header=bytes(4096))
    state = disks.begin(disks.Disks(3), 1, ME, None).disks
    for index in (0, 1):
        state = disks.answered(state, index, Platter().carry(1, 0.0, None)).disks
    state = disks.answered(state, 2, empty.carry(1, 0.0, None)).disks
    _, whole = run([Platter(), Platter(), empty], state, 2, block(2))
    assert whole is not None
    assert whole.blank == (2,)


def test_all_disks_empty_read_as_an_empty_disk() -> None:
    _, whole = run([Platter(header=bytes(4096)) for _ in range(3)], disks.Disks(3), 1, None)
    assert whole is not None
    assert (whole.error, slot.is_empty(whole.header)) == ("", True)


STATES = st.lists(st.sampled_from(["well", "well", "error", "torn"]), min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([1, 2, 3]), st.lists(st.tuples(st.sampled_from("we"), STATES), max_size=12))
def test_what_a_majority_has_taken_every_later_majority_gives_back(count: int, history: list[tuple[str, list[str]]]) -> None:
    """Another host writes its slot (w) through its own view of the disks, then this host reads (e): it misses nothing that was carried."""
    platters, carried = [Platter() for _ in range(count)], 0
    theirs = ours = disks.Disks(count)
    for number, (what, states) in enumerate(history, 1):
        for platter, state in zip(platters, states, strict=False):
            platter.state = state
        if what == "w":
            for p in platters:  # through the same machine, with the slots exchanged: the other host's own slot is 1
                p.slots[0], p.slots[1] = p.slots[1], p.slots[0]
            theirs, whole = run(platters, theirs, number, block(number, "b", 1, 9), at=10.0 * number)
            for p in platters:
                p.slots[0], p.slots[1] = p.slots[1], p.slots[0]
            assert whole is not None
            if not whole.error and whole.blocks[ME] == whole.written:
                carried = number
        else:
            ours, whole = run(platters, ours, number, block(number), at=10.0 * number)
            assert whole is not None
            if not whole.error and whole.blocks[ME] == whole.written and carried:
                assert max(slot.decode(b).statement.sequence for b in whole.copies(1).values() if any(b)) >= carried


def test_the_times_of_a_whole_cycle_are_the_least_favourable() -> None:
    state = disks.begin(disks.Disks(3), 1, ME, block(1)).disks
    first = disks.answered(state, 0, replace(Platter().carry(1, 10.0, block(1)), read_issued_at=12.0, completed_at=15.0))
    second = disks.answered(first.disks, 2, replace(Platter().carry(1, 10.0, block(1)), read_issued_at=11.0, completed_at=13.0))
    assert second.cycle is not None
    assert (second.cycle.issued_at, second.cycle.read_issued_at, second.cycle.completed_at) == (10.0, 11.0, 15.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_failed_write_is_told_by_every_cycle_that_its_disk_carries(count: int) -> None:
    """It may still land, over an eviction record on the one disk that its victim and its reader share; nobody would doubt the record."""
    platters = [Platter(state="error"), *(Platter() for _ in range(count - 1))]
    state, whole = run(platters, disks.Disks(count), 1, block(1), at=10.0)
    assert whole is not None
    assert (whole.failed_at, bool(whole.error)) == {1: (11.0, True), 2: (None, True), 3: (None, False)}[count]
    platters[0].state = "well"
    for platter in platters[2:]:
        platter.state = "error"
    state, whole = run(platters, state, 2, block(2), at=12.0)
    assert whole is not None
    assert verdict(whole), "it proves life all the same: whatever lands later is a change"
    assert whole.failed_at == 11.0
    if count == 3:
        platters[0].state, platters[2].state = "error", "well"
        _, whole = run(platters, state, 3, block(3), at=14.0)
        assert whole is not None
        assert whole.failed_at == 13.0, "disk 2 carries it, and has failed at 13"


def test_what_a_disk_says_after_the_decision_is_handed_on_with_the_next_cycle() -> None:
    """Else the first sight of a disk that is always the last would come at any time, and be taken for a sign of life."""
    platters = [Platter(), Platter(), Platter()]
    platters[2].slots[1] = block(9, "b", 1, 9)
    state, whole = run(platters, disks.Disks(3), 1, block(1))
    assert whole is not None
    assert sorted(whole.reads) == [0, 1]
    state, whole = run(platters, state, 2, block(2))
    assert whole is not None
    assert (sorted(whole.reads), whole.copies(1)[2]) == ([0, 1, 2], block(9, "b", 1, 9))
    assert whole.read_issued_at == 0.5, "only those that carry it say when it was read"


def test_a_disk_that_hung_when_the_cycle_began_is_not_waited_for() -> None:
    """One disk hangs for good, another fails for a moment: the next cycle is to begin."""
    platters = [Platter(), Platter(), Platter(state="hang")]
    state, whole = run(platters, disks.Disks(3), 1, block(1))
    assert verdict(whole)
    platters[1].state = "error"
    state, whole = run(platters, state, 2, block(2))
    assert whole is not None
    assert whole.error.endswith("; disk 3 hangs")
    platters[1].state = "well"
    _, whole = run(platters, state, 3, block(3))
    assert verdict(whole)


def test_a_record_that_was_missing_on_one_disk_was_missing() -> None:
    """Before each write the evictor makes sure that its record still stood: on every disk that carries the cycle."""
    record = block(5, evicts=((1, 9),))
    platters = [Platter(), Platter(), Platter()]
    state, _ = run(platters, disks.Disks(3), 1, record)
    platters[1].slots[ME] = block(3)
    _, whole = run(platters, state, 2, block(6, evicts=((1, 9),)))
    assert whole is not None
    assert whole.found == block(3)


def test_another_incarnations_copy_is_told_rather_than_an_older_own_one() -> None:
    platters = [Platter(), Platter()]
    state, _ = run(platters, disks.Disks(2), 1, block(5))
    platters[0].slots[ME], platters[1].slots[ME] = block(50, incarnation=8), block(3)
    _, whole = run(platters, state, 2, block(6))
    assert whole is not None
    assert whole.found == block(50, incarnation=8)


@pytest.mark.parametrize(("count", "unusable", "refused"), [(1, 1, True), (1, 0, False), (3, 1, False), (3, 2, True), (2, 1, True)])
def test_what_will_not_pass_by_itself_is_a_refusal_once_too_few_disks_are_left(count: int, unusable: int, refused: bool) -> None:
    """A disk that is too small stays so; one that fails may come back."""
    begun = disks.begin(disks.Disks(count), 1, ME, None)
    state, whole = begun.disks, None
    for index in begun.orders:
        after = disks.answered(state, index, Cycle(1, 0.0, 0.0, 0.1, None, error="no", refused=index < unusable))
        state, whole = after.disks, whole or after.cycle
    assert whole is not None
    assert (whole.error != "", whole.refused) == (True, refused)

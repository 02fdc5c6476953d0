"""Bugs put into the core on purpose: the simulation finds each of them within a bounded number of schedules. One that does not would prove
nothing when it finds nothing."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorate_core import (
    certificate,
    clique,
    copies,
    cycles,
    eviction,
    heartbeat,
    judgement,
    keeping,
    licence,
    membership,
    numbers,
    partition,
    slot,
)
from quorate_core.heart import Action, Heart, StartCycle
from quorate_core.keeping import Keeping, Mode
from quorate_core.partition import Choice
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot

from . import scenario
from .faults import Event
from .profiles import generate
from .schedule import Schedule, play
from .world import World

SCENARIOS = Path(__file__).parent / "scenarios"


def caught(planted: pytest.MonkeyPatch, profile: str, rule: str, seeds: range) -> bool:
    """Whether one of these schedules finds that with the bug, and nothing at all once the bug is out again."""
    seed = next((seed for seed in seeds if any(f.rule == rule for f in play(generate(seed, profile)).findings)), None)
    planted.undo()
    return seed is not None and play(generate(seed, profile)).findings == []


def test_without_the_eviction_check_a_vm_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = licence.judge

    def careless(cycle: licence.Cycle, slots: Mapping[int, Collection[Slot]], *rest: object) -> licence.Evidence | licence.NoEvidence:
        unread = {index: [replace(one, evictions=()) for one in held] for index, held in slots.items()}
        return honest(cycle, unread, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cycles, "judge", careless)
    assert caught(monkeypatch, "eviction", "double run", range(60))


def test_who_certifies_an_evicted_host_that_was_disarmed_in_time_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes into maintenance in the moment in which it is evicted, and lives on without a licence."""
    disarmed = scenario.load(SCENARIOS / "evicted-while-it-disarms.yaml").schedule
    assert play(disarmed).findings == []
    monkeypatch.setattr(eviction, "escaped", lambda record, seen: False)
    assert "double run" in {finding.rule for finding in play(disarmed).findings}


def test_without_a_round_of_intents_the_wrong_side_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever first sees that not all hear each other evicts at once, before the others have seen the same."""
    honest = partition.choose

    def rash(me: int, seated: Mapping[int, Slot], published: int, stirred: int) -> Choice:
        choice = honest(me, seated, published, stirred)
        lost = tuple(index for index in seated if not choice.intent >> index & 1)
        return Choice(choice.intent, lost) if choice.intent >> me & 1 else choice

    monkeypatch.setattr(partition, "choose", rash)
    assert caught(monkeypatch, "partition", "wrong side", range(5, 6))


def test_without_the_rule_of_one_reconfiguration_at_a_time_links_that_fail_in_turn_take_one_host_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 30."""
    flapping = scenario.load(SCENARIOS / "flapping-above-the-limit.yaml")
    assert scenario.run(flapping).failures == ()
    honest = judgement._decide

    def hasty(heart: Heart, *rest: Any) -> tuple[Heart, tuple[Action, ...]]:
        after, actions = honest(replace(heart, evictions=()), *rest)
        return replace(after, evictions=(*heart.evictions, *after.evictions)), actions

    monkeypatch.setattr(judgement, "_decide", hasty)
    assert any("h2 never evicted" in failure for failure in scenario.run(flapping).failures)


def test_who_judges_as_soon_as_it_has_its_storage_back_evicts_within_r_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 22."""
    back = scenario.load(SCENARIOS / "storage-returns-and-a-link-fails.yaml")
    assert scenario.run(back).failures == ()
    honest = judgement.judge
    monkeypatch.setattr(judgement, "judge", lambda heart, *rest: honest(replace(heart, barred_until=0.0), *rest))
    assert any("h1 never evicted by 35 s" in failure for failure in scenario.run(back).failures)


def test_who_counts_an_eviction_while_an_older_write_may_still_land_certifies_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 14: the evictor's own writes end in EIO."""
    failing = scenario.load(SCENARIOS / "evictor-cannot-write.yaml")
    assert scenario.run(failing).failures == ()
    honest = eviction.confirm
    monkeypatch.setattr(eviction, "confirm", lambda record, written, cycle, *, settled: honest(record, written, cycle, settled=True))
    assert any("h1 is certified (eviction) after 36.5 s" in failure for failure in scenario.run(failing).failures)


def test_who_counts_an_eviction_record_on_although_an_old_write_has_undone_it_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 10, 33 and 56. Either rule would do here alone: to look whether it still stands there, or to wait for older writes."""
    wiped = scenario.load(SCENARIOS / "record-wiped-on-one-disk.yaml").schedule
    assert play(wiped).findings == []
    honest = eviction.confirm
    monkeypatch.setattr(eviction, "confirm", lambda record, written, cycle, *, settled: honest(record, written, cycle, settled=True))
    monkeypatch.setattr(eviction, "doubt", lambda record, cycle: record)
    assert "double run" in {finding.rule for finding in play(wiped).findings}


def test_who_asks_only_those_of_its_newest_slot_while_an_older_one_may_land_over_it_lets_a_vm_run_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows 12, 21 and 25: it lives without the word of a host that it has certified, and that reads in its slot that it is asked."""
    wiped = scenario.load(SCENARIOS / "certificate-wiped.yaml").schedule
    assert play(wiped).findings == []
    start, judge = heartbeat._start_cycle, judgement.judge

    def forgetful(heart: Heart, *rest: Any) -> tuple[Heart, StartCycle]:
        after, order = start(heart, *rest)
        own = after.pending.slot if after.pending is not None else None
        return (after if own is None else replace(after, required=own.required)), order

    def hasty(heart: Heart, config: PoolConfig, member: Member, cycle: licence.Cycle, written: Slot) -> tuple[Heart, tuple[Action, ...]]:
        return judge(replace(heart, required=written.required), config, member, cycle, written)

    monkeypatch.setattr(heartbeat, "_start_cycle", forgetful)
    monkeypatch.setattr(judgement, "judge", hasty)
    assert "double run" in {finding.rule for finding in play(wiped).findings}


def _shared_slot(seed: int) -> set[str]:
    """What is found when two machines boot at once with one slot."""
    world = World(3, seed)
    world.add_twin(0)
    world.engine.run(90)
    return {finding.rule for finding in world.monitor.findings}


def test_who_ignores_a_stranger_in_its_own_slot_is_certified_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 36 and 37: two machines write one slot; those who happen to read only the one count the silence of the other."""
    honest = licence.judge

    def trusting(cycle: licence.Cycle, *rest: Any) -> licence.Evidence | licence.NoEvidence:
        return honest(replace(cycle, found=b""), *rest)

    monkeypatch.setattr(cycles, "judge", trusting)
    seed = next((seed for seed in range(8) if "double run" in _shared_slot(seed)), None)
    monkeypatch.undo()
    assert seed is not None
    assert _shared_slot(seed) == set()


def test_who_takes_another_life_of_the_same_boot_for_a_reset_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is paused and armed again, while one host cannot read."""
    released = scenario.load(SCENARIOS / "released-and-claimed-again.yaml").schedule
    assert play(released).findings == []
    honest = certificate.observe

    def careless(watch: certificate.Watch | None, *rest: object, after_gap: bool) -> certificate.Watch | None:
        return honest(watch and replace(watch, boot_id=b"another"), *rest, after_gap=after_gap)  # type: ignore[arg-type]

    monkeypatch.setattr(certificate, "observe", careless)
    assert "double run" in {finding.rule for finding in play(released).findings}


def test_who_trusts_the_highest_number_among_the_copies_of_several_disks_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write of the pulse before, with a lower number, lies over the present one on the only disk that the survivor shares with it."""
    late = scenario.load(SCENARIOS / "late-write-of-the-pulse-before.yaml").schedule
    assert play(late).findings == []
    honest = licence.Cycle.copies

    def number(block: bytes) -> int:
        read = slot.legible(block)
        return -1 if read is None else read.statement.sequence

    monkeypatch.setattr(licence.Cycle, "copies", lambda cycle, index: {0: max(honest(cycle, index).values(), key=number)})
    assert "double run" in {finding.rule for finding in play(late).findings}


def test_who_takes_absence_on_new_disks_for_silence_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool has got more disks while one armed host could not hear of it."""
    more = scenario.load(SCENARIOS / "more-disks-beside-one-that-is-armed.yaml").schedule
    assert play(more).findings == []
    monkeypatch.setattr(PoolConfig, "disks_digest", property(lambda _: 1))
    assert "double run" in {finding.rule for finding in play(more).findings}


@pytest.mark.parametrize("name", ["disks-exchanged-and-back", "emptied-disks-come-back"])
def test_who_takes_the_same_disks_a_second_time_for_the_first_lets_a_vm_run_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a life of the first time has left on one of them hides what the present one says."""
    again = scenario.load(SCENARIOS / f"{name}.yaml").schedule
    assert play(again).findings == []
    honest = PoolConfig.disks_digest.fget
    assert honest is not None
    monkeypatch.setattr(PoolConfig, "disks_digest", property(lambda config: honest(replace(config, disks_generation=0))))
    assert "double run" in {finding.rule for finding in play(again).findings}


def test_a_pulse_that_forgets_a_longer_licence_than_it_had_published_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = scenario.load(SCENARIOS / "armed-when-a-longer-licence-arrives-and-restarted.yaml").schedule
    assert play(longer).findings == []
    honest = cycles._resume

    def forgetful(heart: Heart, now: float, config: PoolConfig, held: Collection[Slot]) -> Heart:
        mine = next(one for one in held if one.statement.incarnation == heart.incarnation)
        return honest(heart, now, replace(config, timing=replace(config.timing, licence_seconds=mine.timing.licence_seconds)), held)

    monkeypatch.setattr(cycles, "_resume", forgetful)
    assert "double run" in {finding.rule for finding in play(longer).findings}


def test_who_takes_the_life_before_for_the_present_one_of_the_same_boot_certifies_it_while_its_host_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was released, so nothing resets that host; what it has left armed on a disk that it has lost says otherwise."""
    beside = scenario.load(SCENARIOS / "next-life-beside-a-copy-of-the-one-before.yaml").schedule
    assert play(beside).findings == []
    monkeypatch.setattr(membership, "outlived", lambda one, others: False)
    assert "double run" in {finding.rule for finding in play(beside).findings}


def test_who_obeys_the_life_before_of_the_same_boot_is_reset_by_a_record_that_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = scenario.load(SCENARIOS / "dropped-record-on-one-disk-and-its-author-leaves.yaml")
    assert scenario.run(dropped).failures == ()
    honest = copies._surpasses

    def obedient(other: Slot, one: Slot) -> bool:
        return honest(other, one) and (other.statement.incarnation == one.statement.incarnation or other.was_armed)

    monkeypatch.setattr(copies, "_surpasses", obedient)
    assert any("h1 never fencing" in failure for failure in scenario.run(dropped).failures)


def test_a_host_that_arms_again_as_the_life_that_it_gave_back_is_reset_by_the_record_of_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adopter's record is of one that lives."""
    again = scenario.load(SCENARIOS / "excluded-by-the-record-of-a-dead-evictor.yaml")
    assert scenario.run(again).failures == ()
    monkeypatch.setattr(cycles, "_begin_again", lambda heart: replace(heart, spent=False))
    assert any("h1 never fencing" in failure for failure in scenario.run(again).failures)


def test_who_compares_the_numbers_of_lives_on_different_disks_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead life has left on the one disk that was kept hides the eviction record of its next one."""
    exchanged = scenario.load(SCENARIOS / "one-disk-becomes-three.yaml").schedule
    assert play(exchanged).findings == []
    monkeypatch.setattr(copies, "_surpasses", lambda other, one: copies.is_later(other, one) and other.was_armed)
    assert "double run" in {finding.rule for finding in play(exchanged).findings}


def test_who_arms_while_an_older_write_may_still_land_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the armed life is taken away again, and the next one begins below what is left of it."""
    late = scenario.load(SCENARIOS / "late-write-before-arming.yaml").schedule
    assert play(late).findings == []
    honest = heartbeat._toward_arming
    monkeypatch.setattr(heartbeat, "_toward_arming", lambda heart, *rest: honest(replace(heart, settled=True), *rest))
    assert "double run" in {finding.rule for finding in play(late).findings}


def test_a_pulse_that_begins_with_the_numbers_of_the_one_before_costs_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peers take its packets for replayed ones, and evict it."""
    twice = scenario.load(SCENARIOS / "restarted-twice-while-writes-fail.yaml")
    assert scenario.run(twice).failures == ()
    monkeypatch.setattr(numbers, "following", lambda number, now: number + 1)
    assert any("h1 never evicted" in failure for failure in scenario.run(twice).failures)


def test_a_keeper_that_hides_that_its_watchdog_has_failed_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = scenario.load(SCENARIOS / "failed-watchdog.yaml").schedule
    assert play(failed).findings == []
    monkeypatch.setattr(keeping, "_after_pet", lambda state, *_: (state, ()))
    assert "double run" in {finding.rule for finding in play(failed).findings}


def _greedy(neighbours: Mapping[int, int], weights: Mapping[int, int]) -> int:
    """xhad's way: leave out the one with the worst set of those that it hears, again and again, until all that are left hear each other."""
    left = set(neighbours)

    def hears(index: int) -> list[int]:
        return [other for other in left if other == index or neighbours[index] >> other & 1]

    def score(index: int) -> tuple[int, int, int, int]:
        heard = hears(index)
        return sum(weights.get(other, 0) for other in heard), len(heard), -min(heard), -index

    while any(len(hears(index)) < len(left) for index in left):
        left.discard(min(left, key=score))
    return sum(1 << index for index in left)


HEARD = ((0, 2), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3))
"""Who hears whom in the graph in which a greedy choice ends with {0, 2} although {1, 2, 3} hear each other."""


def _unlucky(seed: int) -> Schedule:
    broken = [(a, b) for a in range(5) for b in range(a + 1, 5) if (a, b) not in HEARD]
    cuts = tuple(Event(1.0, "cut", {"from": f"h{a}", "to": f"h{b}", "both": True}) for a, b in broken)
    return Schedule(seed, 5, cuts, seconds=50, demands=("live: h1 h2 h3",))


def test_the_exact_choice_lets_three_hosts_live_where_a_greedy_one_ends_with_two() -> None:
    """Row 29: the five hosts of `HEARD`."""
    assert play(_unlucky(1)).findings == []


def test_a_greedy_choice_lets_two_hosts_live_where_three_could(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _greedy({0: 0b10100, 1: 0b11100, 2: 0b01011, 3: 0b00110, 4: 0b00011}, {}) == 0b00101
    monkeypatch.setattr(clique, "best", _greedy)
    assert any(f.rule == "wrong side" for f in play(_unlucky(1)).findings)
    monkeypatch.undo()
    assert play(_unlucky(1)).findings == []


def _pets_first(state: Keeping, now: float) -> tuple[Keeping, tuple[keeping.Action, ...]]:
    """Acts, then checks."""
    pet: tuple[keeping.Action, ...] = ()
    if state.mode in (Mode.OPEN, Mode.LICENSED) and now >= state.next_pet_at:
        state, pet = replace(state, next_pet_at=now + state.timeout_seconds / 4), (keeping.Pet(),)
    if state.mode is Mode.LICENSED and now > state.deadline:
        return replace(state, mode=Mode.EXPIRED), pet
    return state, pet


def test_a_keeper_that_pets_before_it_checks_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_tick", _pets_first)
    assert caught(monkeypatch, "eviction", "double run", range(30))


def test_a_keeper_that_adopts_a_licence_without_saving_it_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = keeping.step

    def forgetful(state: Keeping, event: keeping.Event) -> tuple[Keeping, tuple[keeping.Action, ...]]:
        after, actions = honest(state, event)
        if after.mode is Mode.LICENSED:
            actions = tuple(a for a in actions if not isinstance(a, keeping.SaveMarker))
        return after, actions

    monkeypatch.setattr(keeping, "step", forgetful)
    assert caught(monkeypatch, "silence", "double run", range(30))


def test_a_keeper_that_opens_the_watchdog_after_its_deadline_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8."""

    def eager(marker: keeping.Marker | None, boot_id: str, now: float) -> tuple[Keeping, str | None]:
        if marker is None or marker.boot_id != boot_id or marker.mode is Mode.CLOSED:
            return Keeping(boot_id), None
        asked = marker.asked_timeout_seconds
        bound = Keeping(boot_id, marker.mode, marker.device, asked, asked, marker.incarnation, marker.deadline)
        return bound, marker.device

    monkeypatch.setattr(keeping, "restore", eager)
    assert caught(monkeypatch, "silence", "double run", range(30))

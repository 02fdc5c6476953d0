"""Bugs put into the core on purpose: the simulation finds each of them within a bounded number of schedules. One that does not would prove
nothing when it finds nothing."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from quorate_core import certificate, clique, copies, cycles, heartbeat, keeping, licence, numbers, slot
from quorate_core.keeping import Keeping, Mode
from quorate_core.pool import PoolConfig
from quorate_core.slot import Slot

from . import scenario
from .faults import Event
from .profiles import generate
from .schedule import Schedule, play


def found(profile: str, rule: str, seeds: range) -> int | None:
    """The first of these schedules that finds that."""
    return next((seed for seed in seeds if any(f.rule == rule for f in play(generate(seed, profile)).findings)), None)


def test_without_the_eviction_check_a_vm_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = licence.judge

    def careless(cycle: licence.Cycle, slots: Mapping[int, Collection[Slot]], *rest: object) -> licence.Evidence | licence.NoEvidence:
        unread = {index: [replace(one, evictions=()) for one in held] for index, held in slots.items()}
        return honest(cycle, unread, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cycles, "judge", careless)
    assert found("eviction", "double run", range(60)) is not None


def test_who_takes_another_life_of_the_same_boot_for_a_reset_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is paused and armed again, while one host cannot read."""
    released = scenario.load(Path(__file__).parent / "scenarios" / "released-and-claimed-again.yaml").schedule
    assert play(released).findings == []
    honest = certificate.observe

    def careless(watch: certificate.Watch | None, *rest: object, after_gap: bool) -> certificate.Watch | None:
        return honest(watch and replace(watch, boot_id=b"another"), *rest, after_gap=after_gap)  # type: ignore[arg-type]

    monkeypatch.setattr(certificate, "observe", careless)
    assert "double run" in {finding.rule for finding in play(released).findings}


def test_who_trusts_the_highest_number_among_the_copies_of_several_disks_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write of the pulse before, with a lower number, lies over the present one on the only disk that the survivor shares with it."""
    late = scenario.load(Path(__file__).parent / "scenarios" / "late-write-of-the-pulse-before.yaml").schedule
    assert play(late).findings == []
    honest = licence.Cycle.copies

    def number(block: bytes) -> int:
        read = slot.legible(block)
        return -1 if read is None else read.statement.sequence

    monkeypatch.setattr(licence.Cycle, "copies", lambda cycle, index: {0: max(honest(cycle, index).values(), key=number)})
    assert "double run" in {finding.rule for finding in play(late).findings}


def test_who_takes_absence_on_new_disks_for_silence_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool has got more disks while one armed host could not hear of it."""
    more = scenario.load(Path(__file__).parent / "scenarios" / "more-disks-beside-one-that-is-armed.yaml").schedule
    assert play(more).findings == []
    monkeypatch.setattr(PoolConfig, "disks_digest", property(lambda _: 1))
    assert "double run" in {finding.rule for finding in play(more).findings}


def test_who_compares_the_numbers_of_lives_on_different_disks_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead life has left on the one disk that was kept hides the eviction record of its next one."""
    exchanged = scenario.load(Path(__file__).parent / "scenarios" / "one-disk-becomes-three.yaml").schedule
    assert play(exchanged).findings == []
    monkeypatch.setattr(copies, "_surpasses", lambda other, one: copies.is_later(other, one) and other.was_armed)
    assert "double run" in {finding.rule for finding in play(exchanged).findings}


def test_who_arms_while_an_older_write_may_still_land_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the armed life is taken away again, and the next one begins below what is left of it."""
    late = scenario.load(Path(__file__).parent / "scenarios" / "late-write-before-arming.yaml").schedule
    assert play(late).findings == []
    honest = heartbeat._toward_arming
    monkeypatch.setattr(heartbeat, "_toward_arming", lambda heart, *rest: honest(replace(heart, settled=True), *rest))
    assert "double run" in {finding.rule for finding in play(late).findings}


def test_a_pulse_that_begins_with_the_numbers_of_the_one_before_costs_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its peers take its packets for replayed ones, and evict it."""
    twice = scenario.load(Path(__file__).parent / "scenarios" / "restarted-twice-while-writes-fail.yaml")
    assert scenario.run(twice).failures == ()
    monkeypatch.setattr(numbers, "following", lambda number, now: number + 1)
    assert any("h1 never evicted" in failure for failure in scenario.run(twice).failures)


def test_a_keeper_that_hides_that_its_watchdog_has_failed_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = scenario.load(Path(__file__).parent / "scenarios" / "failed-watchdog.yaml").schedule
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
    assert found("eviction", "double run", range(30)) is not None


def test_a_keeper_that_adopts_a_licence_without_saving_it_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = keeping.step

    def forgetful(state: Keeping, event: keeping.Event) -> tuple[Keeping, tuple[keeping.Action, ...]]:
        after, actions = honest(state, event)
        if after.mode is Mode.LICENSED:
            actions = tuple(a for a in actions if not isinstance(a, keeping.SaveMarker))
        return after, actions

    monkeypatch.setattr(keeping, "step", forgetful)
    assert found("silence", "double run", range(30)) is not None


def test_a_keeper_that_opens_the_watchdog_after_its_deadline_lets_a_vm_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8."""

    def eager(marker: keeping.Marker | None, boot_id: str, now: float) -> tuple[Keeping, str | None]:
        if marker is None or marker.boot_id != boot_id or marker.mode is Mode.CLOSED:
            return Keeping(boot_id), None
        asked = marker.asked_timeout_seconds
        bound = Keeping(boot_id, marker.mode, marker.device, asked, asked, marker.incarnation, marker.deadline)
        return bound, marker.device

    monkeypatch.setattr(keeping, "restore", eager)
    assert found("silence", "double run", range(30)) is not None

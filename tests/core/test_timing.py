"""Timing: two inputs, and every inequality of the protocol holds for whatever is accepted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate_core import timing
from quorate_core.timing import FAST, STANDARD, Timing


@pytest.mark.parametrize(
    ("inputs", "cycle", "eviction", "silence"),
    [(STANDARD, 6, 53, 59), (FAST, 4, 36, 40), (Timing(6, 2), 2, 21, 23)],
    ids=["Standard", "Fast", "test"],
)
def test_the_profiles_have_the_deadlines_of_the_design(inputs: Timing, cycle: float, eviction: float, silence: float) -> None:
    assert inputs.cycle_limit_seconds == pytest.approx(cycle)
    assert inputs.values.release_after_eviction_seconds == eviction
    assert inputs.values.release_after_silence_seconds == pytest.approx(silence)


@given(st.floats(6, 300), st.floats(2, 120))
def test_every_accepted_pair_satisfies_every_inequality(licence: float, watchdog: float) -> None:
    t = Timing(licence, watchdog)
    assert t.pet_interval_seconds + t.jitter_seconds <= t.watchdog_seconds / 2 + 1e-9
    assert 2 * t.storage_interval_seconds + 2 * t.cycle_limit_seconds <= licence + 1e-9
    assert t.read_gap_limit_seconds <= t.storage_timeout_seconds + 1e-9 < licence + 1e-9
    assert 5 * t.network_interval_seconds <= t.network_timeout_seconds + 1e-9 < licence
    assert t.restart_budget_seconds > 0
    assert t.storageless_after_seconds + 3 * t.network_interval_seconds + t.storage_interval_seconds <= licence + 1e-9
    # The bound covers a pet that lands late and a ping at the last close, on clocks that drift apart.
    worst = licence + timing.KAPPA * (watchdog + timing.WATCHDOG_GRANULARITY_SECONDS)
    assert t.values.release_after_eviction_seconds >= worst + timing.DRAIN_SECONDS


@pytest.mark.parametrize(("licence", "watchdog"), [(5.9, 2), (6, 1.9), (0, 8), (-20, 8), (math.inf, 8), (20, math.nan)])
def test_inputs_that_cannot_work_are_refused_with_their_numbers(licence: float, watchdog: float) -> None:
    with pytest.raises(ValueError, match="timing"):
        Timing(licence, watchdog)


def test_a_watchdog_that_rounds_its_timeout_up_lengthens_the_wait() -> None:
    """Row 45."""
    assert STANDARD.values_with_watchdog(60).release_after_silence_seconds >= 20 + 3 * 61 + 6


def test_the_timeline_names_the_moment_of_the_certificate() -> None:
    assert "59.0 s  R_s" in STANDARD.timeline()

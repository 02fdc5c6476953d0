"""The agent's clock: its rate is the oscillator's, and time asleep counts."""

import time

import pytest

from quorate_agent import clock


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The kernel's clocks, set by hand."""
    values = {time.CLOCK_MONOTONIC: 1000.0, time.CLOCK_MONOTONIC_RAW: 990.0, time.CLOCK_BOOTTIME: 1000.0}
    monkeypatch.setattr(time, "clock_gettime", values.__getitem__)
    monkeypatch.setattr(clock, "_asleep_seconds", 0.0)
    return values


def test_a_clock_that_ntp_slews_does_not_lengthen_a_licence(clocks: dict[int, float]) -> None:
    """chrony's maxslewrate is 83,333 ppm by default; the proof allows 1,000."""
    before = clock.now()
    clocks[time.CLOCK_MONOTONIC_RAW] += 100
    for slewed in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME):
        clocks[slewed] += 100 * (1 - 0.083)
    assert clock.now() - before == 100


def test_time_asleep_counts_once(clocks: dict[int, float]) -> None:
    before = clock.now()
    clocks[time.CLOCK_BOOTTIME] += 600
    assert clock.now() - before == pytest.approx(600)
    assert clock.now() - before == pytest.approx(600)


def test_a_wait_between_two_looks_is_not_time_asleep(clocks: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is paused for a minute after each look at a clock. Nothing is counted that was not slept."""

    def look(which: int) -> float:
        seen = clocks[which]
        for running in clocks:
            clocks[running] += 60
        return seen

    monkeypatch.setattr(time, "clock_gettime", look)
    before, real = clock.now(), clocks[time.CLOCK_MONOTONIC]
    assert clock.now() - before <= clocks[time.CLOCK_MONOTONIC] - real
    assert clock._asleep_seconds == 0


def test_the_kernels_clocks_agree_with_it_here() -> None:
    assert clock.now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), rel=1e-3, abs=5)
    assert clock.now() <= clock.now()

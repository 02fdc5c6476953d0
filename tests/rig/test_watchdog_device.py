"""The real keeper in a guest with an emulated hardware watchdog: the device really opens, really resets, and is never disarmed by accident.

Nightly: three guests boot, each for some 20 seconds.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.guest import Guest, Parts, build, parts
from tests.rig.inside import TIMEOUT_SECONDS

pytestmark = pytest.mark.nightly

_GRANULARITY_SECONDS = 1.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parts, Path]:
    found = parts()
    return found, build(found, tmp_path_factory.mktemp("rig"))


@pytest.fixture
def boot(image: tuple[Parts, Path], tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    guests: list[Guest] = []

    def start(scenario: str, *, nowayout: bool) -> Guest:
        guests.append(Guest(*image, tmp_path, scenario, nowayout=nowayout))
        return guests[-1]

    yield start
    for guest in guests:
        guest.close()


def test_a_real_watchdog_is_petted_under_the_licence_and_resets_the_host_after_it(boot: Callable[..., Guest]) -> None:
    """Rows 2 and 9 on a device: the timeout is what was read back; SIGTERM changes nothing; the reset comes within W of the last pet."""
    guest = boot("licence", nowayout=True)
    assert guest.wait("OPEN")[1] == f"open {TIMEOUT_SECONDS:.1f} i6300ESB timer -"
    guest.wait("PETTED")
    assert not guest.happened("WATCHDOG")
    assert guest.wait("IGNORES-SIGTERM")[1] == "True"
    ended = guest.wait("DEADLINE")[0]
    assert not guest.happened("WATCHDOG"), "the licence had not ended"
    reset = guest.wait_event("WATCHDOG")
    print(f"reset {reset - ended:.1f} s after the licence ended; bound W + g = {TIMEOUT_SECONDS + _GRANULARITY_SECONDS:g} s")
    assert reset - ended < TIMEOUT_SECONDS + _GRANULARITY_SECONDS
    guest.wait_event("SHUTDOWN")  # QEMU was told to end where a machine would boot again


def test_a_killed_keeper_disarms_no_real_watchdog_and_one_that_is_back_in_time_pets_it_on(boot: Callable[..., Guest]) -> None:
    """Rows 5, 6 and 45 on a device that could be stopped: only the magic close stops it, and a killed process writes none."""
    guest = boot("killed", nowayout=False)
    guest.wait("OPEN open")
    assert guest.wait("REOPENED")[1] == f"licensed {TIMEOUT_SECONDS:.1f} i6300ESB timer"
    guest.wait("PETTED")
    assert not guest.happened("WATCHDOG")
    killed = guest.wait("KILLED")[0]
    reset = guest.wait_event("WATCHDOG")
    print(f"reset {reset - killed:.1f} s after the kill; bound W + g = {TIMEOUT_SECONDS + _GRANULARITY_SECONDS:g} s")
    assert reset - killed < TIMEOUT_SECONDS + _GRANULARITY_SECONDS


def test_a_keeper_without_a_licence_stops_a_real_watchdog_that_can_be_stopped_and_refuses_a_busy_one(boot: Callable[..., Guest]) -> None:
    """Row 44 on a device."""
    guest = boot("disarmed", nowayout=False)
    guest.wait("OPEN open")
    assert guest.wait("ENDED")[1] == "0"
    guest.wait("ALIVE")
    assert "held by another program" in guest.wait("BUSY")[1]
    assert not guest.happened("WATCHDOG")

"""The keeper's shell: what it does to the device and to the clock on the way of a restart or a suspend."""

import array
import errno
import fcntl
import json
import select
import time
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import wire
from quorate_agent.clock import now
from quorate_agent.keeper import __main__ as keepers
from quorate_agent.keeper import watchdog
from quorate_agent.pulse.links import KeeperLink
from quorate_agent.voice import Voice
from quorate_core import keeping
from quorate_core.keeping import Mode


class Dog:
    """A watchdog that counts its pets."""

    identity, timeout_seconds = "dog", 8.0

    def __init__(self) -> None:
        self.pets = 0

    def pet(self) -> None:
        self.pets += 1

    def disarm(self) -> bool:
        return False

    def fileno(self) -> int:
        return -1


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leave_marker(folder: Path, device: str, deadline: float) -> None:
    fields: dict[str, Any] = {
        "version": wire.VERSION, "boot_id": "boot", "device": device, "mode": "licensed", "incarnation": "0" * 15 + "5",
        "deadline": deadline, "asked_timeout_seconds": 8.0,
    }  # fmt: skip
    (folder / wire.MARKER_FILE).write_text(json.dumps(fields))


def test_a_restarted_keeper_under_licence_never_stops_a_watchdog_that_fails_to_answer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ioctl fails once while the device is opened again. 'V' and close is how a watchdog is disarmed."""
    device = here / "watchdog"
    device.touch()
    leave_marker(here, str(device), time.monotonic() + 20)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(fcntl, "ioctl", broken)
    keeper = keepers.Keeper(here, "boot", Voice("test"))
    assert keeper._state.mode is Mode.EXPIRED
    assert b"V" not in device.read_bytes(), "the dog of an armed host was stopped: it is certified dead and runs on for ever"


def ioctls_on(device: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answers for a device of 8 s that has a magic close; the numbers of the ioctls that it is asked."""
    asked: list[int] = []

    def answer(_: int, number: int, value: Any, *__: object) -> int:
        asked.append(number)
        if number == watchdog._WDIOC_GETSUPPORT:
            value[0:4] = array.array("B", (watchdog._WDIOF_SETTIMEOUT | watchdog._WDIOF_MAGICCLOSE).to_bytes(4, "little"))
        else:
            value[0] = 8
        return 0

    device.touch()
    monkeypatch.setattr(fcntl, "ioctl", answer)
    return asked


def test_a_watchdog_that_runs_already_is_asked_for_its_timeout_and_not_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WDIOC_SETTIMEOUT pings in the kernel: one more period that no licence has allowed."""
    asked = ioctls_on(here / "watchdog", monkeypatch)
    leave_marker(here, str(here / "watchdog"), now() + 20)
    keeper = keepers.Keeper(here, "boot", Voice("test"))
    assert (keeper._state.mode, keeper._state.timeout_seconds) == (Mode.LICENSED, 8.0)
    assert watchdog._WDIOC_SETTIMEOUT not in asked


def test_a_watchdog_that_was_just_started_and_does_not_answer_is_stopped_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = here / "watchdog"
    device.touch()

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(fcntl, "ioctl", broken)
    with pytest.raises(watchdog.NoWatchdog):
        watchdog.open_watchdog(str(device), 8.0, False)
    assert device.read_bytes() == b"V"


def test_the_time_that_a_host_was_suspended_counts_against_its_licence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC stands still while a host is suspended; the survivors' clocks do not. Ten minutes pass here.

    The keeper's own loop takes the time, one turn at each look at its sockets.
    """
    clocks = {time.CLOCK_MONOTONIC: time.monotonic(), time.CLOCK_BOOTTIME: time.clock_gettime(time.CLOCK_BOOTTIME)}
    real = time.clock_gettime
    monkeypatch.setattr(time, "monotonic", lambda: clocks[time.CLOCK_MONOTONIC])
    monkeypatch.setattr(time, "clock_gettime", lambda which: clocks.get(which) or real(which))
    dog = Dog()
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)

    def stop(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(select, "select", stop)

    def turn(keeper: keepers.Keeper) -> None:
        with pytest.raises(InterruptedError):
            keeper.run()

    # Whichever of the two clocks the keeper goes by, the licence has 20 s left: a deadline far off on the other clock is tried too.
    pets_after_suspend = []
    for deadline in {clock + 20 for clock in clocks.values()}:
        folder = here / f"{deadline:.0f}"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        leave_marker(folder, "dog", deadline)
        keeper = keepers.Keeper(folder, "boot", Voice("test"))
        turn(keeper)
        if keeper._state.mode is not Mode.LICENSED or abs(keeper._state.next_pet_at - deadline) > 30:
            continue
        before = dog.pets
        clocks[time.CLOCK_MONOTONIC] += 3
        clocks[time.CLOCK_BOOTTIME] += 603
        turn(keeper)
        pets_after_suspend.append(dog.pets - before)
        break
    assert pets_after_suspend == [0], "petted ten minutes after the licence had ended on every other host's clock"


def test_a_second_keeper_on_one_host_does_not_start(here: Path) -> None:
    """Both would pass the check before the deadline, pause, and ping one after the other: kappa = 3 counts the pings of one keeper."""
    first = keepers.Keeper(here, "boot", Voice("first"))
    socket = (here / wire.KEEPER_SOCKET).stat().st_ino
    with pytest.raises((OSError, wire.BadMessage, watchdog.NoWatchdog)):
        keepers.Keeper(here, "boot", Voice("second"))
    assert (here / wire.KEEPER_SOCKET).stat().st_ino == socket
    assert first is not None


@pytest.mark.parametrize("stoppable", [True, False])
def test_a_watchdog_whose_marker_cannot_be_saved_does_not_reset_a_host_that_never_armed(
    here: Path, monkeypatch: pytest.MonkeyPatch, stoppable: bool
) -> None:
    """tmpfs full: either it is stopped again, or it is petted."""
    dog = Dog()
    monkeypatch.setattr(dog, "disarm", lambda: stoppable)
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keepers.markers, "save", full)
    keeper = keepers.Keeper(here, "boot", Voice("test"))
    keeper._open("dog", 8.0)
    keeper._step(keeping.Tick(now() + 1))
    if stoppable:
        assert (keeper._dog, keeper._state.mode) == (None, Mode.CLOSED)
        assert "cannot be saved" in keeper._problem
    else:
        assert keeper._state.mode is Mode.OPEN
        assert dog.pets > 0
    keeper._step(keeping.DeadlineGiven(now(), "5", now() + 20))
    assert keeper._state.mode is not Mode.LICENSED


def test_the_keeper_tells_pulse_how_late_its_pets_came(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dog = Dog()
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)
    keeper, link = keepers.Keeper(here, "boot", Voice("test")), KeeperLink()
    keeper._open("dog", 8.0)
    link.connect(now())
    keeper._accept()
    for _ in range(3):
        keeper._step(keeping.Tick(keeper._state.next_pet_at))
    keeper._tell()
    said, lost = link.hear()
    assert (said[-1].mode, lost) == (Mode.OPEN, False)
    assert sum(link.lateness["counts"]) == dog.pets == 3

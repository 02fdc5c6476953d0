"""The keeper's shell: what it does to the device and to the clock on the way of a restart or a suspend."""

import array
import errno
import fcntl
import json
import os
import select
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorate_agent import clock, wire
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

    def let_go(self) -> None:
        pass


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Licensed:
    """A keeper with that watchdog under a licence until then. It begins at 100.0; `pass_time` moves the clock and lets it act."""

    def __init__(self, folder: Path, dog: Dog, deadline: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 100.0
        monkeypatch.setattr(keepers.clock, "now", lambda: self._now)
        monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)
        self.keeper = keepers.Keeper(folder, "boot", Voice("test"))
        self.keeper._obey({"kind": "open", "device": "dog", "timeoutSeconds": 8})
        self.keeper._step(keeping.DeadlineGiven(self._now, "a", deadline))

    def pass_time(self, seconds: float) -> keeping.Keeping:
        self._now += seconds
        self.keeper._step(keeping.Tick(self._now))
        return self.keeper._state


def leave_marker(folder: Path, device: str, deadline: float) -> None:
    fields: dict[str, Any] = {
        "version": wire.VERSION, "boot_id": "boot", "device": device, "mode": "licensed", "incarnation": "0" * 15 + "5",
        "deadline": deadline, "asked_timeout_seconds": 8.0,
    }  # fmt: skip
    (folder / wire.MARKER_FILE).write_text(json.dumps(fields))


@pytest.mark.usefixtures("files_as_devices")
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


@pytest.fixture
def files_as_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular file stands for the device."""
    monkeypatch.setattr(stat, "S_ISCHR", lambda _: True)


def ioctls_on(
    device: Path, monkeypatch: pytest.MonkeyPatch, *, options: int = watchdog._WDIOF_SETTIMEOUT | watchdog._WDIOF_MAGICCLOSE
) -> list[int]:
    """Answers for a device of 8 s, one that has a magic close unless `options` are others; the numbers of the ioctls that it is asked."""
    asked: list[int] = []

    def answer(_: int, number: int, value: Any, *__: object) -> int:
        asked.append(number)
        if number == watchdog._WDIOC_GETSUPPORT:
            value[0:4] = array.array("B", options.to_bytes(4, "little"))
        else:
            value[0] = 8
        return 0

    device.touch()
    monkeypatch.setattr(fcntl, "ioctl", answer)
    return asked


@pytest.mark.usefixtures("files_as_devices")
def test_a_watchdog_that_runs_already_is_asked_for_its_timeout_and_not_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WDIOC_SETTIMEOUT pings in the kernel: one more period that no licence has allowed."""
    asked = ioctls_on(here / "watchdog", monkeypatch)
    leave_marker(here, str(here / "watchdog"), now() + 20)
    keeper = keepers.Keeper(here, "boot", Voice("test"))
    assert (keeper._state.mode, keeper._state.timeout_seconds) == (Mode.LICENSED, 8.0)
    assert watchdog._WDIOC_SETTIMEOUT not in asked


@pytest.mark.usefixtures("files_as_devices")
@pytest.mark.parametrize(
    ("refused", "says", "written"),
    [
        (watchdog._WDIOC_GETSUPPORT, "does not answer as a watchdog: Invalid argument", b""),
        (watchdog._WDIOC_SETTIMEOUT, "refuses a timeout of 120 s: Invalid argument", b"V"),
        (watchdog._WDIOC_GETTIMEOUT, "does not answer as a watchdog: Invalid argument", b"V"),
    ],
)
def test_a_watchdog_that_was_just_started_and_does_not_answer_is_stopped_again_and_nothing_else_is_written_to(
    here: Path, monkeypatch: pytest.MonkeyPatch, refused: int, says: str, written: bytes
) -> None:
    """What does not answer at all is no watchdog: a `V` would be written into somebody's data."""
    asked, device = ioctls_on(here / "watchdog", monkeypatch), here / "watchdog"
    answer = fcntl.ioctl

    def refuse(fd: int, number: int, *rest: Any) -> Any:
        if number == refused:
            raise OSError(errno.EINVAL, "Invalid argument")
        return answer(fd, number, *rest)

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(watchdog.NoWatchdog, match=says):
        watchdog.open_watchdog(str(device), 120, False)
    assert device.read_bytes() == written
    assert (watchdog._WDIOC_GETSUPPORT in asked) == (written == b"V")


def test_a_path_that_is_no_character_device_is_refused_and_not_touched(here: Path) -> None:
    """The heartbeat disk, say: one byte of its header would be lost on every host."""
    disk, pipe = here / "disk", here / "pipe"
    disk.write_bytes(b"QUORDISK")
    os.mkfifo(pipe)
    for path in (disk, pipe, here):
        with pytest.raises(watchdog.NoWatchdog, match="not a character device"):
            watchdog.open_watchdog(str(path), 8.0, False)
    assert disk.read_bytes() == b"QUORDISK"


@pytest.mark.usefixtures("files_as_devices")
@pytest.mark.parametrize(("nowayout", "stops"), [(False, True), (True, False), (None, False)])
def test_a_watchdog_is_stopped_only_where_the_kernel_says_that_it_can_be(
    here: Path, monkeypatch: pytest.MonkeyPatch, nowayout: bool | None, stops: bool
) -> None:
    """Where it does not say, a stopped watchdog might be one that nobody pets any more."""
    ioctls_on(here / "watchdog", monkeypatch)
    monkeypatch.setattr(watchdog, "_nowayout", lambda _: nowayout)
    assert watchdog.open_watchdog(str(here / "watchdog"), 8.0, False).disarm() is stops
    assert ((here / "watchdog").read_bytes() == b"V") is stops


@pytest.mark.usefixtures("files_as_devices")
@pytest.mark.parametrize("nowayout", [False, None])
def test_a_watchdog_that_stops_whenever_it_is_closed_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch, nowayout: bool | None) -> None:
    """Row 45: without a magic close a keeper that is killed disarms its host, which others then certify dead."""
    ioctls_on(here / "watchdog", monkeypatch, options=watchdog._WDIOF_SETTIMEOUT)
    monkeypatch.setattr(watchdog, "_nowayout", lambda _: nowayout)
    with pytest.raises(
        watchdog.NoWatchdog, match=r"stops whenever it is closed \(no magic close, nowayout is off\); a crash would disarm it"
    ):
        watchdog.open_watchdog(str(here / "watchdog"), 8.0, False)
    monkeypatch.setattr(watchdog, "_nowayout", lambda _: True)
    assert watchdog.open_watchdog(str(here / "watchdog"), 8.0, False).timeout_seconds == 8


@pytest.mark.usefixtures("files_as_devices")
def test_a_watchdog_device_that_another_program_holds_is_refused_and_never_shared(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 44: the kernel lets one program open it."""
    asked, real = ioctls_on(here / "watchdog", monkeypatch), os.open

    def held(path: Any, *rest: Any, **options: Any) -> int:
        if str(path) == str(here / "watchdog"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", held)
    with pytest.raises(watchdog.NoWatchdog, match=r"is held by another program \(systemd's RuntimeWatchdogSec, .*it is never shared"):
        watchdog.open_watchdog(str(here / "watchdog"), 8.0, False)
    assert not asked


class FailedDog(Dog):
    """A watchdog that takes no pet any more, and does not bite either."""

    def pet(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_a_watchdog_that_takes_no_pets_and_does_not_bite_is_reported_and_then_let_go(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that nothing would reset must not go on as armed."""
    licensed = Licensed(here, FailedDog(), 1e9, monkeypatch)
    seen = {passed: licensed.pass_time(2 if passed else 0) for passed in range(0, 24, 2)}
    assert all((not state.problem) == (passed <= 9) for passed, state in seen.items()), "W + g, within which one that runs has bitten"
    assert {state.mode for state in seen.values()} == {Mode.LICENSED}, "pulse publishes first that nobody may rely on it"
    licensed.keeper._step(keeping.Released(124.0, "a"))
    after = licensed.pass_time(2)
    assert (after.mode, licensed.keeper._dog) == (Mode.CLOSED, None)
    assert "has not reset this host" in after.problem


class StoppableDog(Dog):
    """A watchdog without nowayout: a magic close would stop it."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False

    def disarm(self) -> bool:
        self.stopped = True
        return True


@pytest.mark.parametrize(("until", "mode"), [(1e9, Mode.LICENSED), (101.0, Mode.EXPIRED)])
def test_sigterm_never_stops_the_watchdog_of_an_armed_host_even_one_that_could_be_stopped(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], until: float, mode: Mode
) -> None:
    """Row 9. Others certify this host by its watchdog: stopped under a licence it would be certified dead and run on for ever."""
    dog = StoppableDog()
    licensed = Licensed(here, dog, until, monkeypatch)
    assert licensed.pass_time(2).mode is mode

    def next_turn(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(keepers, "select", SimpleNamespace(select=next_turn))  # the log has its own
    licensed.keeper.stop_asked = True  # all that the handler of the signal does
    with pytest.raises(InterruptedError):
        licensed.keeper.run()
    assert not dog.stopped
    assert f"SIGTERM ignored: the watchdog runs ({mode})" in capfd.readouterr().err


def test_sigterm_stops_a_watchdog_that_nobody_relies_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dog = StoppableDog()
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)
    keeper = keepers.Keeper(here, "boot", Voice("test"))
    keeper._open("dog", 8.0)
    keeper.stop_asked = True
    keeper.run()
    assert dog.stopped


def test_a_keeper_whose_licence_has_ended_does_not_spin(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its watchdog is still open, and the next pet long due."""
    licensed = Licensed(here, Dog(), 101.0, monkeypatch)
    assert licensed.pass_time(10).mode is Mode.EXPIRED
    assert licensed.keeper._sleep() > 0


def test_the_time_that_a_host_was_suspended_counts_against_its_licence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_MONOTONIC stands still while a host is suspended; the survivors' clocks do not. Ten minutes pass here.

    The keeper's own loop takes the time, one turn at each look at its sockets.
    """
    clocks = {which: time.clock_gettime(which) for which in (time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME)}
    real = time.clock_gettime
    monkeypatch.setattr(time, "monotonic", lambda: clocks[time.CLOCK_MONOTONIC])
    monkeypatch.setattr(clock, "_asleep_seconds", 0.0)
    monkeypatch.setattr(time, "clock_gettime", lambda which: clocks.get(which) or real(which))
    dog = Dog()
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)

    def stop(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(select, "select", stop)

    def turn(keeper: keepers.Keeper) -> None:
        with pytest.raises(InterruptedError):
            keeper.run()

    # Whichever of the clocks the keeper goes by, the licence has 20 s left: a deadline far off on another clock is tried too.
    pets_after_suspend = []
    for deadline in {reading + 20 for reading in clocks.values()}:
        folder = here / f"{deadline:.0f}"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        leave_marker(folder, "dog", deadline)
        keeper = keepers.Keeper(folder, "boot", Voice("test"))
        turn(keeper)
        if keeper._state.mode is not Mode.LICENSED or abs(keeper._state.next_pet_at - deadline) > 30:
            continue
        before = dog.pets
        assert before, "it pets while it is awake"
        clocks[time.CLOCK_MONOTONIC] += 3  # a pet is due after two
        clocks[time.CLOCK_MONOTONIC_RAW] += 3
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


def test_the_keeper_tells_pulse_how_late_its_pets_came_and_how_many_lines_its_log_lost(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dog = Dog()
    monkeypatch.setattr(keepers, "open_watchdog", lambda *_: dog)
    keeper, link = keepers.Keeper(here, "boot", Voice("test")), KeeperLink()
    keeper._open("dog", 8.0)
    link.connect(now())
    keeper._accept()
    for _ in range(3):
        keeper._step(keeping.Tick(keeper._state.next_pet_at))
    keeper._voice.dropped = 2
    keeper._tell()
    said, lost = link.hear()
    assert (said[-1].mode, lost) == (Mode.OPEN, False)
    assert sum(link.lateness["counts"]) == dog.pets == 3
    assert link.lines_lost == 2

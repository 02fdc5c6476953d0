"""The development watchdog's line protocol, as the agent's keeper speaks it."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate_local import runs, watchdog

CLIENT = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw", newline="\\n")
print(f.readline() or "nothing\\n", end="", flush=True)
for line in sys.stdin:
    if line == "close\\n": s.shutdown(socket.SHUT_RDWR); f.close(); s.close(); print("closed", flush=True); continue
    f.write(line); f.flush()
    if line.startswith("settimeout"): print(f.readline(), end="", flush=True)
"""


class Host:
    """A process that carries a host's mark and speaks to the watchdog."""

    def __init__(self, path: Path, name: str, run: str = "run") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, runs.HOST_MARK: f"{run}.{name}"},
        )
        self.greeting = self.hear()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def reset() -> list[str]:
    """Hosts that were reset."""
    return []


@pytest.fixture
def device(tmp_path: Path, reset: list[str]) -> Iterator[watchdog.Watchdog]:
    """A running watchdog."""
    device = watchdog.Watchdog("run", tmp_path / "watchdog", reset.append)
    device.start()
    yield device
    device.stop()


def until(holds: Callable[[], object], seconds: float = 20) -> bool:
    """Poll."""
    waiter = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if holds():
            return True
        waiter.wait(0.05)
    return False


def test_a_host_that_is_not_petted_is_reset_and_a_petted_one_is_not(device: watchdog.Watchdog, reset: list[str]) -> None:
    silent, lively = Host(device.path, "silent"), Host(device.path, "lively")
    assert "silent" in silent.greeting
    for host in (silent, lively):
        host.say("settimeout 3")
        assert host.hear() == "timeout 3"
    stop = threading.Event()

    def pet() -> None:
        while not stop.wait(0.2):
            lively.say("pet")

    thread = threading.Thread(target=pet)
    thread.start()
    assert until(lambda: reset)
    assert reset == ["silent"]
    stop.set()
    thread.join()
    silent.end()
    lively.end()


def test_a_second_open_connection_of_a_host_is_refused(device: watchdog.Watchdog) -> None:
    first = Host(device.path, "h1")
    second = Host(device.path, "h1")
    assert second.greeting == "busy"
    other = Host(device.path, "h2")
    assert other.greeting.startswith("identity")
    other.end()
    first.end()
    second.end()


def test_closing_never_disarms(device: watchdog.Watchdog, reset: list[str]) -> None:
    host = Host(device.path, "h1")
    host.say("settimeout 1")
    assert host.hear() == "timeout 1"
    host.say("close")
    assert host.hear() == "closed"
    assert until(lambda: reset == ["h1"])
    host.end()


def test_the_timeout_that_was_really_set_is_answered(device: watchdog.Watchdog) -> None:
    host = Host(device.path, "h1")
    host.say("settimeout 0.01")
    assert host.hear() == f"timeout {watchdog.LEAST_SECONDS}"
    host.end()


def test_a_process_of_no_host_of_this_run_cannot_pet(device: watchdog.Watchdog) -> None:
    stranger = Host(device.path, "h1", run="another")
    assert stranger.greeting == "nothing"
    stranger.end()
    with socket.socket(socket.AF_UNIX) as unmarked:
        unmarked.connect(str(device.path))
        unmarked.settimeout(20)
        assert unmarked.recv(100) == b""

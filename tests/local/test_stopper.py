"""The development stopper: 0 is said only when no VM is left and none can start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate_local import runs, stopper

ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()); print(s.recv(999).decode())
"""


class Machine:
    """Processes that start VMs, and VMs."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        self.processes.append(subprocess.Popen(["sleep", "60"]))
        return self.processes[-1].pid

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine; nothing of it is left afterwards."""
    found = Machine()
    yield found
    found.end()


def lives(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_starts_vms_is_frozen_and_every_vm_is_killed(machine: Machine) -> None:
    kubelet, vms = machine.run(), [machine.run(), machine.run()]
    end = time.monotonic() + 20
    while (answer := stopper.stop_vms(lambda: [kubelet], lambda: [v for v in vms if lives(v)])) != "left 0":
        assert answer.startswith("left ")
        assert time.monotonic() < end
    assert [v for v in vms if lives(v)] == []
    assert Path(f"/proc/{kubelet}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert stopper.stop_vms(lambda: [kubelet], list) == "left 0"
    assert stopper.resume(lambda: [kubelet]) == "resumed"
    assert Path(f"/proc/{kubelet}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def test_a_vm_that_does_not_die_is_counted(machine: Machine) -> None:
    kubelet, immortal = machine.run(), machine.run()
    assert stopper.stop_vms(lambda: [kubelet], lambda: [immortal]) == "left 1"


def test_nothing_is_claimed_while_what_starts_vms_is_absent(machine: Machine) -> None:
    vm = machine.run()
    assert stopper.stop_vms(list, lambda: [vm]).startswith("doubt ")
    assert lives(vm)


def test_a_starter_that_has_just_died_counts_as_one_that_may_come_back(machine: Machine) -> None:
    kubelet = machine.run()
    os.kill(kubelet, signal.SIGKILL)
    machine.processes[0].wait()
    assert stopper.stop_vms(lambda: [kubelet], list) == "left 1"


@pytest.fixture
def asked() -> list[str]:
    """Hosts and what they asked."""
    return []


@pytest.fixture
def ask(tmp_path: Path, asked: list[str]) -> Iterator[Callable[[str, str], str]]:
    """Ask as a process that carries a mark."""

    def answer(host: str, question: str) -> str:
        asked.append(f"{host} {question}")
        return "left 3"

    served = stopper.Stopper("run", tmp_path / "stopper", answer)
    served.start()

    def question(mark: str, text: str) -> str:
        environment = {**os.environ, runs.HOST_MARK: mark}
        command = [sys.executable, "-c", ASK, served.path, text]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    yield question
    served.stop()


def test_a_host_stops_its_own_vms_and_no_others(ask: Callable[[str, str], str], asked: list[str]) -> None:
    assert ask("run.h1", "stop\n") == "left 3"
    assert asked == ["h1 stop"]
    assert ask("another.h1", "stop\n").startswith("doubt ")
    assert ask("run.h1", "stopp\n").startswith("doubt ")
    assert asked == ["h1 stop"]


def test_somebody_who_connects_and_says_nothing_does_not_keep_the_others_waiting_for_ever(
    ask: Callable[[str, str], str], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "stopper"))
        assert ask("run.h2", "stop\n") == "left 3"

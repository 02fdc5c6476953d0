"""Runs, processes and ports: nothing outlives its owner."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quorate_local import processes, runs
from quorate_local.problem import Problem


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Problem, match=r"port \d+ .* choose another"):
        processes.claim_port(taken.getsockname()[1])
    assert processes.claim_port(None) > 0


OWNER = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from quorate_local import processes, runs
run = runs.claim()
procs = processes.Processes(run)
first = procs.start("sleeper", ["sleep", "300"])
# A grandchild that the kernel does not tie to us: only its mark gives it away.
procs.start("parent", ["sh", "-c", "setsid sleep 301 & wait"])
while len(runs.marked(runs.MARK, run.name)) < 3: pass
print(run.folder, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_run_left_is_cleared_by_the_next(home: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    assert runs.alive() == [folder]
    second = runs.claim()
    assert folder.is_dir(), "a run that has an owner is left alone"
    second.give_up()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    runs.clear_dead()
    assert not folder.exists()
    assert runs.marked(runs.MARK, folder.name) == []


def test_processes_die_with_their_owner(home: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    sleeper = next(pid for pid in runs.marked(runs.MARK, folder.name) if b"300" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    descriptor = os.pidfd_open(sleeper)
    owner.kill()
    owner.wait()
    assert select.select([descriptor], [], [], 20)[0], "the kernel did not kill it"
    os.close(descriptor)
    runs.clear_dead()


def test_a_process_that_ends_early_is_named_with_its_last_words() -> None:
    run = runs.claim()
    procs = processes.Processes(run)
    procs.start("etcd", ["sh", "-c", "echo the disk is full >&2; exit 3"])
    with pytest.raises(Problem, match=r"etcd has ended before it was ready.*the disk is full"):
        procs.wait_until(lambda: False, "it was ready", needs=("etcd",), deadline_seconds=20)
    run.give_up()
    assert not run.folder.exists()

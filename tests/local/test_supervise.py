"""A supervised program comes back when it ends, and goes with its supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(600)"


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_dies_is_started_again_and_dies_with_its_supervisor(tmp_path: Path) -> None:
    log = tmp_path / "pids"
    log.touch()
    supervisor = subprocess.Popen([sys.executable, "-m", "quorate_local.supervise", sys.executable, "-c", PROGRAM, str(log)])
    try:
        assert eventually(lambda: len(log.read_text().splitlines()) == 1)
        os.kill(int(log.read_text()), signal.SIGKILL)
        assert eventually(lambda: len(log.read_text().splitlines()) == 2)
    finally:
        supervisor.kill()
        supervisor.wait()
    last = int(log.read_text().splitlines()[-1])
    assert eventually(lambda: not alive(last))

"""What a host of the local pool runs from power-on to power-off: its init process.

Boot: empty the run folder (a host's tmpfs does not survive), write a fresh boot id, wait for the network, start the programs.
Then start again whatever crashes, as a kubelet would, and reap what is orphaned. Killing this process is cutting the power:
in a PID namespace of its own the kernel takes everything else with it. Standard library only: each host has one.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

RESTART_DELAY_SECONDS = 1.0


def main() -> None:
    """`machine.py CONFIG`; a line on standard input says that the network is there."""
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    run_dir = Path(config["runDir"])
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    Path(config["bootIdFile"]).write_text(f"{uuid.uuid4()}\n")
    sys.stdin.readline()
    _keep_running(config["programs"], Path(config["logs"]))


def _keep_running(programs: list[dict[str, Any]], logs: Path) -> None:
    running: dict[str, subprocess.Popen[bytes]] = {}
    not_before: dict[str, float] = {}
    while True:
        for program in programs:
            name = program["name"]
            ready = all(Path(path).exists() for path in program.get("needs", []))
            if name not in running and ready and time.monotonic() >= not_before.get(name, 0):
                running[name] = _start(program, logs)
        _reap(running, not_before)
        time.sleep(0.1)


def _start(program: dict[str, Any], logs: Path) -> subprocess.Popen[bytes]:
    with (logs / f"{program['log']}.log").open("ab") as log:
        return subprocess.Popen(program["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _reap(running: dict[str, subprocess.Popen[bytes]], not_before: dict[str, float]) -> None:
    for name, process in list(running.items()):
        if process.poll() is not None:
            del running[name]
            not_before[name] = time.monotonic() + RESTART_DELAY_SECONDS
    if os.getpid() == 1:
        known = {process.pid for process in running.values()}
        for pid in _zombies() - known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _zombies() -> set[int]:
    children = Path("/proc/1/task/1/children").read_text().split()
    found = set()
    for pid in map(int, children):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.add(pid)
    return found


if __name__ == "__main__":
    main()

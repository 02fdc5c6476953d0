"""The verdict finds a VM that ran twice, and only that."""

import subprocess
import sys
import time
from pathlib import Path

from quorate_local import launcher, verdict


def lines(host: str, incarnation: str, first: float, count: int) -> str:
    return "".join(f"{host} {incarnation} {i} {round((first + i * 0.2) * 1e9)}\n" for i in range(count))


def test_a_vm_that_moved_after_its_host_died_ran_once() -> None:
    history = verdict.read_disk("db", lines("h1", "a", 10, 5) + lines("h2", "b", 40, 5))
    assert history.conflicts == ()
    assert [(run.host, run.lines) for run in history.runs] == [("h1", 5), ("h2", 5)]


def test_two_runs_that_overlap_are_found() -> None:
    one, two = lines("h1", "a", 10, 10).splitlines(keepends=True), lines("h2", "b", 11, 10).splitlines(keepends=True)
    history = verdict.read_disk("db", "".join(x + y for x, y in zip(one, two, strict=True)))
    assert any("ran twice for 0.8 s" in conflict for conflict in history.conflicts)


def test_one_late_line_of_the_old_run_is_enough() -> None:
    history = verdict.read_disk("db", lines("h1", "a", 10, 5) + lines("h2", "b", 40, 5) + "h1 a 5 41100000000\n")
    assert any("writes again" in conflict for conflict in history.conflicts)


def test_torn_and_missing_lines_are_conflicts() -> None:
    assert verdict.read_disk("db", "h1 a 0 1000000000\nh1 a 1h2 b 0 1200000000\n").conflicts
    assert verdict.read_disk("db", "h1 a 0 1000000000\nh1 a 2 1400000000\n").conflicts


def test_the_line_that_a_kill_cut_short_is_no_conflict() -> None:
    assert verdict.read_disk("db", "h1 a 0 1000000000\nh1 a 1 1").conflicts == ()


def test_two_real_launchers_on_one_disk_are_found(tmp_path: Path) -> None:
    disk = tmp_path / "db.img"
    commands = [[sys.executable, "-I", "-S", launcher.__file__, str(disk), host, f"i-{host}"] for host in ("h1", "h2")]
    running = [subprocess.Popen(command) for command in commands]
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end and not (disk.exists() and disk.read_text().count("h1") > 3 and disk.read_text().count("h2") > 3):
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    (history,) = verdict.read_disks([disk])
    assert any("ran twice" in conflict for conflict in history.conflicts)

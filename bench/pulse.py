"""What a keeper and a pulse cost, and how late they are, while the machine is busy: `python -m bench.pulse --minutes 10`.

Three hosts at the Standard profile on one file, measured from outside: the watchdog notes every pet, the kernel tells memory and CPU time.
The length of a storage cycle is what pulse itself has counted. Nothing is asserted here; a figure beyond its limit is marked.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from quorate_core.timing import STANDARD
from tests.agent.machines import Machine, Rig

_PULSE_MB, _KEEPER_MB, _CPU_PERCENT = 30.0, 16.0, 1.0
_HOSTS = 3
_EVERY_SECONDS = 5.0
_TELL_EVERY_SECONDS = 30.0
_ARMING_SECONDS = 120.0
_BUSY = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nwhile True: pass"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """One process as the kernel sees it. `since` is when the measurement began, on its CPU time and on the clock."""

    name: str
    pid: int
    since: tuple[float, float] = (0.0, 0.0)
    most_resident_mb: float = 0.0

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def cpu_percent(self) -> float:
        """Its share of one core since the measurement began."""
        cpu, at = self.since
        return 100 * (self.cpu_seconds() - cpu) / (time.monotonic() - at)

    def look(self) -> None:
        """Note what it holds in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                self.most_resident_mb = max(self.most_resident_mb, int(line.split()[1]) * 1024 / 1e6)


@dataclass
class Measurement:
    """All processes, and the machines that they belong to."""

    machines: list[Machine]
    processes: list[Process] = field(default_factory=list)

    def begin(self) -> None:
        """From now on it counts."""
        for machine in self.machines:
            machine.dog.petted_at.clear()
            for name, process in machine.processes.items():
                one = Process(name, process.pid)
                one.since = (one.cpu_seconds(), time.monotonic())
                self.processes.append(one)

    def of(self, name: str) -> list[Process]:
        """The processes of that name."""
        return [one for one in self.processes if one.name == name]

    def table(self) -> str:
        """The figures, each beside its limit."""
        late = sorted(1000 * one for machine in self.machines for one in lateness(machine.dog.petted_at))
        rows = [
            f"pets: {len(late)} intervals; late by p50 {quantile(late, 0.5):.1f}, p99 {quantile(late, 0.99):.1f}, max {late[-1]:.1f} ms "
            f"{limit(late[-1], 1000 * STANDARD.jitter_seconds, 'ms')}; P = {STANDARD.pet_interval_seconds:g} s",
            f"by the keepers' own count since their start: late by at most {1000 * own_lateness(self.machines):.1f} ms",
            cycles(self.machines),
        ]
        for name, most in (("keeper", _KEEPER_MB), ("pulse", _PULSE_MB)):
            memory, cpu = max(p.most_resident_mb for p in self.of(name)), max(p.cpu_percent() for p in self.of(name))
            held, used = limit(memory, most, "MB"), limit(cpu, _CPU_PERCENT, "%")
            rows.append(f"{name}: at most {memory:.1f} MB resident {held}; {cpu:.2f} % of a core {used}")
        return "\n".join(rows)


def lateness(petted_at: list[float]) -> list[float]:
    """By how much each pet came later than P after the one before; early ones count as 0. In seconds."""
    return [max(0.0, after - before - STANDARD.pet_interval_seconds) for before, after in pairwise(petted_at)]


def own_lateness(machines: Iterable[Machine]) -> float:
    """The longest delay of a pet that a keeper has counted itself, in seconds."""
    return max(float(machine.metrics()["petLateness"].get("max", 0.0)) for machine in machines)


def cycles(machines: Iterable[Machine]) -> str:
    """How long storage cycles took, by what the pulses counted: bounds of their histogram, and the longest."""
    counted = [machine.metrics()["cycles"] for machine in machines]
    bounds = [*counted[0]["bounds"], float("inf")]
    counts = [sum(numbers) for numbers in zip(*(one["counts"] for one in counted), strict=True)]
    longest = max(float(one["max"]) for one in counted)
    parts = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        reached = 0
        for bound, count in zip(bounds, counts, strict=True):
            reached += count
            if reached >= share * sum(counts):
                parts.append(f"{name} <= {1000 * bound:g}")
                break
    return (
        f"storage cycles: {sum(counts)}; {', '.join(parts)}, max {1000 * longest:.1f} ms "
        f"{limit(longest, STANDARD.cycle_limit_seconds, 's')}; failed: {sum(one['failed'] for one in counted)}"
    )


def quantile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def limit(value: float, most: float, unit: str) -> str:
    """The limit, and whether it is kept."""
    return f"({'limit' if value < most else 'BEYOND THE LIMIT OF'} {most:g} {unit})"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.pulse", description="Measure keeper and pulse under load.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--busy", type=int, default=2, help="how many busy loops run beside them (default 2)")
    options = parser.parse_args()
    try:
        # The threads of the watchdog that notes the pets inherit this: they must not be late themselves.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))
    except OSError as error:
        print(f"no real-time priority for the watchdog ({error.strerror}): its own lateness is part of what follows", flush=True)
    with tempfile.TemporaryDirectory(prefix="quorate-bench-") as folder:
        rig = Rig(Path(folder), _HOSTS, licence_seconds=STANDARD.licence_seconds, watchdog_seconds=STANDARD.watchdog_seconds)
        busy: list[subprocess.Popen[bytes]] = []
        try:
            return measure(rig, options.minutes, options.busy, busy)
        finally:
            for one in busy:
                one.kill()
                one.wait()
            rig.close()


def measure(rig: Rig, minutes: float, loops: int, busy: list["subprocess.Popen[bytes]"]) -> int:
    """Arm, load the machine, look every few seconds, tell."""
    for machine in rig.machines:
        machine.start()
    deadline = time.monotonic() + _ARMING_SECONDS
    while not all(machine.armed for machine in rig.machines):
        if time.monotonic() > deadline:
            print("the hosts do not arm: " + "; ".join(str(m.state().get("message")) for m in rig.machines), file=sys.stderr)
            return 1
        time.sleep(0.2)
    print(f"{_HOSTS} hosts at the Standard profile are armed; {loops} busy loops for {minutes:g} minutes", flush=True)
    busy += [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(loops)]
    measured = Measurement(rig.machines)
    measured.begin()
    started = told = time.monotonic()
    while (now := time.monotonic()) < started + 60 * minutes:
        time.sleep(min(_EVERY_SECONDS, max(0.0, started + 60 * minutes - now)))
        for process in measured.processes:
            process.look()
        for machine in rig.machines:
            machine.metrics()  # a listener that does not listen is told nothing new
        if time.monotonic() - told >= _TELL_EVERY_SECONDS:
            told = time.monotonic()
            cpu = max(p.cpu_percent() for p in measured.of("pulse"))
            print(
                f"  {told - started:.0f} s of {60 * minutes:.0f} s; load {os.getloadavg()[0]:.1f}; pulse {cpu:.2f} % of a core", flush=True
            )
    print(measured.table())
    if not all(machine.armed for machine in rig.machines):
        print("a host is not armed any more", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

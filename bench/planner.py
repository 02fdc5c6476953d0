"""What the planner's targets are, and what it reaches here. Measures only: every pool comes from a seed or from the public problems.

Times are CPU seconds of this process, so that other work on the machine counts less.
"""

import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from bench import pools
from quorate_planner import Budget, Problem, Sharp, bounds, certificate_json, load, objections, sharpen, tally

ROOT = Path(__file__).parents[1]
PUBLIC = ROOT.parent / "shared" / "data" / "planner"
"""The public problems with what XenServer and a prototype say; beside the checkout, not part of it."""

SCALES = ((8, 80), (16, 160), (16, 400), (32, 400), (32, 1000), (64, 1000), (64, 4000))
LOADS_PERCENT = (30, 45, 60, 75)
FIRST_SECONDS, SHORT_SECONDS, LONG_SECONDS, PATIENT_SECONDS = 0.3, 1.0, 10.0, 60.0

Tell = Callable[[str], None]
"""Called before each piece of work with what it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """One target beside what was measured. `met` None: there was nothing to measure."""

    what: str
    target: str
    measured: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Known:
    """A public problem: the reference's figures, and this planner's after `FIRST_SECONDS` and when it was done."""

    name: str
    hosts: int
    vms: int
    xenserver: int
    reference: int
    prototype_seconds: float
    first: tuple[int, int]
    lower: int
    upper: int
    seconds: float
    accepted: bool | None

    @property
    def closed(self) -> bool:
        """Whether the bracket is closed at the number of the reference."""
        return self.lower == self.upper == self.reference


@dataclass(frozen=True, slots=True)
class Drawn:
    """A random pool: how wide its bracket is after `SHORT_SECONDS` and in the end, and how long that took."""

    hosts: int
    vms: int
    load_percent: int
    short_width: int
    width: int
    seconds: float


def public_problems(tell: Tell) -> Iterator[Known]:
    """Every problem of the reference; none if it is not beside this checkout."""
    reference = PUBLIC / "reference.csv"
    if not reference.is_file():
        return
    with reference.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        tell(row["problem"])
        text = (PUBLIC / f"{row['problem']}.json").read_bytes()
        problem = load(text)
        first = sharpen(problem, Budget.of(process_time, FIRST_SECONDS)).plan
        found, seconds = timed(problem, PATIENT_SECONDS)
        wrong = None if found.certificate is None else objections(text, json.dumps(certificate_json(found.certificate)))
        yield Known(
            row["problem"],
            len(problem.hosts),
            len(problem.vms),
            int(row["xenserver_max"]),
            int(row["exact"]),
            float(row["prototype_seconds"]),
            (first.lower, first.upper),
            found.plan.lower,
            found.plan.upper,
            seconds,
            None if wrong is None else not wrong,
        )


def timed(problem: Problem, most_seconds: float) -> tuple[Sharp, float]:
    """The sharp answer and the CPU seconds it took."""
    began = process_time()
    found = sharpen(problem, Budget.of(process_time, most_seconds))
    return found, process_time() - began


def random_pools(scales: Sequence[tuple[int, int]], seeds: int, tell: Tell) -> Iterator[Drawn]:
    """Pools of these sizes at every load. What is not closed in the short time gets the long time, from the start."""
    for hosts, vms in scales:
        for load_percent in LOADS_PERCENT:
            for seed in range(1, seeds + 1):
                tell(f"{hosts} hosts, {vms} VMs, load {load_percent} %, seed {seed}")
                problem = pools.pool(hosts, vms, load_percent, seed)
                found, seconds = timed(problem, SHORT_SECONDS)
                short = found.plan.upper - found.plan.lower
                if not found.plan.exact:
                    found, seconds = timed(problem, LONG_SECONDS)
                yield Drawn(hosts, vms, load_percent, short, found.plan.upper - found.plan.lower, seconds)


def without_classes(seeds: int, tell: Tell) -> Iterator[int]:
    """For 40 uneven hosts and 500 different sizes: how far the proven number is below the bound by volume."""
    for seed in range(1, seeds + 1):
        for load_percent in (45, 60):
            tell(f"500 sizes, load {load_percent} %, seed {seed}")
            problem = pools.pool(40, 1000, load_percent, seed, sizes=pools.without_classes(500), uneven=True)
            yield bounds.volume_ceiling(tally.count(problem)) - timed(problem, LONG_SECONDS)[0].plan.lower


def peak_memory_mib() -> tuple[int, int, int]:
    """Peak memory of a fresh process at 64 hosts / 4,000 VMs: with a pool, after its first bracket, after the sharp one of every load.

    Asked of Linux: `getrusage` would tell the peak of this process, out of which the other was made.
    """
    script = (
        "from pathlib import Path; from time import process_time; from bench import pools\n"
        "from quorate_planner import Budget, plan_problem, sharpen\n"
        "def peak(): print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)\n"
        "problem = pools.pool(64, 4000, 45, 1); peak(); plan_problem(problem); peak()\n"
        f"for load in {LOADS_PERCENT}: sharpen(pools.pool(64, 4000, load, 1), Budget.of(process_time, 5.0))\n"
        "peak()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    made, first, sharp = map(int, done.stdout.split())
    return made, first, sharp


def warm_up() -> None:
    """Load OR-Tools: half a second and much memory, once per process, which no single figure should carry."""
    sharpen(pools.pool(4, 40, 60, 1), Budget.of(process_time, SHORT_SECONDS))


def public_rows(known: Sequence[Known]) -> list[Row]:
    """The targets about the public problems."""
    if not known:
        return [Row("public problems", "all closed", "the problems are not beside this checkout", None)]
    closed, near = sum(k.closed for k in known), sum(k.first[1] - k.first[0] <= 1 for k in known)
    proofs, good = sum(k.accepted is not None for k in known), sum(k.accepted is True for k in known)
    n = len(known)
    return [
        Row("public problems closed at the exact number", f"{n} of {n}", f"{closed} of {n}", closed == n),
        Row(f"the same, within 1 of the upper after {FIRST_SECONDS} s", f"{n} of {n}", f"{near} of {n}", near == n),
        Row("their proofs accepted by `quorate verify`", "all", f"{good} of {proofs}", good == proofs == n),
    ]


def random_rows(drawn: Sequence[Drawn]) -> list[Row]:
    """The targets about random pools."""
    n = len(drawn)
    short, closed, widest = sum(d.short_width == 0 for d in drawn), sum(d.width == 0 for d in drawn), max(d.width for d in drawn)
    rows = [
        Row("random pools closed in 10 s", "97 %", f"{100 * closed / n:.1f} % of {n}", closed >= 0.97 * n),
        Row("random pools closed in 1 s", "90 %", f"{100 * short / n:.1f} % of {n}", short >= 0.9 * n),
        Row("widest bracket of a random pool", "1", str(widest), widest <= 1),
    ]
    for (hosts, vms), target in {(16, 160): 0.2, (64, 4000): 0.3, (128, 8000): 0.5}.items():
        some = [d.seconds for d in drawn if (d.hosts, d.vms) == (hosts, vms)]
        if some:
            median, worst = statistics.median(some), max(some)
            met = median <= target and (hosts != 16 or worst <= 1.0)
            text = f"median {target} s" + (", all within 1 s" if hosts == 16 else "")
            rows.append(Row(f"full maximum, {hosts} hosts / {vms:,} VMs", text, f"median {median:.2f} s, worst {worst:.2f} s", met))
    hard = [d for d in drawn if (d.hosts, d.vms) == (64, 1000)]
    if hard:
        near, closed = sum(d.short_width <= 1 for d in hard), sum(d.width == 0 for d in hard)
        rows.append(
            Row("64 hosts / 1,000 VMs within 1 of the upper in 1 s", "all", f"{near} of {len(hard)}", near == len(hard)),
        )
        rows.append(Row("64 hosts / 1,000 VMs closed in 10 s", "all (*)", f"{closed} of {len(hard)}", closed == len(hard)))
    return rows


def other_rows(gaps: Sequence[int], memory_mib: tuple[int, int, int]) -> list[Row]:
    """The targets about sizes without classes, and memory."""
    made, first, sharp = memory_mib
    return [
        Row("500 different sizes, 40 uneven hosts: below the volume bound in 10 s", "1", f"at most {max(gaps)}", max(gaps) <= 1),
        Row(
            "memory of a process at 64 hosts / 4,000 VMs",
            "100 MB",
            f"{sharp} MiB; {first} MiB for the first bracket, without OR-Tools; {made} MiB with nothing planned",
            sharp * 1.048576 < 100,
        ),
    ]

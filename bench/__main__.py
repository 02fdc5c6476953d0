"""`python -m bench`: the planner's targets beside what it reaches here, as text and as charts in `docs/`.

`--all` also runs what the other files of this folder measure. Exit code 0 whatever the figures are: they are reported, not asserted.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import change, chart, page, planner, pools

OTHERS = ("admission", "pulse")
DOCS = planner.ROOT / "docs"


def main() -> int:
    """Measure, print, write."""
    options = _options()
    began = datetime.now(UTC)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=150)
    with Progress(
        TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    ) as progress:
        known, drawn, gaps, lives = _measure(options.seeds, options.changes, progress)
    rows = [*planner.public_rows(known), *planner.random_rows(drawn), *change.rows(*lives)]
    rows += planner.other_rows(gaps, planner.peak_memory_mib())
    _print(console, known, rows)
    if not options.dry:
        charts = ["bench-random.svg", "bench-change.svg"]
        chart.random_pools(drawn, DOCS / charts[0])
        chart.one_change(*lives, DOCS / charts[1])
        if known:
            charts.insert(0, "bench-problems.svg")
            chart.public_problems(known, DOCS / charts[0])
        (DOCS / "bench.md").write_text(page.text(rows, known, charts, f"{began:%Y-%m-%d}", options.machine))
        console.print(f"written: docs/bench.md and {', '.join(charts)}")
    return _others(options.all, console)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="pools of each size and load (default 3)")
    parser.add_argument("--changes", type=int, default=300, help="changes to each pool of 64 hosts / 4,000 VMs (default 300)")
    parser.add_argument("--machine", default=f"a machine with {os.cpu_count()} cores", help="what the page calls this machine")
    parser.add_argument("--dry", action="store_true", help="print only, write nothing to docs/")
    parser.add_argument("--all", action="store_true", help="also run the other measurements, each as a command of its own")
    options = parser.parse_args()
    if options.seeds < 1 or options.changes < 1:
        parser.error("--seeds and --changes must be at least 1")
    return options


Lives = tuple[list[change.Answered], list[change.Answered]]


def _measure(seeds: int, changes: int, progress: Progress) -> tuple[list[planner.Known], list[planner.Drawn], list[int], Lives]:
    def step(title: str, total: int) -> Callable[[str], None]:
        task = progress.add_task(title, total=total)
        done = iter(range(1, total + 1))
        return lambda what: progress.update(task, completed=next(done), description=f"{title}: {what}"[:48])

    planner.warm_up()
    problems = len(list(planner.PUBLIC.glob("*.json")))
    known = list(planner.public_problems(step("public problems", problems)))
    scales = len(planner.SCALES) * len(planner.LOADS_PERCENT) * seeds
    drawn = list(planner.random_pools(planner.SCALES, seeds, step("random pools", scales)))
    large = ((128, 8000),)
    drawn += planner.random_pools(large, 1, step("large pools", len(planner.LOADS_PERCENT)))
    gaps = list(planner.without_classes(seeds, step("sizes without classes", 2 * seeds)))
    tell = step("one change", 2 * seeds)
    lives: Lives = ([], [])
    for below, seed in ((below, seed) for below in (1, 0) for seed in range(1, seeds + 1)):
        tell(f"wish at the maximum less {below}, seed {seed}")
        lives[1 - below].extend(change.life(pools.pool(64, 4000, (45, 55, 65)[seed % 3], seed), below, changes, seed))
    return known, drawn, gaps, lives


def _print(console: Console, known: list[planner.Known], rows: list[planner.Row]) -> None:
    if known:
        table = Table("PROBLEM", "HOSTS", "VMS", "XENSERVER", "EXACT", "FIRST", "PROVEN", "UPPER", "CPU S", "PROTOTYPE", "PROOF", box=None)
        for k in known:
            first = f"{k.first[0]} to {k.first[1]}"
            figures = (k.hosts, k.vms, k.xenserver, k.reference, first, k.lower, k.upper, f"{k.seconds:.2f}", f"{k.prototype_seconds:.2f}")
            table.add_row(k.name, *map(str, figures), page.proof(k))
        console.print(table)
    table = Table("TARGET", "ASKED", "MEASURED", "MET", box=None)
    for row in rows:
        table.add_row(row.what, row.target, row.measured, page.verdict(row))
    console.print(table)


def _others(run: bool, console: Console) -> int:
    worst = 0
    for name in _present():
        if not run:
            console.print(f"not run: `python -m bench.{name}` (--all runs it too)")
            continue
        console.print(f"python -m bench.{name}")
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=planner.ROOT, check=False).returncode)
    return worst


def _present() -> Iterator[str]:
    return (name for name in OTHERS if importlib.util.find_spec(f"bench.{name}") is not None)


if __name__ == "__main__":
    sys.exit(main())

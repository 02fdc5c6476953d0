"""Where the VMs of failed hosts came back, by the word of their disks, beside where the plan had said, and in which order."""

import itertools
from dataclasses import dataclass

from rich.table import Table

from quorate_local import seen, workload
from quorate_local.stage import Failed, Stage


@dataclass(frozen=True, slots=True)
class Restart:
    """One protected VM. `planned`: when the death was certified; `before`: as published before the failure.

    `gap_seconds`: from its last write on the failed host to its first on the new one.
    """

    name: str
    priority: int
    was_on: str
    before: str
    planned: str
    host: str
    at_seconds: float
    gap_seconds: float


def read(
    stage: Stage, lives: dict[str, str], planned: dict[str, str], vms: dict[str, workload.DemoVm], since_seconds: float
) -> list[Restart]:
    """The restarts since then of what was planned for these lives of hosts, by priority. Raises Failed for a VM that did not run again."""
    recorded = seen.recorded(stage.local, lives)
    runs = {history.disk.removeprefix(f"{workload.NAMESPACE}-"): history.runs for history in seen.histories(stage.local)}
    found = []
    for name, host in planned.items():
        if len(runs.get(name, ())) < 2 or runs[name][-1].first_seconds < since_seconds:
            raise Failed(f"{name} did not run again by the word of its disk")
        before, after = runs[name][-2], runs[name][-1]
        priority = vms[name].priority if name in vms else 0
        gap_seconds = after.first_seconds - before.last_seconds
        found.append(Restart(name, priority, before.host, host, recorded.get(name, host), after.host, after.first_seconds, gap_seconds))
    return sorted(found, key=lambda r: (r.priority, r.at_seconds))


def show(stage: Stage, act: str, restarts: list[Restart], failed: set[str]) -> None:
    """Show and check them. A VM whose planned host has failed too goes where the planner's rule says then."""
    table = Table(
        "VM",
        "priority",
        "was on",
        "planned",
        "restarted on",
        "again after",
        title="planned and actual, from the VM disks",
        title_justify="left",
    )
    for r in restarts:
        planned = f"{r.planned}, failed too" if r.planned in failed else r.planned
        planned += f" (before: {r.before})" * (r.before != r.planned)
        table.add_row(r.name, str(r.priority), r.was_on, planned, r.host, f"{r.gap_seconds:.1f} s")
    stage.console.print(table)
    if dead := [f"{r.name} on {r.host}" for r in restarts if r.host in failed]:
        raise Failed(f"restarted on a host that is out of the pool: {', '.join(dead)}")
    wrong = [r for r in restarts if r.host != r.planned and r.planned not in failed]
    if wrong and len(failed) == 1:
        raise Failed(f"restarted elsewhere than planned: {', '.join(f'{r.name} on {r.host} instead of {r.planned}' for r in wrong)}")
    kept = sum(r.host == r.planned for r in restarts)
    if len(failed) == 1:
        stage.checked(f"{act}: every protected VM restarted where the plan said", f"{kept} of {len(restarts)}")
    else:
        moved = "; the planned host of the others had failed too, or was needed" if kept < len(restarts) else ""
        stage.checked(f"{act}: every protected VM restarted", f"{len(restarts)} of {len(restarts)}, {kept} where planned{moved}")
    for host in sorted({r.was_on for r in restarts}):  # each failed host's VMs in order; two hosts are seldom certified in one instant
        _check_order([r for r in restarts if r.was_on == host])
    stage.checked(f"{act}: priorities in order", " before ".join(str(p) for p in sorted({r.priority for r in restarts})))


def _check_order(restarts: list[Restart]) -> None:
    ends = {p: max(r.at_seconds for r in restarts if r.priority == p) for p in {r.priority for r in restarts}}
    starts = {p: min(r.at_seconds for r in restarts if r.priority == p) for p in ends}
    for earlier, later in itertools.pairwise(sorted(ends)):
        if starts[later] < ends[earlier]:
            raise Failed(f"a VM of priority {later} ran before the last one of priority {earlier}")

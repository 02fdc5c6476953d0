"""How answers look: tables for people, JSON and YAML for programs. No decisions; every number comes from elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from quorate_core.facts import Protection, Snapshot
from quorate_planner import Plan
from quorate_planner.advise import Advice, sentences, why_not_higher
from quorate_planner.amounts import GIB, amount
from quorate_planner.fitting import Fitting


class Output(StrEnum):
    """The forms of `-o`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def console() -> Console:
    """Standard output; wide enough for a table even when it goes into a pipe."""
    found = Console(highlight=False, soft_wrap=True)
    return found if found.is_terminal else Console(highlight=False, soft_wrap=True, width=max(150, found.width))


def data(value: Any, output: Output) -> None:
    """A value as JSON or YAML on standard output."""
    print(json.dumps(value, indent=2) if output is Output.JSON else yaml.safe_dump(value, sort_keys=False).rstrip())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; empty cells for None."""
    shown = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(shown)


def say(text: str) -> None:
    """One line for people."""
    console().print(text, markup=False)


def gib(size_bytes: int) -> str:
    """Bytes as GiB with one decimal."""
    return f"{size_bytes / GIB:.1f} GiB"


def most(plan: Plan) -> str:
    """The largest number tolerated, as a number or a bracket."""
    return str(plan.lower) if plan.exact else f"{plan.lower} to {plan.upper}"


def plan_lines(plan: Plan) -> list[str]:
    """The plan in sentences."""
    wish = plan.host_failures_to_tolerate
    verdict = "a plan exists" if plan.plan_exists else "NO plan exists"
    lines = [
        f"pool {plan.pool}: {plan.hosts} hosts, {plan.protected_vms} protected VMs; "
        f"{verdict} for {wish} host failure{'' if wish == 1 else 's'}; at most {most(plan)} tolerated"
    ]
    lines.append(f"why not more: {why_not_higher(plan)}")
    return lines


def advised_lines(advice: Advice) -> list[str]:
    """The plan and what would help it, in sentences."""
    return [plan_lines(advice.plan)[0], *sentences(advice)]


def fits(found: Fitting, asked: int) -> str:
    """How many VMs of one size fit, in a sentence."""
    size, plural = amount(found.size), "" if found.failures == 1 else "s"
    if not found.holds_now:
        return f"of {size} none fits: the plan for {found.failures} failure{plural} does not hold even without"
    number = str(found.lower) if found.exact else f"at least {found.lower} and at most {found.upper}"
    return f"of {size} {number} fit with a plan for {found.failures} failure{plural}; asked for {asked}"


def placements(plan: Plan) -> None:
    """Where each protected VM restarts if its host alone fails now."""
    rows = [(host, vm, target) for host, targets in sorted(plan.placements.items()) for vm, target in sorted(targets.items())]
    if rows:
        table("", ("IF THIS HOST FAILS", "VM", "RESTARTS ON"), rows)


def hosts(snapshot: Snapshot, vms: Mapping[str, Sequence[str]]) -> None:
    """The hosts of a snapshot with their memory."""
    rows = [
        (h.name, h.phase.value, gib(h.allocatable_bytes), gib(h.used_bytes), gib(h.free_bytes), len(vms.get(h.name, ())), h.why_not)
        for h in snapshot.hosts
    ]
    table("", ("HOST", "PHASE", "MEMORY", "USED", "FREE", "VMS", "TAKES NO VM BECAUSE"), rows)


def protected_vms(snapshot: Snapshot, plan: Plan) -> None:
    """Protected and best-effort VMs with their planned host."""
    rows = []
    for vm in sorted(snapshot.vms, key=lambda v: (v.protection is not Protection.PROTECTED, v.priority, v.key)):
        if vm.protection is Protection.UNPROTECTED:
            continue
        planned = plan.placements.get(vm.host, {}).get(vm.key) if vm.host is not None else None
        state = vm.host or ("waits for a place" if vm.should_run else "stopped")
        rows.append((vm.key, vm.protection.value, vm.priority, gib(vm.size_bytes), state, planned, "; ".join(vm.not_agile)))
    if rows:
        table("", ("VM", "PROTECTION", "PRIORITY", "MEMORY", "HOST", "PLANNED", "NOT AGILE BECAUSE"), rows)

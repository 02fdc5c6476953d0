"""plan, what-if, check: questions about a pool that change nothing. The planner answers; this module asks and prints."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorate_cli import changes, render, source
from quorate_controller.observe import BadInput
from quorate_core.facts import Snapshot
from quorate_planner import (
    AddVm,
    Budget,
    Change,
    Plan,
    RemoveVm,
    Sharp,
    apply,
    certificate_json,
    load,
    objections,
    plan,
    plan_json,
    sharpen,
    start_hosts,
)


def plan_problems(
    paths: Sequence[Path], failures: int | None, output: render.Output, *, think_seconds: float, certificate: Path | None
) -> int:
    """Plan bare planning problems, each within `think_seconds`. Exit code 0: an answer was found, whatever it is."""
    if certificate is not None and len(paths) > 1:
        raise BadInput("--certificate", str(certificate), "needs exactly one --problem")
    documents = []
    plans = []
    for path, text in source.read_bytes(paths):
        try:
            problem = load(text)
            problem = replace(problem, pool=path.stem, wish=problem.wish if failures is None else failures)
        except ValueError as error:
            raise BadInput(str(path), "", str(error)) from None
        began = time.perf_counter()
        found = sharpen(problem, Budget.of(time.perf_counter, think_seconds))
        documents.append(plan_json(found.plan, time.perf_counter() - began))
        plans.append(found.plan)
        if certificate is not None:
            _write_certificate(found, certificate)
    _print_plans(plans, documents, output)
    return 0


def verify(problem: Path, certificate: Path) -> int:
    """Whether a certificate proves what it claims, by the page of arithmetic that shares no code with the search. 0 yes, 1 no."""
    (_, problem_text), (_, certificate_text) = source.read_bytes((problem, certificate))
    wrong = objections(problem_text, certificate_text)
    for objection in wrong:
        render.say(f"refused: {objection}")
    if not wrong:
        render.say("accepted: the certificate proves its number")
    return 1 if wrong else 0


def _write_certificate(found: Sharp, path: Path) -> None:
    if found.certificate is None:
        raise BadInput("--certificate", str(path), "no zones prove this answer, so there is no certificate to write")
    try:
        path.write_text(json.dumps(certificate_json(found.certificate), indent=1) + "\n")
    except OSError as error:
        raise BadInput("--certificate", str(path), error.strerror or "cannot be written") from None


def plan_pools(where: source.Source, failures: int | None, output: render.Output) -> int:
    """Plan every pool, or the named one."""
    plans, documents = [], []
    for snapshot in where.snapshots():
        began = time.perf_counter()
        found = plan(snapshot, tolerate=failures)
        documents.append(plan_json(found, time.perf_counter() - began))
        plans.append(found)
        if output is render.Output.TABLE:
            _remark(snapshot)
    _print_plans(plans, documents, output)
    return 0


def what_if(where: source.Source, wished: Sequence[Change], failures: int | None, output: render.Output) -> int:
    """Before and after any number of changes. Exit code 0 if a plan exists after them, 1 if not."""
    snapshots = where.snapshots()
    if len(snapshots) > 1:
        raise BadInput("input", "--pool", f"there are pools {', '.join(s.pool.name for s in snapshots)}; name one")
    (snapshot,) = snapshots
    before = plan(snapshot, tolerate=failures)
    changed = snapshot
    for change in wished:
        changed = apply(changed, change)
    began = time.perf_counter()
    after = plan(changed, tolerate=failures)
    document = plan_json(after, time.perf_counter() - began)
    if output is render.Output.TABLE:
        rows = [
            ("hosts", before.hosts, after.hosts),
            ("protected VMs", before.protected_vms, after.protected_vms),
            ("wish", before.host_failures_to_tolerate, after.host_failures_to_tolerate),
            ("plan exists", *("yes" if p.plan_exists else "NO" for p in (before, after))),
            ("at most tolerated", render.most(before), render.most(after)),
        ]
        render.table("", (f"POOL {snapshot.pool.name}", "NOW", "THEN"), rows)
        if after.witness is not None:
            render.say(f"why not more: {after.witness.reason}")
    else:
        render.data(document, output)
    return 0 if after.plan_exists else 1


def check(where: source.Source, output: render.Output) -> int:
    """For pipelines: 0 every pool's plan holds once everything in the files runs, 1 it does not, 2 bad input (raised)."""
    answers: list[dict[str, Any]] = []
    for snapshot in where.snapshots():
        started, unplaced = _with_everything_started(snapshot)
        found = plan(started)
        why = [f"{key} fits on no host" for key in unplaced]
        if not found.plan_exists and found.witness is not None:
            why.append(found.witness.reason)
        document = plan_json(found, 0.0)
        del document["elapsedSeconds"]
        answers.append({**document, "holds": found.plan_exists and not unplaced, "reasons": why, "remarks": list(snapshot.remarks)})
        if output is render.Output.TABLE:
            _remark(snapshot)
            for line in (*render.plan_lines(found)[:1], *why):
                render.say(line)
    if output is not render.Output.TABLE:
        render.data(answers[0] if len(answers) == 1 else answers, output)
    return 0 if all(answer["holds"] for answer in answers) else 1


def _with_everything_started(snapshot: Snapshot) -> tuple[Snapshot, list[str]]:
    """The pool once VMs without a guarantee run too, each on the best host that keeps the plan; and those that fit nowhere."""
    unplaced = []
    for vm in changes.waiting(snapshot):
        wish = snapshot.pool.host_failures_to_tolerate
        targets = start_hosts(snapshot, vm, wish) or start_hosts(snapshot, vm, 0)
        if targets:
            snapshot = apply(apply(snapshot, RemoveVm(vm.key)), AddVm(replace(vm, host=targets[0])))
        else:
            unplaced.append(vm.key)
    return snapshot, unplaced


def _remark(snapshot: Snapshot) -> None:
    for remark in snapshot.remarks:
        render.say(f"note: {remark}")


def _print_plans(plans: Sequence[Plan], documents: Sequence[dict[str, Any]], output: render.Output) -> None:
    """One object for one plan, a list for several."""
    if output is not render.Output.TABLE:
        render.data(documents[0] if len(documents) == 1 else list(documents), output)
        return
    for found in plans:
        for line in render.plan_lines(found):
            render.say(line)
        if len(plans) == 1:
            render.placements(found)

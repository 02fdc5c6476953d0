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
    problem_of,
    sharpen,
    start_hosts,
)
from quorate_planner.advise import Advice, advice_json, advise
from quorate_planner.fitting import Fitting, fitting_json, how_many_more


def plan_problems(
    paths: Sequence[Path],
    failures: int | None,
    output: render.Output,
    *,
    think_seconds: float,
    certificate: Path | None,
    with_advice: bool = False,
) -> int:
    """Plan bare planning problems, each within `think_seconds`. Exit code 0: an answer was found, whatever it is."""
    if certificate is not None and len(paths) > 1:
        raise BadInput("--certificate", str(certificate), "needs exactly one --problem")
    answers = []
    for path, text in source.read_bytes(paths):
        try:
            problem = load(text)
            problem = replace(problem, pool=path.stem, wish=problem.wish if failures is None else failures)
        except ValueError as error:
            raise BadInput(str(path), "", str(error)) from None
        began = time.perf_counter()
        found = sharpen(problem, _budget(think_seconds))
        elapsed_seconds = time.perf_counter() - began
        advice = advise(problem, found.plan, _budget(think_seconds)) if with_advice else None
        answers.append((found.plan, elapsed_seconds, advice))
        if certificate is not None:
            _write_certificate(found, certificate)
    _print_plans(answers, output)
    return 0


def _budget(seconds: float) -> Budget:
    return Budget.of(time.perf_counter, seconds)


def narrowed(snapshot: Snapshot, failures: int | None, think_seconds: float) -> Plan:
    """The plan of a pool: as it is kept now, and within the time as sharp as new zones would make it."""
    quick = plan(snapshot, tolerate=failures)
    if quick.exact or think_seconds <= 0:
        return quick
    sharp = sharpen(problem_of(snapshot, tolerate=failures), _budget(think_seconds)).plan
    upper, witness = (sharp.upper, sharp.witness) if sharp.upper < quick.upper else (quick.upper, quick.witness)
    better = sharp if (sharp.waiting_placed, sharp.lower) > (quick.waiting_placed, quick.lower) else quick
    return replace(better, upper=upper, witness=witness, exact=better.exact or (better.waiting_placed and better.lower == upper))


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


def plan_pools(
    where: source.Source, failures: int | None, output: render.Output, *, think_seconds: float, with_advice: bool = False
) -> int:
    """Plan every pool, or the named one."""
    answers = []
    for snapshot in where.snapshots():
        began = time.perf_counter()
        found = narrowed(snapshot, failures, think_seconds)
        elapsed_seconds = time.perf_counter() - began
        advice = None
        if with_advice:
            closed = frozenset(host.name for host in snapshot.hosts if not host.accepts_vms)
            advice = advise(problem_of(snapshot, tolerate=failures), found, _budget(think_seconds), closed)
        answers.append((found, elapsed_seconds, advice))
        if output is render.Output.TABLE:
            _remark(snapshot)
    _print_plans(answers, output)
    return 0


def what_if(where: source.Source, wished: Sequence[Change], failures: int | None, output: render.Output, *, think_seconds: float) -> int:
    """Before and after any number of changes. Exit code 0 if a plan exists after them, 1 if not."""
    snapshots = where.snapshots()
    if len(snapshots) > 1:
        raise BadInput("input", "--pool", f"there are pools {', '.join(s.pool.name for s in snapshots)}; name one")
    (snapshot,) = snapshots
    changed = snapshot
    for change in wished:
        changed = apply(changed, change)
    began = time.perf_counter()
    after = narrowed(changed, failures, think_seconds)
    document = plan_json(after, time.perf_counter() - began)
    fits = _fits(snapshot, wished, after.host_failures_to_tolerate, think_seconds)
    if output is render.Output.TABLE:
        before = narrowed(snapshot, failures, think_seconds)
        rows = [
            ("hosts", before.hosts, after.hosts),
            ("protected VMs", before.protected_vms, after.protected_vms),
            ("wish", before.host_failures_to_tolerate, after.host_failures_to_tolerate),
            ("plan exists", *("yes" if p.plan_exists else "NO" for p in (before, after))),
            ("at most tolerated", render.most(before), render.most(after)),
        ]
        render.table("", (f"POOL {snapshot.pool.name}", "NOW", "THEN"), rows)
        for line in (*render.plan_lines(after)[1:], *(render.fits(fit, asked) for fit, asked in fits)):
            render.say(line)
    else:
        if fits:
            document["fits"] = [{**fitting_json(fit), "asked": asked} for fit, asked in fits]
        render.data(document, output)
    return 0 if after.plan_exists else 1


def _fits(snapshot: Snapshot, wished: Sequence[Change], failures: int, think_seconds: float) -> list[tuple[Fitting, int]]:
    """For each size that is added: how many of it fit beside all other changes, and how many were asked for."""
    sizes = [change.vm.size_bytes for change in wished if isinstance(change, AddVm)]
    found = []
    for size in dict.fromkeys(sizes):
        others = snapshot
        for change in wished:
            if not (isinstance(change, AddVm) and change.vm.size_bytes == size):
                others = apply(others, change)
        budget = _budget(think_seconds / len(set(sizes)))
        found.append((how_many_more(problem_of(others), size, failures, budget), sizes.count(size)))
    return found


def check(where: source.Source, output: render.Output, *, think_seconds: float) -> int:
    """For pipelines: 0 every pool's plan holds once everything in the files runs, 1 it does not, 2 bad input (raised)."""
    answers: list[dict[str, Any]] = []
    for snapshot in where.snapshots():
        started, unplaced = _with_everything_started(snapshot)
        found = narrowed(started, None, think_seconds)
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


def _print_plans(answers: Sequence[tuple[Plan, float, Advice | None]], output: render.Output) -> None:
    """One object for one plan, a list for several."""
    if output is not render.Output.TABLE:
        documents = [
            plan_json(found, seconds) | ({} if advice is None else {"advice": advice_json(advice)}) for found, seconds, advice in answers
        ]
        render.data(documents[0] if len(documents) == 1 else documents, output)
        return
    for found, _, advice in answers:
        for line in render.plan_lines(found) if advice is None else render.advised_lines(advice):
            render.say(line)
        if len(answers) == 1:
            render.placements(found)

"""One change at 64 hosts / 4,000 VMs: does the plan still hold? How long the answer takes, and how often it is "not proven in time".

The steps are those of admission: the proof that is kept, blocks moved between its zones, then new zones within a budget. Changes that are
answered with yes are made, except that a host that is out is back for the next one.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import process_time

from bench import pools
from bench.planner import Row
from quorate_planner import Answer, Budget, Problem, ProblemVm, Proof, layout_of, mended, prove, sharpen

BEGUN_SECONDS = 0.02
"""New zones are looked for only if the quick answers took no longer than this: a first program takes some 30 ms more, and the target
for the whole answer is 50 ms."""

KINDS = ("start", "stop", "grow", "shrink", "move", "protect", "unprotect", "host out")
"""In turn: what one takes, another gives back, so that the pool stays about as full as it was."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One change: what was asked, the answer, and the CPU seconds it took."""

    kind: str
    answer: Answer
    seconds: float


@dataclass(frozen=True, slots=True)
class _Change:
    kind: str
    vms: Mapping[str, ProblemVm | None]
    free: Mapping[str, int]


def life(problem: Problem, below: int, number: int, seed: int) -> list[Answered]:
    """So many changes to a pool whose wish is `below` its maximum."""
    dice = Random(seed)
    found = sharpen(problem, Budget.of(process_time, 10.0))
    if found.certificate is None:
        raise ValueError("the pool has no certificate to start from")
    wish = found.plan.lower - below
    proof = Proof(problem, layout_of(problem, found.certificate), wish)
    answers = []
    for at in range(number):
        change = _draw(proof, dice, at)
        began = process_time()
        budget = Budget.of(process_time, BEGUN_SECONDS)
        after = mended(proof.changed(change.vms, change.free))
        answer = Answer.YES
        if not after.holds:
            judged = prove(after.problem(wish), wish, None, budget)
            answer, after = judged.answer, judged.proof or after
        answers.append(Answered(change.kind, answer, process_time() - began))
        if answer is Answer.YES and change.kind != "host out":
            proof = after
    return answers


def _draw(proof: Proof, dice: Random, at: int) -> _Change:
    free = dict(zip(proof.names, proof.free, strict=True))
    kind = KINDS[at % len(KINDS)]
    vm = proof.vms[dice.choice(sorted(proof.vms))]
    size = pools.classes(dice)
    if kind in {"start", "protect"}:
        roomy = [name for name in free if free[name] >= size] or list(free)
        host = dice.choice(roomy)
        new = ProblemVm(f"ns/new-{at:05}", size, host)
        return _Change(kind, {new.name: new}, {host: max(0, free[host] - size)} if kind == "start" else {})
    if vm.host is None or kind == "stop":
        return _Change("stop", {vm.name: None}, {} if vm.host is None else {vm.host: free[vm.host] + vm.size})
    if kind == "unprotect":
        return _Change(kind, {vm.name: None}, {})
    if kind == "shrink":
        less = min(pools.GIB, vm.size // 2)
        return _Change(kind, {vm.name: vm._replace(size=vm.size - less)}, {vm.host: free[vm.host] + less})
    if kind == "grow":
        more = min(pools.GIB, free[vm.host])
        return _Change(kind, {vm.name: vm._replace(size=vm.size + more)}, {vm.host: free[vm.host] - more})
    if kind == "move":
        target = max((name for name in free if name != vm.host), key=lambda name: free[name])
        return _Change(
            kind,
            {vm.name: vm._replace(host=target)},
            {vm.host: free[vm.host] + vm.size, target: max(0, free[target] - vm.size)},
        )
    waiting = {other.name: other._replace(host=None) for other in proof.vms.values() if other.host == vm.host}
    return _Change("host out", waiting, {vm.host: 0})


def rows(below: Sequence[Answered], at_maximum: Sequence[Answered]) -> list[Row]:
    """The two targets about one change."""
    p50, p99 = quantiles(below)
    unproven = sum(a.answer is Answer.NOT_PROVEN for a in at_maximum)
    share, worst = 100 * unproven / len(at_maximum), quantiles(at_maximum)[1]
    return [
        Row(
            f"one change at 64 / 4,000, wish one below the maximum ({len(below)} changes)",
            "p50 0.5 ms, p99 10 ms",
            f"p50 {1000 * p50:.2f} ms, p99 {1000 * p99:.1f} ms, {100 * sum(a.answer is Answer.YES for a in below) / len(below):.0f} % yes",
            p50 <= 0.0005 and p99 <= 0.010,
        ),
        Row(
            f"the same with the wish at the maximum ({len(at_maximum)} changes)",
            "p99 50 ms (*)",
            f"p50 {1000 * quantiles(at_maximum)[0]:.2f} ms, p99 {1000 * worst:.1f} ms",
            worst <= 0.050,
        ),
        Row("the same: not proven in time", "3 % (*)", f"{share:.1f} %", share <= 3),
    ]


def quantiles(answers: Sequence[Answered]) -> tuple[float, float]:
    """Median and 99th percentile of the CPU seconds."""
    seconds = sorted(a.seconds for a in answers)
    return statistics.median(seconds), seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))]

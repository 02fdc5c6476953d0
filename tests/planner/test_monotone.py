"""More room or less load never lowers an answer that is exact; hosts without memory and VMs do not change it, and the
order of the input changes nothing at all.

XenServer's answer falls in the named cases below: with an empty or a dead host more it looks at fewer sequences.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import pools
from quorate_planner import Budget, Problem, ProblemHost, ProblemVm, Sharp, certificate_json, plan_json, sharpen

from .pools import problems
from .test_properties import json_of, tight_pool

pytest.importorskip("ortools", reason="OR-Tools is not installed: without it few brackets close, and these claims are about closed ones")

ENDLESS = Budget(lambda: 0.0, 600.0)
SMALL = st.one_of(problems(), st.integers(0, 2**48).map(tight_pool))


def better(problem: Problem, dice: Random, more: int) -> Iterator[tuple[str, Problem]]:
    """The same pool with something that can only help, named."""
    yield "an empty host more", replace(problem, hosts=(*problem.hosts, ProblemHost("extra", more)))
    if problem.hosts:
        lucky = dice.choice(problem.hosts).name
        grown = tuple(host._replace(free=host.free + more) if host.name == lucky else host for host in problem.hosts)
        yield f"{more} bytes more on {lucky}", replace(problem, hosts=grown)
    if problem.vms:
        gone = dice.choice(problem.vms)
        rest = tuple(vm for vm in problem.vms if vm is not gone)
        yield f"{gone.name} unprotected", replace(problem, vms=rest)
        given_back = tuple(host._replace(free=host.free + gone.size) if host.name == gone.host else host for host in problem.hosts)
        yield f"{gone.name} removed", replace(problem, hosts=given_back, vms=rest)
        less = max(1, gone.size - more)
        smaller = tuple(host._replace(free=host.free + gone.size - less) if host.name == gone.host else host for host in problem.hosts)
        yield f"{gone.name} smaller", replace(problem, hosts=smaller, vms=(*rest, gone._replace(size=less)))


def hold_monotone(problem: Problem, before: Sharp, dice: Random, more: int) -> None:
    """Closed brackets on both sides: the number does not fall. Closed before only: the upper bound stays at or above it."""
    for what, changed in better(problem, dice, more):
        after = sharpen(changed, ENDLESS).plan
        if before.plan.exact:
            assert after.upper >= before.plan.lower, f"{what}: from {before.plan.lower} to {after.upper}"
            assert after.waiting_placed >= before.plan.waiting_placed or not after.exact, what
        if before.plan.exact and after.exact:
            assert after.lower >= before.plan.lower, f"{what}: from {before.plan.lower} to {after.lower}"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SMALL, st.integers(0, 2**32).map(Random), st.integers(1, 12))
def test_on_small_pools_whatever_helps_never_lowers_the_sharp_answer(problem: Problem, dice: Random, more: int) -> None:
    hold_monotone(problem, sharpen(problem, ENDLESS), dice, more)


@pytest.mark.parametrize(("hosts", "vms", "load_percent", "seed"), [(8, 80, 45, 1), (8, 80, 75, 2), (16, 160, 45, 1), (16, 160, 75, 3)])
def test_on_pools_of_real_size_whatever_helps_never_lowers_the_sharp_answer(hosts: int, vms: int, load_percent: int, seed: int) -> None:
    problem = pools.pool(hosts, vms, load_percent, seed)
    before = sharpen(problem, ENDLESS)
    assert before.plan.exact
    hold_monotone(problem, before, Random(seed), more=pools.requested(12))


def built(free: list[int], vms: dict[int, list[int]]) -> Problem:
    """Hosts with so much free memory; VM sizes by the index of their host."""
    hosts = tuple(ProblemHost(f"h{i:02}", amount) for i, amount in enumerate(free))
    placed = [(f"h{home:02}", size) for home, sizes in vms.items() for size in sizes]
    return Problem(hosts, tuple(ProblemVm(f"v{i:03}", size, home) for i, (home, size) in enumerate(placed)))


@pytest.mark.parametrize(
    ("free", "vms", "more"),
    [
        ([90] * 9, {0: [64], **{i: [2] * 10 for i in range(9)}}, [90]),
        ([100] * 16, {0: [96], **{i: [4] * 12 for i in range(1, 16)}}, [100]),
        ([100] * 16, {0: [96], **{i: [4] * 12 for i in range(1, 16)}}, [0]),
        ([100] * 32, {0: [96], **{i: [1] * 40 for i in range(1, 32)}}, [100]),
    ],
    ids=["nine hosts and an empty one", "sixteen and an empty one", "sixteen and a dead one", "thirty-two and an empty one"],
)
def test_where_the_answer_of_xenserver_falls_with_one_host_more_this_one_does_not(
    free: list[int], vms: dict[int, list[int]], more: list[int]
) -> None:
    before, after = (sharpen(built(hosts, vms), ENDLESS).plan for hosts in (free, free + more))
    assert before.exact
    assert after.exact
    assert after.lower >= before.lower
    if more == [0]:
        assert after.lower == before.lower


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SMALL, st.integers(1, 3))
def test_hosts_without_memory_and_vms_do_not_change_the_answer(problem: Problem, dead: int) -> None:
    if not problem.vms:
        return
    before = sharpen(problem, ENDLESS).plan
    after = sharpen(replace(problem, hosts=(*problem.hosts, *(ProblemHost(f"dead{i}", 0) for i in range(dead)))), ENDLESS).plan
    assert (after.lower, after.upper, after.exact, after.plan_exists) == (before.lower, before.upper, before.exact, before.plan_exists)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SMALL, st.integers(0, 2**32).map(Random))
def test_the_order_of_the_input_changes_nothing(problem: Problem, dice: Random) -> None:
    shuffled = replace(
        problem,
        hosts=tuple(dice.sample(problem.hosts, len(problem.hosts))),
        vms=tuple(dice.sample(problem.vms, len(problem.vms))),
    )
    assert written(sharpen(shuffled, ENDLESS)) == written(sharpen(problem, ENDLESS))


def written(found: Sharp) -> str:
    """Everything that is told about an answer, as text."""
    certificate = None if found.certificate is None else certificate_json(found.certificate)
    return json.dumps([plan_json(found.plan, 0.0), certificate])


def test_two_runs_of_the_command_in_other_orders_and_with_other_hashes_give_the_same_plan_and_certificate(tmp_path: Path) -> None:
    document = json.loads(json_of(pools.pool(8, 80, 45, 1, limited_percent=10)))
    answers = []
    for seed in (1, 2):
        dice = Random(seed)
        dice.shuffle(document["hosts"])
        dice.shuffle(document["vms"])
        problem, proof = tmp_path / "problem.json", tmp_path / f"proof-{seed}.json"
        problem.write_text(json.dumps(document))
        command = [sys.executable, "-m", "quorate_cli", "plan", "--problem", problem, "--think", "30", "-o", "json", "--certificate", proof]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        del answer["elapsedSeconds"]
        answers.append((json.dumps(answer), proof.read_text()))
    assert answers[0] == answers[1]

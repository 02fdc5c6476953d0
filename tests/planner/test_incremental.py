"""The plan that is kept: yes after a change means a certificate for exactly the changed pool, and the rule that runs is never stuck."""

import json
from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quorate_core.facts import Snapshot
from quorate_core.layout import LaidZone, Layout
from quorate_planner import (
    Answer,
    Certificate,
    Problem,
    ProblemHost,
    ProblemVm,
    Proof,
    Zone,
    certificate_json,
    layout_of,
    mended,
    objections,
    plan,
    plan_problem,
    prove,
    restart_targets,
    start,
)

from .oracle import tolerates
from .pools import problems, snapshot_of
from .test_sharp import json_of


@st.composite
def laid(draw: st.DrawFn, hosts: int = 4, vms: int = 7) -> tuple[Problem, Layout]:
    """A tiny pool and a layout of two or three zones for it: sometimes good, often not, always well formed."""
    problem = draw(problems(hosts, vms))
    chains = draw(st.lists(st.sampled_from([(1, 2, 4, 12), (2, 6, 12), (3, 6, 12), (5, 15), None]), min_size=1, max_size=3))
    parts = [draw(st.integers(0, 4)) for _ in chains]
    parts[draw(st.integers(0, len(chains) - 1))] += 2
    memory: list[dict[str, int]] = [{} for _ in chains]
    for host in problem.hosts:
        for zone, chain, part in zip(memory, chains, parts, strict=True):
            share = host.free * part // sum(parts)
            zone[host.name] = share - share % (chain or (1,))[0]
    bind = {vm.name: draw(st.integers(0, len(chains) - 1)) for vm in problem.vms}
    fitting = {name: at for name, at in bind.items() if (chains[at] or (12,))[-1] >= next(v.size for v in problem.vms if v.name == name)}
    zones = tuple(Zone(zone, chain) for zone, chain in zip(memory, chains, strict=True))
    return problem, layout_of(problem, Certificate(0, zones, fitting))


def check(proof: Proof) -> None:
    """What holds passes the page of arithmetic that shares no code with it, and is found again from what is kept of it."""
    certificate = proof.certificate()
    said = objections(json_of(proof.problem()), json.dumps(certificate_json(certificate)))
    assert (said == []) == proof.holds or (proof.holds is False and proof.unbound), said
    again = Proof(proof.problem(), proof.layout(), proof.failures)
    if not proof.unbound:
        assert again.net == proof.net
        assert again.margins == proof.margins
        assert again.holds == proof.holds
    most = proof.certified()
    assert (most >= proof.failures) == proof.holds or proof.failures < 0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(laid(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_yes_after_any_sequence_of_changes_is_a_certificate_of_the_changed_pool(
    pool: tuple[Problem, Layout], failures: int, dice: Random
) -> None:
    problem, layout = pool
    proof = Proof(problem, layout, failures)
    check(proof)
    vms = {vm.name: vm for vm in problem.vms}
    free = {host.name: host.free for host in problem.hosts}
    for number in range(6):
        name = dice.choice([*vms, f"new{number}"])
        before, host = vms.get(name), dice.choice(sorted(free))
        after = dice.choice([None, ProblemVm(name, dice.choice([1, 2, 3, 4, 6, 8]), dice.choice([host, host, None]))])
        amounts = {}
        if before is not None and before.host is not None:
            amounts[before.host] = free[before.host] + before.size
        if after is not None and after.host is not None:
            amounts[after.host] = max(0, amounts.get(after.host, free[after.host]) - after.size)
        proof = proof.changed({name: after}, amounts)
        free |= amounts
        vms.pop(name, None)
        if after is not None:
            vms[name] = after
        assert proof.problem(problem.wish) == Problem(
            tuple(ProblemHost(h.name, free[h.name]) for h in problem.hosts), tuple(vms.values()), problem.wish
        )
        check(proof)
        check(mended(proof))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(laid(), st.integers(0, 2))
def test_what_the_layout_or_a_moved_one_proves_is_true(pool: tuple[Problem, Layout], failures: int) -> None:
    problem, layout = pool
    judged = prove(problem, failures, layout)
    if judged.proof is not None:
        assert judged.answer is Answer.YES
        check(judged.proof)
        assert tolerates(problem, failures)
    elif judged.answer is Answer.NO:
        assert not tolerates(problem, failures)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(laid(), st.integers(0, 2))
def test_a_start_that_is_admitted_keeps_the_promise(pool: tuple[Problem, Layout], failures: int) -> None:
    problem, layout = pool
    proof = mended(Proof(problem, layout, failures))
    assume(proof.holds)
    for host in problem.hosts:
        after = start(proof, ProblemVm("new", 2, None), host.name)
        if after is not None:
            assert host.free >= 2
            check(after)
            assert tolerates(after.problem(), failures)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(laid(), st.randoms(use_true_random=False))
def test_the_rule_follows_the_kept_layout_and_is_never_stuck_within_what_was_promised(pool: tuple[Problem, Layout], dice: Random) -> None:
    problem, layout = pool
    snapshot = replace(snapshot_of(problem), layout=layout)
    promised = plan(snapshot)
    if promised.waiting_placed:
        _play(_restarted(snapshot, dice), promised.lower, dice)


def _play(snapshot: Snapshot, failures: int, dice: Random) -> None:
    """Nobody lays zones anew between the failures: what was kept before the first serves to the last."""
    for together in range(1, min(failures, len(snapshot.hosts)) + 1):
        for failed in combinations(snapshot.hosts, together):
            survivors = replace(snapshot, hosts=tuple(host for host in snapshot.hosts if host not in failed))
            _play(_restarted(survivors, dice), failures - together, dice)


def _restarted(snapshot: Snapshot, dice: Random) -> Snapshot:
    living = {host.name for host in snapshot.hosts}
    waiting = [vm for vm in snapshot.vms if vm.host not in living]
    dice.shuffle(waiting)
    half = len(waiting) // 2
    for part in (waiting[:half], waiting[half:]):  # the controller restarts in several turns
        targets = restart_targets(snapshot, part, {vm.key: dice.choice(snapshot.hosts).name for vm in part if snapshot.hosts})
        assert None not in targets.values(), f"stuck: {targets} on {snapshot}"
        snapshot = replace(
            snapshot,
            hosts=tuple(
                replace(host, used_bytes=host.used_bytes + sum(vm.size_bytes for vm in part if targets[vm.key] == host.name))
                for host in snapshot.hosts
            ),
            vms=tuple(replace(vm, host=targets.get(vm.key, vm.host)) for vm in snapshot.vms),
        )
        assert all(host.used_bytes <= host.allocatable_bytes for host in snapshot.hosts)
    return snapshot


@settings(max_examples=150, deadline=None, derandomize=True)
@given(laid())
def test_the_placements_shown_with_a_layout_are_the_ones_that_run(pool: tuple[Problem, Layout]) -> None:
    problem, layout = pool
    snapshot = replace(snapshot_of(problem), layout=layout)
    for host, shown in plan(snapshot).placements.items():
        survivors = replace(snapshot, hosts=tuple(h for h in snapshot.hosts if h.name != host))
        moving = sorted((vm for vm in snapshot.vms if vm.host == host), key=lambda vm: (vm.priority, vm.key))
        run = restart_targets(survivors, moving, shown)
        assert shown == {key: target for key, target in run.items() if target is not None}


def test_a_layout_that_proves_more_than_one_zone_raises_the_number() -> None:
    """Two chains: no single one rounds both sizes well; the cut of the memory was found once and is kept."""
    hosts = tuple(ProblemHost(f"h{i}", 15) for i in range(3))
    vms = (ProblemVm("a", 5, "h0"), ProblemVm("b", 5, "h1"), ProblemVm("c", 4, "h0"), ProblemVm("d", 4, "h1"), ProblemVm("e", 6, "h2"))
    problem = Problem(hosts, vms, wish=1)
    zones = (LaidZone((5, 10), {"h0": 10, "h1": 10, "h2": 10}), LaidZone((4,), {}), LaidZone(None, {}))
    kept = Layout(zones, {"a": 0, "b": 0, "c": 0, "d": 0, "e": 0})
    assert Proof(problem, kept, 1).certified() >= 0
    assert plan_problem(problem, kept).lower >= plan_problem(problem).lower


def test_a_damaged_layout_is_never_believed() -> None:
    problem = Problem((ProblemHost("a", 4), ProblemHost("b", 4)), (ProblemVm("v", 4, "a"), ProblemVm("w", 4, "b")), wish=1)
    lies = Layout((LaidZone((4,), {"a": 400, "b": 400, "gone": 8}),), {"v": 0, "w": 7, "gone": 0})
    proof = Proof(problem, lies, 1)
    assert sum(map(sum, proof.net)) <= 8
    assert proof.holds
    check(proof)
    assert Proof(problem, Layout((), {}), 1).holds is False
    assert plan_problem(problem, Layout((), {})).lower == 1

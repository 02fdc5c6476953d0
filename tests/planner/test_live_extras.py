"""Hugepages and VMs kept apart in a live pool: the layout that is kept, the proof that reads it, and the rule that runs at a failure."""

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_planner import (
    Answer,
    Problem,
    ProblemHost,
    ProblemVm,
    Proof,
    best_layout,
    certificate_json,
    holds,
    layout_of,
    objections,
    plan,
    problem_of,
    prove,
    restart_targets,
    sharpen,
    start_hosts,
    started,
    targets,
)

from .attacks import Game, StuckError, play_everything
from .oracle import tolerates
from .pools import snapshot_of
from .test_extras import ENDLESS, pools_with_extras
from .test_sharp import json_of

DB = frozenset({"db"})


@st.composite
def live_pools(draw: st.DrawFn, hosts: int = 4) -> Problem:
    """Pools as they can be live: nobody is where he must not be. Their bracket is above zero often enough."""
    problem = draw(pools_with_extras(hosts=hosts))
    seen: set[tuple[str, str | None]] = set()
    vms = []
    for vm in problem.vms:
        here = {(label, vm.host) for label in vm.apart if vm.host is not None}
        vms.append(vm._replace(apart=frozenset()) if here & seen else vm)
        seen |= here & {(label, vm.host) for label in vms[-1].apart}
    more = draw(st.sampled_from([0, 10, 30]))
    return Problem(tuple(host._replace(domain=None, free=host.free + more) for host in problem.hosts), tuple(vms))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(live_pools(), st.randoms(use_true_random=False))
def test_the_controller_keeps_the_promise_with_hugepages_and_vms_kept_apart(problem: Problem, dice: Random) -> None:
    certificate = sharpen(problem, ENDLESS).certificate
    if certificate is not None and problem.vms:
        play_everything(Game.keeping(problem, certificate).restarted(dice), dice)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(live_pools())
def test_what_the_kept_layout_proves_is_what_its_certificate_says_and_a_sceptic_accepts_it(problem: Problem) -> None:
    found = sharpen(problem, ENDLESS)
    if found.certificate is None or not problem.vms:
        return
    layout = layout_of(problem, found.certificate)
    proof = Proof(problem, layout, found.certificate.failures)
    assert proof.holds
    accepted = objections(json_of(problem), json.dumps(certificate_json(proof.certificate())))
    assert accepted == []
    assert best_layout(problem, [layout]) is not None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(live_pools(), live_pools(), st.integers(0, 2))
def test_a_layout_made_for_another_pool_proves_nothing_that_is_not_true(problem: Problem, other: Problem, failures: int) -> None:
    found = sharpen(other, ENDLESS).certificate
    if found is None or not problem.vms:
        return
    layout = layout_of(other, found)
    if Proof(problem, layout, failures).holds:
        assert tolerates(problem, failures)
    judged = prove(problem, failures, layout, ENDLESS)
    if judged.answer is Answer.YES:
        assert tolerates(problem, failures)
        assert judged.proof is None or objections(json_of(problem), json.dumps(certificate_json(judged.proof.certificate()))) == []


def replicas(hosts: int, vms: int, *, free: int = 100, pages: int = 0, apart: frozenset[str] = DB) -> Problem:
    return Problem(
        tuple(ProblemHost(f"h{i}", free, hugepages=2 * pages) for i in range(hosts)),
        tuple(ProblemVm(f"v{i}", 10, f"h{i}", apart=apart, hugepages=pages) for i in range(vms)),
    )


def kept(snapshot: Snapshot, wish: int = 1) -> Snapshot:
    """The snapshot with the layout that its leader keeps."""
    snapshot = replace(snapshot, pool=Pool("p", wish))
    return replace(snapshot, layout=best_layout(problem_of(snapshot), ()))


def test_without_any_search_the_leader_finds_zones_for_vms_kept_apart() -> None:
    snapshot = kept(snapshot_of(replicas(5, 3)), wish=2)
    found = plan(snapshot)
    assert (found.lower, found.upper, found.plan_exists) == (2, 2, True)
    places = {vm: target for host in found.placements.values() for vm, target in host.items()}
    assert set(places.values()) <= {"h3", "h4"}


def test_an_unprotected_vm_that_must_not_be_beside_closes_its_host() -> None:
    snapshot = snapshot_of(replicas(4, 2, apart=DB))
    assert holds(kept(snapshot, 2), 2)
    other = Vm("other", 10, "h3", apart=DB)
    with_it = kept(replace(snapshot, vms=(*snapshot.vms, other)), 2)
    assert not holds(with_it, 2)
    assert holds(with_it, 1)
    after = [replace(vm, host=None if vm.host == "h0" else vm.host) for vm in with_it.vms]
    survivors = replace(with_it, hosts=with_it.hosts[1:], vms=tuple(after))
    assert restart_targets(survivors, [after[0]], {"v0": "h3"}) == {"v0": "h2"}
    assert restart_targets(replace(survivors, hosts=(survivors.hosts[0], survivors.hosts[2])), [after[0]]) == {"v0": None}


def test_best_effort_vms_leave_the_hosts_of_those_they_must_avoid() -> None:
    snapshot = kept(snapshot_of(replicas(4, 2, apart=DB)))
    assert snapshot.layout is not None
    zone = {name for zone in snapshot.layout.zones for name, amount in zone.memory.items() if amount and name not in {"h0", "h1"}}
    best_effort = Vm("other", 10, None, Protection.BEST_EFFORT, apart=DB)
    target = restart_targets(replace(snapshot, vms=(*snapshot.vms, best_effort)), [best_effort])["other"]
    assert target in {"h2", "h3"} - zone


def test_a_start_beside_one_it_must_avoid_is_never_offered() -> None:
    snapshot = kept(snapshot_of(replicas(5, 2)))
    new = Vm("v9", 10, None, Protection.PROTECTED, apart=DB)
    assert start_hosts(snapshot, new, 1)[:1] not in {("h0",), ("h1",), ()}
    small = kept(snapshot_of(replicas(3, 2)))
    assert start_hosts(small, new, 1) == ()  # each of three hosts would have one of them: none left for a restart


def test_a_second_vm_with_a_label_is_counted_although_the_first_had_it_alone() -> None:
    snapshot = kept(snapshot_of(replicas(2, 1)))
    assert holds(snapshot, 1)
    new = Vm("v9", 10, None, Protection.PROTECTED, apart=DB)
    assert start_hosts(snapshot, new, 1) == ()
    assert not holds(started(snapshot, new, "h1"), 1)
    proof = Proof(problem_of(snapshot), snapshot.layout or pytest.fail("no layout"), 1)
    assert not proof.started(ProblemVm("v9", 10, apart=DB), "h1").holds


def test_hugepages_bound_a_live_pool_where_memory_is_plenty() -> None:
    snapshot = kept(snapshot_of(replicas(4, 4, pages=4, apart=frozenset())), wish=2)
    assert holds(snapshot, 2)
    assert plan(snapshot).upper == 2
    short = replace(snapshot, hosts=tuple(replace(h, allocatable_hugepages_bytes=8 if h.name < "h2" else 4) for h in snapshot.hosts))
    assert not holds(kept(short, 2), 2)
    assert holds(kept(short, 1), 1)
    new = Vm("v9", 10, None, Protection.PROTECTED, hugepages_bytes=4)
    assert start_hosts(kept(short, 1), new, 1) == ()
    assert start_hosts(kept(snapshot, 1), new, 1) != ()


def test_a_host_without_hugepages_is_no_target_however_much_memory_it_has() -> None:
    hosts = (
        Host("rich", 1000),
        Host("paged", 100, allocatable_hugepages_bytes=8),
        Host("half", 100, allocatable_hugepages_bytes=8, used_hugepages_bytes=6),
    )
    vms = [Vm(name, 10, None, Protection.PROTECTED, hugepages_bytes=4) for name in ("a", "b", "c")]
    snapshot = Snapshot(Pool("p"), hosts, tuple(vms))
    assert restart_targets(snapshot, vms, {"a": "rich"}) == {"a": "paged", "b": "paged", "c": None}


def test_a_rule_that_forgets_hugepages_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: places are chosen by memory alone."""
    honest = targets.Restarts.place
    problem = replicas(4, 4, pages=4, apart=frozenset())
    problem = replace(problem, hosts=tuple(h._replace(hugepages=0) if h.name == "h0" else h for h in problem.hosts))
    game = Game.keeping(problem, sharpen(problem, ENDLESS).certificate or pytest.fail("nothing proven"))
    assert game.left >= 1
    without_layout = replace(game, layout=None)
    play_everything(game, Random(1))
    play_everything(without_layout, Random(1))
    monkeypatch.setattr(targets.Restarts, "place", lambda self, vm, planned=None: honest(self, vm._replace(hugepages=0), planned))
    with pytest.raises(StuckError):
        play_everything(without_layout, Random(1))


def test_a_planner_that_forgets_unprotected_vms_of_the_same_label_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: only protected VMs keep each other away."""
    other = Vm("other", 10, "h2", apart=DB)

    def lands_beside() -> bool:
        snapshot = snapshot_of(replicas(3, 2, apart=DB))
        snapshot = kept(replace(snapshot, vms=(*snapshot.vms, other)))
        waits = [replace(vm, host=None if vm.host == "h0" else vm.host) for vm in snapshot.vms]
        survivors = replace(snapshot, hosts=snapshot.hosts[1:], vms=tuple(waits))
        return holds(snapshot, 1) or restart_targets(survivors, [waits[0]])["v0"] == "h2"

    assert not lands_beside()
    monkeypatch.setattr("quorate_planner.facts.taken", lambda snapshot: {})
    assert lands_beside()

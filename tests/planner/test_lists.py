"""Restart lists: what they claim, held against the whole game, on pools where almost every VM has its own set of hosts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate_core.layout import Layout
from quorate_planner import (
    Answer,
    Budget,
    Certificate,
    Problem,
    ProblemHost,
    ProblemVm,
    Zone,
    best_layout,
    certificate_json,
    layout_of,
    listing,
    lists,
    objections,
    plan_problem,
    prove,
    sharpen,
    start_hosts,
)
from quorate_planner.targets import targets

from .attacks import Game, StuckError, attacks, hunt, play_everything
from .oracle import tolerates
from .pools import snapshot_of

ENDLESS = Budget(lambda: 0.0, 600.0)


def overlapping(seed: int) -> Problem:
    """A tiny pool in which most VMs may use some hosts only, each others."""
    dice = Random(seed)
    names = [f"h{i}" for i in range(dice.randint(3, 5))]
    sizes = dice.sample([1, 2, 3, 4, 5, 6, 8, 12], 3)
    vms = []
    for i in range(dice.randint(3, 7)):
        home = None if dice.random() < 0.08 else dice.choice(names)
        allowed = frozenset([home or dice.choice(names), *dice.sample(names, dice.randint(1, len(names) - 1))])
        vms.append(ProblemVm(f"v{i}", dice.choice(sizes), home, allowed if dice.random() < 0.8 else None))
    plenty = dice.choice([8, 14, 20])
    racks = dice.random() < 0.2
    return Problem(tuple(ProblemHost(n, dice.randint(0, plenty), f"r{i // 2}" if racks else None) for i, n in enumerate(names)), tuple(vms))


POOLS = st.integers(0, 2**48).map(overlapping)


def by_lists(problem: Problem, failures: int) -> Certificate | None:
    found = listing.certified_by_lists(problem, failures - 1, failures, ENDLESS.left_seconds)
    return found if found is not None and found.failures == failures else None


def json_of(problem: Problem) -> str:
    """The problem as a file of the documented form."""
    vms = [
        {"name": v.name, "size": v.size, "host": v.host, "allowed": None if v.allowed is None else sorted(v.allowed)} for v in problem.vms
    ]
    hosts = [{"name": host.name, "free": host.free, "domain": host.domain} for host in problem.hosts]
    return json.dumps({"hosts": hosts, "vms": vms})


def accepted(problem: Problem, certificate: Certificate) -> bool:
    return not objections(json_of(problem), json.dumps(certificate_json(certificate)))


def hold_to_the_truth(problem: Problem, dice: Random) -> None:
    for failures in (1, 2):
        found = by_lists(problem, failures)
        if found is None:
            return
        assert tolerates(problem, failures)
        assert accepted(problem, found)
        if all(host.domain is None for host in problem.hosts):  # the game lets hosts fail, not domains
            for start in (Game.following, Game.keeping):
                play_everything(start(problem, found).restarted(dice), dice)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(POOLS, st.integers(0, 2**32).map(Random))
def test_no_lists_are_ever_refuted_by_the_whole_game_or_by_any_order_of_failures_and_restarts(problem: Problem, dice: Random) -> None:
    hold_to_the_truth(problem, dice)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(POOLS, st.integers(0, 2**32).map(Random))
def test_twenty_thousand_pools_refute_no_lists(problem: Problem, dice: Random) -> None:
    hold_to_the_truth(problem, dice)


def test_a_rule_that_takes_the_second_host_of_a_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lists.Listed.__init__

    def turned(self: lists.Listed, each: lists.Lists, free: Mapping[str, int], keep: Mapping[str, int]) -> None:
        honest(self, {name: [*hosts[1:], *hosts[:1]] for name, hosts in each.items()}, free, keep)

    monkeypatch.setattr(lists.Listed, "__init__", turned)
    with pytest.raises(StuckError):
        hold_many_to_the_truth()


def test_a_count_that_forgets_where_a_vm_goes_after_its_first_restart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lists.Moves.steps

    def forgetful(self: lists.Moves, vm: ProblemVm, hosts: Sequence[int]) -> tuple[list[tuple[frozenset[int], int]], frozenset[int]]:
        steps, needed = honest(self, vm, hosts)
        return steps[:1], needed

    monkeypatch.setattr(lists.Moves, "steps", forgetful)
    with pytest.raises(AssertionError):
        hold_many_to_the_truth()


def hold_many_to_the_truth() -> None:
    for seed in range(400):
        hold_to_the_truth(overlapping(seed), Random(seed))


def test_overlapping_hosts_are_closed_by_lists_where_zones_leave_the_bracket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [problem for problem in map(overlapping, range(30, 130)) if all(host.domain is None for host in problem.hosts)]
    with_lists = sum(not sharpen(problem, ENDLESS).plan.exact for problem in pools)
    monkeypatch.setattr(listing, "certified_by_lists", lambda *_: None)
    without = sum(not sharpen(problem, ENDLESS).plan.exact for problem in pools)
    assert (with_lists, without) == (0, 2)


def ring_with(free: int) -> Problem:
    """Each host has a large VM, which may use the host after it, and a small one, which may use the next two."""
    names = [f"h{i}" for i in range(5)]
    vms = []
    for i, name in enumerate(names):
        after, then = names[(i + 1) % 5], names[(i + 2) % 5]
        vms += [ProblemVm(f"large{i}", 4, name, frozenset({name, after})), ProblemVm(f"small{i}", 3, name, frozenset({name, after, then}))]
    return Problem(tuple(ProblemHost(name, free) for name in names), tuple(vms))


RING = ring_with(4)
"""One failure is survived if the large VM goes to the next host, and the small one to the one after that."""


def ring() -> Certificate:
    found = by_lists(RING, 1)
    assert found is not None
    return found


def test_a_certificate_of_lists_is_refused_with_a_byte_moved_a_host_swapped_or_a_failure_more() -> None:
    honest = certificate_json(ring())
    assert objections(json_of(RING), json.dumps(honest)) == []
    more = {**honest, "k": 2}
    assert (
        "has no host left" in objections(json_of(RING), json.dumps(more))[0]
        or "bytes come to" in objections(json_of(RING), json.dumps(more))[0]
    )
    crowded = {**honest, "lists": {**honest["lists"], "small0": ["h1"]}}
    assert objections(json_of(RING), json.dumps(crowded)) == ["zone 0: with h0 failed, 7 bytes come to h1, 4 are there"]
    (zone,) = honest["zones"]
    moved = {**honest, "zones": [{**zone, "z": {**zone["z"], "h0": zone["z"]["h0"] + 1}}]}
    assert objections(json_of(RING), json.dumps(moved)) == ["host h0: its zones keep 5 bytes, 1 more than it has free"]
    nowhere = {**honest, "lists": {**honest["lists"], "small0": ["h3", "gone"]}}
    assert objections(json_of(RING), json.dumps(nowhere)) == ["zone 0: with h0 failed, VM small0 has no host left on its list"]


def test_fewer_failures_than_the_set_that_is_summed_up_bring_no_host_more() -> None:
    for seed in range(300):
        problem = overlapping(seed)
        found = by_lists(problem, 2)
        if found is not None:
            moves = lists.Moves(problem, found.lists)
            assert all(moves.covers(fewer) for fewer in range(3)), problem


def test_what_is_kept_is_what_runs_and_what_is_announced() -> None:
    layout = layout_of(RING, ring())
    planned = plan_problem(RING, layout)
    assert (planned.lower, plan_problem(RING).lower) == (1, 0)
    assert planned.placements["h0"] == {vm.name: layout.lists[vm.name][0] for vm in RING.vms if vm.host == "h0"}
    left = Problem(
        RING.hosts[1:], tuple(v._replace(host=None, allowed=(v.allowed or frozenset()) - {"h0"}) for v in RING.vms if v.host == "h0")
    )
    assert targets(left, layout, left.vms, {}) == planned.placements["h0"]


def test_lists_that_no_longer_hold_are_not_believed() -> None:
    layout = layout_of(RING, ring())
    smaller = Problem(tuple(host._replace(free=2) for host in RING.hosts), RING.vms)
    assert plan_problem(smaller, layout).lower == 0
    lies = Layout(lists={"small0": ("gone", "h0"), "other": ("h1",)})
    assert plan_problem(RING, lies).lower == 0
    assert targets(RING, lies, [ProblemVm("new", 3)], {})["new"] is not None


def test_a_vm_that_starts_gets_a_list_and_the_others_keep_theirs() -> None:
    layout = layout_of(RING, ring())
    grown = Problem(ring_with(7).hosts, (*RING.vms, ProblemVm("new", 3, "h0", frozenset({"h0", "h3"}))))
    kept = best_layout(grown, [layout])
    assert kept is not None
    assert kept.lists["new"] == ("h3",)
    assert {name: kept.lists[name] for name in layout.lists} == dict(layout.lists)
    assert prove(grown, 1, layout).answer is Answer.YES
    assert best_layout(RING, [layout]) is layout


def test_a_start_is_sent_where_lists_still_cover_the_wish() -> None:
    snapshot = snapshot_of(ring_with(7))
    vm = snapshot_of(Problem(RING.hosts, (ProblemVm("new", 3, None, frozenset({"h0", "h3"})),))).vms[0]
    by_list = Layout(lists=ring().lists)
    plain = start_hosts(snapshot, vm, 1)
    for name in start_hosts(replace(snapshot, layout=by_list), vm, 1):
        assert name in {"h0", "h3"}
        assert not plain
        break
    else:
        raise AssertionError("no host was found")


def test_the_same_pool_gets_the_same_lists_whatever_the_order_of_the_input() -> None:
    problem = overlapping(11)
    turned = Problem(problem.hosts[::-1], problem.vms[::-1])
    assert sharpen(problem, ENDLESS).certificate == sharpen(turned, ENDLESS).certificate


def test_more_sets_than_can_be_looked_at_claim_nothing() -> None:
    hosts = tuple(ProblemHost(f"h{i:03}", 8) for i in range(100))
    problem = Problem(hosts, (ProblemVm("v", 1, "h000"),))
    every = {"v": tuple(host.name for host in hosts)}
    assert lists.certified(problem, every) == 1
    assert lists.Moves(problem, every).covers(4) is False
    claimed = Certificate(20, (Zone({host.name: host.free for host in hosts}, None, listed=True),), {"v": 0}, every)
    assert objections(json_of(problem), json.dumps(certificate_json(claimed)))[0].endswith("are more than are looked at")


def of_real_size(seed: int) -> Problem:
    """Twelve hosts of 64 GiB with some hundred VMs, most of them limited to one of 24 sets of hosts."""
    dice, gib = Random(seed), 1 << 30
    names = [f"h{i:02}" for i in range(12)]
    sets = [frozenset(dice.sample(names, dice.randint(3, 9))) for _ in range(24)]
    vms: list[ProblemVm] = []
    free = {}
    for name in names:
        used = 0
        while used < 26:
            size = dice.choice([1, 2, 3, 4, 6, 8])
            used += size
            fitting = [hosts for hosts in sets if name in hosts]
            allowed = dice.choice(fitting) if fitting and dice.random() < 0.7 else None
            vms.append(ProblemVm(f"v{len(vms):03}", size * gib + dice.randrange(1 << 20), name, allowed))
        free[name] = (64 - used) * gib
    return Problem(tuple(ProblemHost(name, amount) for name, amount in free.items()), tuple(vms))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_attack_within_the_promise_gets_a_pool_of_real_size_stuck_while_the_controller_keeps_its_lists(seed: int) -> None:
    problem, dice = of_real_size(seed), Random(seed)
    found = by_lists(problem, 2)
    assert found is not None
    assert accepted(problem, found)
    assert plan_problem(problem).lower < 2
    game = Game.keeping(problem, found)
    for sequence in attacks(problem, 2, dice, rounds=6):
        now = game
        for failed in sequence:
            now = now.after(failed, dice)
    hunt(game, dice)

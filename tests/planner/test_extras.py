"""Hugepages, VMs that must not share a host, failure domains: against the whole game, the sceptic's arithmetic, and the rule that runs."""

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_planner import (
    Budget,
    Certificate,
    Problem,
    ProblemError,
    ProblemHost,
    ProblemVm,
    certificate_json,
    follow,
    load,
    objections,
    plan_problem,
    sharpen,
)

from .oracle import tolerates
from .test_sharp import json_of

ENDLESS = Budget(lambda: 0.0, 600.0)


@st.composite
def pools_with_extras(draw: st.DrawFn, hosts: int = 4, vms: int = 6) -> Problem:
    """Tiny pools in which hugepages, labels, allowed hosts and domains all occur, each also alone."""
    names = [f"h{i}" for i in range(draw(st.integers(1, hosts)))]
    paged, labelled, limited, racked = (draw(st.booleans()) for _ in range(4))
    plenty = draw(st.sampled_from([8, 16, 40]))
    made = [
        ProblemVm(
            f"v{i}",
            draw(st.sampled_from([1, 2, 3, 4, 6, 8])),
            draw(st.sampled_from([*names, None] if i % 3 == 0 else names)),
            frozenset(draw(st.lists(st.sampled_from(names), min_size=1))) if limited and i % 3 == 1 else None,
            hugepages=draw(st.integers(0, 4)) if paged else 0,
            apart=frozenset(draw(st.lists(st.sampled_from("ab"), max_size=2))) if labelled else frozenset(),
        )
        for i in range(draw(st.integers(0, vms)))
    ]
    made_hosts = [
        ProblemHost(
            name, draw(st.integers(0, plenty)), draw(st.sampled_from(["r1", "r2", None])) if racked else None, draw(st.integers(0, 12))
        )
        for name in names
    ]
    return Problem(tuple(made_hosts), tuple(made))


@settings(max_examples=250, deadline=None, derandomize=True)
@given(pools_with_extras())
def test_with_extras_the_bracket_contains_the_truth_and_its_certificate_is_accepted(problem: Problem) -> None:
    found = sharpen(problem, ENDLESS)
    assert found.plan.lower <= found.plan.upper
    if found.plan.waiting_placed:
        assert tolerates(problem, found.plan.lower)
        assert found.certificate is not None
    elif found.plan.exact:
        assert not tolerates(problem, 0)
    if found.plan.upper < found.plan.hosts and problem.vms:
        assert not tolerates(problem, found.plan.upper + 1) or found.plan.upper >= _groups(problem)
    if found.certificate is not None:
        assert found.certificate.failures == found.plan.lower
        assert objections(json_of(problem), json.dumps(certificate_json(found.certificate))) == []


def _groups(problem: Problem) -> int:
    return len({host.domain or host.name for host in problem.hosts})


@settings(max_examples=120, deadline=None, derandomize=True)
@given(pools_with_extras(), st.randoms(use_true_random=False))
def test_with_extras_following_the_certificate_is_never_stuck_and_keeps_apart_what_must_be(problem: Problem, dice: Random) -> None:
    certificate = sharpen(problem, ENDLESS).certificate
    if certificate is not None and problem.vms:
        _play(problem, certificate, dice)


def _play(problem: Problem, certificate: Certificate, dice: Random) -> None:
    problem, certificate = _restarted(problem, certificate, dice)
    racks: dict[str, set[str]] = {}
    for host in problem.hosts:
        racks.setdefault(host.domain or f"host {host.name}", set()).add(host.name)
    for together in range(1, min(certificate.failures, len(racks)) + 1):
        for failed in combinations(sorted(racks), together):
            gone = set().union(*(racks[rack] for rack in failed))
            _play(_without(problem, gone), replace(certificate, failures=certificate.failures - together + len(gone)), dice)


def _without(problem: Problem, gone: set[str]) -> Problem:
    vms = tuple(
        vm._replace(host=None if vm.host in gone else vm.host, allowed=None if vm.allowed is None else vm.allowed - gone)
        for vm in problem.vms
    )
    return replace(problem, hosts=tuple(host for host in problem.hosts if host.name not in gone), vms=vms)


def _restarted(problem: Problem, certificate: Certificate, dice: Random) -> tuple[Problem, Certificate]:
    waiting = [vm for vm in problem.vms if vm.host is None]
    dice.shuffle(waiting)
    left = certificate.failures
    targets, certificate = follow(certificate, [host.name for host in problem.hosts], waiting)
    assert None not in targets.values(), f"stuck with {left} failures still covered: {targets}"
    taken: Counter[str | None] = Counter()
    paged: Counter[str | None] = Counter()
    for vm in waiting:
        assert vm.allowed is None or targets[vm.name] in vm.allowed
        taken[targets[vm.name]] += vm.size
        paged[targets[vm.name]] += vm.hugepages
    hosts = tuple(host._replace(free=host.free - taken[host.name], hugepages=host.hugepages - paged[host.name]) for host in problem.hosts)
    assert all(host.free >= 0 and host.hugepages >= 0 for host in hosts)
    vms = tuple(vm._replace(host=targets.get(vm.name, vm.host)) for vm in problem.vms)
    for vm in waiting:
        here = [other for other in vms if other.host == targets[vm.name] and other.name != vm.name]
        assert not any(vm.apart & other.apart for other in here), f"{vm.name} beside {here}"
    return replace(problem, hosts=hosts, vms=vms), certificate


def replicas(hosts: int, vms: int, **extras: object) -> Problem:
    """VMs of one group, each on a host of its own."""
    return Problem(
        tuple(ProblemHost(f"h{i}", 100, hugepages=8) for i in range(hosts)),
        tuple(ProblemVm(f"v{i}", 10, f"h{i}", **extras) for i in range(vms)),  # type: ignore[arg-type]
    )


def test_three_replicas_that_must_not_share_a_host_leave_hosts_minus_three() -> None:
    assert sharpen(replicas(7, 3), ENDLESS).plan.lower == 6
    apart = sharpen(replicas(7, 3, apart=frozenset({"db"})), ENDLESS)
    assert (apart.plan.lower, apart.plan.upper, apart.plan.exact) == (4, 4, True)
    assert apart.plan.witness is not None
    assert len(apart.plan.witness.failed_hosts) == 5


def test_a_label_that_one_vm_has_alone_keeps_nobody_apart() -> None:
    problem = replicas(4, 3)
    alone = replace(problem, vms=(problem.vms[0]._replace(apart=frozenset({"x"})), *problem.vms[1:]))
    assert sharpen(alone, ENDLESS).plan.lower == 3


def test_hugepages_bound_the_answer_where_memory_is_plenty() -> None:
    found = sharpen(replicas(4, 4, hugepages=4), ENDLESS)
    assert (found.plan.lower, found.plan.upper, found.plan.exact) == (2, 2, True)
    assert found.certificate is not None
    assert found.certificate.zones[-1].hugepages == (4,)


def test_vms_without_extras_keep_the_memory_that_hugepages_leave() -> None:
    problem = replicas(4, 4, hugepages=4)
    both = replace(problem, vms=(*problem.vms, *(ProblemVm(f"w{i}", 60, f"h{i}") for i in range(4))))
    assert sharpen(both, ENDLESS).plan.lower == 2
    assert plan_problem(both).lower == 0  # the first bracket counts memory only and claims nothing below


def test_a_certificate_that_breaks_what_is_beside_memory_is_refused() -> None:
    apart = replicas(4, 3, apart=frozenset({"db"}))
    paged = replicas(4, 4, hugepages=4)
    good = {name: sharpen(problem, ENDLESS).certificate for name, problem in (("apart", apart), ("paged", paged))}
    assert good["apart"] is not None
    assert good["paged"] is not None
    kept, pages = certificate_json(good["apart"]), certificate_json(good["paged"])
    (zone,), (page_zone,) = kept["zones"], pages["zones"]
    spoiled = [
        (apart, {**kept, "zones": [{**zone, "z": {**zone["z"], "h3": 20}}]}, "2 blocks on h3"),
        (apart, {**kept, "zones": [{**zone, "z": {**zone["z"], "h0": 10}}]}, "where one of its VMs runs"),
        (apart, {**kept, "zones": [{**zone, "D": [10, 20]}]}, "exactly one block size"),
        (apart, {**kept, "zones": [{"kind": "any", "z": zone["z"]}]}, "exactly one block size"),
        (paged, {**pages, "zones": [{**page_zone, "z": {**page_zone["z"], "h3": 90}}]}, "bytes of hugepages more than it has"),
        (paged, {**pages, "zones": [{**page_zone, "H": [-4]}]}, "not beside its blocks"),
        (paged, {**pages, "zones": [{**page_zone, "H": [3]}]}, "larger than its largest block"),
        (paged, {**pages, "zones": [{"kind": "any", "z": page_zone["z"]}]}, "needs hugepages"),
    ]
    for problem, certificate, words in spoiled:
        assert any(words in objection for objection in objections(json_of(problem), json.dumps(certificate))), (words, certificate)


def test_the_door_reads_what_is_beside_memory_and_names_what_is_wrong() -> None:
    document = {
        "hosts": [{"name": "a", "free": 8, "hugepages": 4}],
        "vms": [{"name": "v", "size": 1, "host": "a", "hugepages": 2, "apart": ["x"]}],
    }
    problem = load(json.dumps(document))
    assert (problem.hosts[0].hugepages, problem.vms[0].hugepages, problem.vms[0].apart) == (4, 2, frozenset({"x"}))
    for field, wrong, words in [
        ("hugepages", -1, "must not be negative"),
        ("apart", "x", "must be a list"),
        ("apart", [1], "must be a name"),
    ]:
        with pytest.raises(ProblemError, match=words):
            load(json.dumps({**document, "vms": [{**document["vms"][0], field: wrong}]}))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pools_with_extras(), st.lists(st.sampled_from(["r1", "r2", "r3"]), min_size=4, max_size=4))
def test_domains_count_once_in_the_bracket_the_certificate_and_the_arithmetic(problem: Problem, racks: list[str]) -> None:
    hosts = tuple(host._replace(domain=racks[i], hugepages=0) for i, host in enumerate(problem.hosts))
    racked = Problem(hosts, tuple(vm._replace(hugepages=0, apart=frozenset()) for vm in problem.vms))
    found = sharpen(racked, ENDLESS)
    if racked.vms and found.plan.waiting_placed:
        assert tolerates(racked, found.plan.lower)
        assert found.certificate is not None
        assert objections(json_of(racked), json.dumps(certificate_json(found.certificate))) == []
    if racked.vms and found.plan.upper < _groups(racked):
        assert not tolerates(racked, found.plan.upper + 1)

"""The sharp answer: closed brackets, certificates that a stranger's arithmetic accepts, and the rule that follows them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_planner import Budget, Certificate, Problem, Sharp, certificate_json, follow, listing, load, objections, plan_problem, sharpen

from .oracle import tolerates
from .pools import problems
from .test_reference import DATA, NAMES, needs_data

pytest.importorskip("ortools", reason="OR-Tools is not installed: without it the planner gives its first bracket, or lists")

ENDLESS = Budget(lambda: 0.0, 600.0)
"""A clock that stands still: the answer then depends on the problem alone."""


@cache
def sharp(name: str) -> Sharp:
    return sharpen(load(text_of(name)), ENDLESS)


def text_of(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def json_of(problem: Problem) -> str:
    """The problem as a file of the documented form."""
    hosts = [{"name": host.name, "free": host.free, "domain": host.domain, "hugepages": host.hugepages} for host in problem.hosts]
    vms = [
        {
            "name": vm.name,
            "size": vm.size,
            "host": vm.host,
            "allowed": None if vm.allowed is None else sorted(vm.allowed),
            "hugepages": vm.hugepages,
            "apart": sorted(vm.apart),
        }
        for vm in problem.vms
    ]
    return json.dumps({"hosts": hosts, "vms": vms})


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_every_public_problem_is_closed_at_its_exact_number_with_a_certificate(name: str) -> None:
    found = sharp(name)
    assert (found.plan.lower, found.plan.upper, found.plan.exact) == (_exact(name), _exact(name), True)
    assert found.certificate is not None
    assert found.certificate.failures == found.plan.lower
    assert objections(text_of(name), json.dumps(certificate_json(found.certificate))) == []


def _exact(name: str) -> int:
    rows = (DATA / "reference.csv").read_text().splitlines()
    column = rows[0].split(",").index("exact")
    return int(next(row.split(",")[column] for row in rows if row.startswith(f"{name},")))


@needs_data
@pytest.mark.parametrize("name", ["h8_v80_l45_s1", "h16_v160_l60_s1", "P5_mixed_sizes", "U1_simultaneous_gap"])
def test_a_certificate_with_one_byte_moved_is_refused(name: str) -> None:
    certificate = sharp(name).certificate
    assert certificate is not None
    good = certificate_json(certificate)
    assert all(zone["kind"] == "chain" for zone in good["zones"])
    spoiled = []
    for at, zone in enumerate(good["zones"]):
        hosts = sorted(zone["z"])
        for one, other in [(hosts[0], hosts[-1]), (hosts[-1], hosts[0])]:
            bad = json.loads(json.dumps(good))
            bad["zones"][at]["z"][one] += 1
            bad["zones"][at]["z"][other] -= 1 if one != other else 0
            spoiled.append(bad)
    spoiled.append({**good, "k": good["k"] + 1})
    spoiled.append({**good, "bind": dict(list(good["bind"].items())[1:])})
    spoiled.append({**good, "bind": dict.fromkeys(good["bind"], len(good["zones"]))})
    spoiled.append({**good, "zones": [{**zone, "z": {**zone["z"], "nowhere": 1}} for zone in good["zones"]]})
    for bad in spoiled:
        assert objections(text_of(name), json.dumps(bad)) != []


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"k": 1}', b'{"k": "1", "zones": [], "bind": {}}', b"null", b"[" * 100_000])
def test_what_is_no_certificate_is_refused_in_words(text: bytes) -> None:
    problem = b'{"hosts": [{"name": "a", "free": 1}], "vms": []}'
    assert len(objections(problem, text)) == 1
    assert len(objections(text, b'{"k": 0, "zones": [], "bind": {}}')) == 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems())
def test_the_sharp_bracket_contains_the_truth_and_its_certificate_is_accepted(problem: Problem) -> None:
    plain, found = plan_problem(problem), sharpen(problem, ENDLESS)
    assert plain.lower <= found.plan.lower <= found.plan.upper <= plain.upper
    if found.plan.waiting_placed:
        assert tolerates(problem, found.plan.lower)
        assert found.certificate is not None
    if found.plan.upper < found.plan.hosts:
        assert not tolerates(problem, found.plan.upper + 1)
    if found.certificate is not None:
        assert found.certificate.failures == found.plan.lower
        assert objections(json_of(problem), json.dumps(certificate_json(found.certificate))) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(hosts=4, vms=6), st.randoms(use_true_random=False))
def test_following_a_certificate_is_never_stuck_whatever_fails(problem: Problem, dice: Random) -> None:
    certificate = sharpen(problem, ENDLESS).certificate
    if certificate is not None and problem.vms:
        _play(problem, certificate, dice)


def _play(problem: Problem, certificate: Certificate, dice: Random) -> None:
    """Place what waits, then let every set of hosts fail that the certificate still covers."""
    problem, certificate = _restart(problem, certificate, dice)
    for together in range(1, certificate.failures + 1):
        for failed in combinations([host.name for host in problem.hosts], together):
            _play(_fail(problem, failed), certificate, dice)


def _fail(problem: Problem, failed: tuple[str, ...]) -> Problem:
    vms = (
        vm._replace(host=None if vm.host in failed else vm.host, allowed=None if vm.allowed is None else vm.allowed - set(failed))
        for vm in problem.vms
    )
    return replace(problem, hosts=tuple(host for host in problem.hosts if host.name not in failed), vms=tuple(vms))


def _restart(problem: Problem, certificate: Certificate, dice: Random) -> tuple[Problem, Certificate]:
    waiting = [vm for vm in problem.vms if vm.host is None]
    dice.shuffle(waiting)
    targets, after = follow(certificate, [host.name for host in problem.hosts], waiting)
    assert None not in targets.values(), f"stuck with {certificate.failures} left"
    taken = {host.name: sum(vm.size for vm in waiting if targets[vm.name] == host.name) for host in problem.hosts}
    hosts = tuple(host._replace(free=host.free - taken[host.name]) for host in problem.hosts)
    vms = tuple(vm._replace(host=targets.get(vm.name, vm.host)) for vm in problem.vms)
    return replace(problem, hosts=hosts, vms=vms), after


@needs_data
@pytest.mark.parametrize("name", ["h16_v160_l45_s1", "h16_v400_l60_s1", "h32_v400_l45_s1", "P1_bigvm_10hosts"])
@pytest.mark.parametrize("seed", range(6))
def test_attacks_near_the_critical_sets_in_real_bytes_never_get_stuck(name: str, seed: int) -> None:
    problem, certificate, dice = load(text_of(name)), sharp(name).certificate, Random(seed)
    assert certificate is not None
    k = certificate.failures
    heavy = _heaviest(problem)
    chosen = heavy[:k] if seed == 0 else dice.sample(heavy[: k + 3], k) if seed < 4 else dice.sample(heavy, k)
    dice.shuffle(chosen)
    while chosen:
        together = dice.randint(1, len(chosen)) if seed % 2 else 1
        failed, chosen = tuple(chosen[:together]), chosen[together:]
        problem, certificate = _restart(_fail(problem, failed), certificate, dice)
    assert certificate.failures == 0


def _heaviest(problem: Problem) -> list[str]:
    value = {host.name: host.free for host in problem.hosts}
    for vm in problem.vms:
        if vm.host is not None:
            value[vm.host] += vm.size
    return sorted(value, key=lambda name: -value[name])


def test_without_time_the_first_bracket_is_the_answer() -> None:
    problem = load(json.dumps(GAP))
    late = sharpen(problem, Budget(lambda: 100.0, 99.0))
    assert (late.plan.lower, late.plan.upper) == (1, 2)
    assert sharpen(problem, ENDLESS).plan.lower == 2


def test_without_or_tools_the_first_bracket_or_lists_are_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.linear_solver", None)
    alone = sharpen(load(json.dumps(GAP)), ENDLESS)
    assert (alone.plan.lower, alone.plan.exact) == (2, True)
    assert alone.certificate is not None
    assert alone.certificate.lists
    monkeypatch.setattr(listing, "FAILURES_MOST", 0)
    assert sharpen(load(json.dumps(GAP)), ENDLESS).plan.lower == 1


def test_two_runs_give_the_same_certificate() -> None:
    once, again = (sharpen(load(json.dumps(GAP)), ENDLESS).certificate for _ in range(2))
    assert once == again


GAP: Mapping[str, Any] = {
    "hosts": [{"name": "h0", "free": 8}, {"name": "h1", "free": 18}, {"name": "h2", "free": 22}, {"name": "h3", "free": 12}],
    "vms": [{"name": "a", "size": 12, "host": "h0"}, {"name": "b", "size": 10, "host": "h0"}, {"name": "c", "size": 8, "host": "h2"}],
}
"""XenServer's planner accepts two failures here and then cannot serve them both at once; they can be served."""


@needs_data
def test_a_search_for_enough_stops_there_and_never_claims_that_it_is_exact() -> None:
    problem = load(text_of("h32_v400_l60_s1"))
    asked = sharpen(problem, Budget(lambda: 0.0, 600.0), enough=6)
    assert (asked.plan.lower, asked.plan.upper, asked.plan.exact) == (6, 7, False)
    assert sharpen(problem, Budget(lambda: 0.0, 600.0), enough=7).plan.exact
    assert sharpen(problem, Budget(lambda: 0.0, 600.0), enough=8).plan.lower == 6  # refuted by counting: no search

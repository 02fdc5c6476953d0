"""The theorem of docs/planner.md: with sizes that divide each other the condition holds if and only if no adversary ever wins."""

from dataclasses import replace
from itertools import combinations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_planner import Problem, ProblemHost, ProblemVm
from quorate_planner.tally import count
from quorate_planner.zone import certified

from .oracle import tolerates

CHAINS = ((1, 2, 4, 8), (1, 3, 6, 12), (2, 6, 12), (1, 5, 10), (4,))


@st.composite
def divisible(draw: st.DrawFn, hosts: int = 5, vms: int = 7) -> tuple[Problem, tuple[int, ...]]:
    """A tiny pool whose VM sizes are blocks of one chain, and the chain. Free memory is arbitrary."""
    chain = draw(st.sampled_from(CHAINS))
    names = [f"h{i}" for i in range(draw(st.integers(1, hosts)))]
    made = [
        ProblemVm(f"v{i}", draw(st.sampled_from(chain)), draw(st.sampled_from([*names, None] if i % 3 == 0 else names)))
        for i in range(draw(st.integers(1, vms)))
    ]
    plenty = draw(st.sampled_from([6, 12, 24, 40]))
    return Problem(tuple(ProblemHost(name, draw(st.integers(0, plenty))) for name in names), tuple(made)), chain


@settings(max_examples=700, deadline=None, derandomize=True)
@given(divisible())
def test_the_condition_gives_the_exact_number_of_the_whole_game(pool: tuple[Problem, tuple[int, ...]]) -> None:
    """Both directions: what it allows some policy survives, what it denies no policy does, however adaptive."""
    problem, chain = pool
    proven = certified(count(problem), chain)
    assert proven < 0 or tolerates(problem, proven)
    assert proven == len(problem.hosts) or not tolerates(problem, proven + 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(divisible(hosts=4, vms=6), st.randoms(use_true_random=False))
def test_the_rule_is_never_stuck_whatever_it_chooses_and_whenever_hosts_fail(pool: tuple[Problem, tuple[int, ...]], dice: Random) -> None:
    """The rule as the page states it, with all its choices left to dice; hosts also fail while VMs are still being placed."""
    problem, chain = pool
    proven = certified(count(problem), chain)
    if proven >= 0:
        _play(problem, chain, proven, dice)


def _play(problem: Problem, chain: tuple[int, ...], failures: int, dice: Random) -> None:
    waiting = [vm for vm in problem.vms if vm.host is None]
    dice.shuffle(waiting)
    interrupted = dice.randint(0, len(waiting))
    for number, vm in enumerate(waiting):
        if number == interrupted:
            _fail(problem, chain, failures, dice)
        host = _by_the_rule(problem, chain, vm.size, dice)
        assert host is not None, f"{vm.name} is stuck in {problem}"
        hosts = tuple(h._replace(free=h.free - vm.size) if h.name == host else h for h in problem.hosts)
        problem = replace(problem, hosts=hosts, vms=tuple(v._replace(host=host) if v.name == vm.name else v for v in problem.vms))
        assert certified(count(problem), chain) >= failures, "a placement broke the condition"
    _fail(problem, chain, failures, dice)


def _fail(problem: Problem, chain: tuple[int, ...], failures: int, dice: Random) -> None:
    for together in range(1, min(failures, len(problem.hosts)) + 1):
        for gone in combinations([host.name for host in problem.hosts], together):
            left = tuple(host for host in problem.hosts if host.name not in gone)
            vms = tuple(vm._replace(host=None) if vm.host in gone else vm for vm in problem.vms)
            after = replace(problem, hosts=left, vms=vms)
            assert certified(count(after), chain) >= failures - together, "a failure cost more than itself"
            _play(after, chain, failures - together, dice)


def _by_the_rule(problem: Problem, chain: tuple[int, ...], size: int, dice: Random) -> str | None:
    """Any host with a free block of the smallest level that fits and exists; blocks are the canonical cut of free memory."""
    for block in chain[chain.index(size) :]:
        above = next((larger for larger in chain if larger > block), None)
        able = [host.name for host in problem.hosts if (host.free if above is None else host.free % above) >= block]
        if able:
            return dice.choice(able)
    return None


def test_a_rule_that_breaks_the_largest_block_first_does_get_stuck() -> None:
    """The test above could fail: the same pool, the opposite rule."""
    hosts = (ProblemHost("a", 4), ProblemHost("b", 2), ProblemHost("c", 0))
    problem = Problem(hosts, (ProblemVm("small", 2, "c"), ProblemVm("large", 4, "c")))
    assert certified(count(problem), (2, 4)) == 1
    after_wrong_choice = Problem((ProblemHost("a", 2), ProblemHost("b", 2)), (ProblemVm("small", 2, "a"), ProblemVm("large", 4, None)))
    assert not tolerates(after_wrong_choice, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(divisible(), st.integers(0, 4), st.integers(1, 20))
def test_more_memory_never_lowers_what_the_condition_allows(pool: tuple[Problem, tuple[int, ...]], at: int, more: int) -> None:
    problem, chain = pool
    hosts = tuple(host._replace(free=host.free + more * (i == at)) for i, host in enumerate(problem.hosts))
    assert certified(count(replace(problem, hosts=hosts)), chain) >= certified(count(problem), chain)

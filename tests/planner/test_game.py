"""The game of the product against the game of the tests: two players of the same rules that share no code."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from quorate_planner import Budget, Problem, ProblemHost, ProblemVm, game, listing, sharpen

from .oracle import tolerates
from .pools import problems
from .test_lists import overlapping

ENDLESS = Budget(lambda: 0.0, 600.0)
POOLS = st.one_of(st.integers(0, 2**48).map(overlapping), problems(hosts=4, vms=6))


def hold_to_the_truth(problem: Problem) -> str:
    """Everything that the game says about one pool, from the top."""
    groups = len({host.domain or f"host {host.name}" for host in problem.hosts})
    played = game.lowered(problem, -1, groups, ENDLESS.left_seconds)
    if played is None:
        assert tolerates(problem, groups)
        return "never lost"
    assert not tolerates(problem, played.most + 1)
    assert tolerates(problem, played.most) or played.most < 0
    failed = frozenset(played.witness.failed_hosts)
    assert failed <= {host.name for host in problem.hosts}
    assert len({host.domain or host.name for host in problem.hosts if host.name in failed}) <= played.most + 1
    homes = {vm.name: vm.host for vm in problem.vms}
    assert played.witness.unplaceable
    assert all(homes[name] is None or homes[name] in failed for name in played.witness.unplaceable)
    assert played.witness.unplaceable[0] in played.witness.reason
    return f"at most {played.most}"


@settings(max_examples=700, deadline=None, derandomize=True)
@given(POOLS)
def test_the_game_gives_the_exact_number_of_every_tiny_pool_with_domains_and_vms_that_wait(problem: Problem) -> None:
    event(hold_to_the_truth(problem))


def test_a_game_that_leaves_out_a_way_to_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = game._Game._spreads

    def forgetful(self: game._Game, free: Sequence[int], size: int, may: Sequence[int], number: int) -> Iterator[tuple[int, ...]]:
        yield from honest(self, free, size, may[:2], number)

    monkeypatch.setattr(game._Game, "_spreads", forgetful)
    with pytest.raises((AssertionError, IndexError)):  # refuted, or caught with a witness that leaves no VM over
        hold_many_to_the_truth()


def test_a_game_in_which_a_failed_host_keeps_its_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = game._Game._without

    def undead(self: game._Game, position: game._Position, group: int) -> game._Position:
        after = honest(self, position, group)
        return game._Position(tuple(max(0, free) for free in position.free), after.runs, after.waiting)

    monkeypatch.setattr(game._Game, "_without", undead)
    with pytest.raises(AssertionError):
        hold_many_to_the_truth()


def hold_many_to_the_truth() -> None:
    for seed in range(300):
        hold_to_the_truth(overlapping(seed))


CROSSED = Problem(
    tuple(ProblemHost(f"h{i}", free) for i, free in enumerate((13, 3, 2, 2, 13))),
    (
        ProblemVm("v0", 12, "h0", frozenset({"h0", "h2", "h4"})),
        ProblemVm("v1", 3, "h4", frozenset({"h0", "h4"})),
        ProblemVm("v2", 1, "h3", frozenset({"h0", "h2", "h3", "h4"})),
        ProblemVm("v3", 12, "h4"),
        ProblemVm("v4", 3, "h0"),
    ),
)
"""When h4 fails, v1 and v3 both need h0: no set of allowed hosts is short of memory as a whole, and each of them has a place alone."""


def test_the_game_closes_a_bracket_that_counting_leaves_open_and_says_in_words_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sharpen(CROSSED, ENDLESS).plan
    assert (found.lower, found.upper, found.exact) == (0, 0, True)
    assert found.witness is not None
    assert found.witness.failed_hosts == ("h4",)
    assert (
        found.witness.reason
        == "wherever VMs restart, one failure leaves one without a place; for example h4 fails, and v1 (3 bytes) has no place"
    )
    monkeypatch.setattr(game, "HOSTS_MOST", 4)
    assert sharpen(CROSSED, ENDLESS).plan.exact is False


def test_the_line_of_a_longer_game_names_failures_and_restarts_in_their_order() -> None:
    names = ("a", "b", "c")
    problem = Problem(
        tuple(ProblemHost(name, 4) for name in names), (ProblemVm("v", 3, "a"), ProblemVm("w", 3, "b", frozenset({"b", "c"})))
    )
    played = game.lowered(problem, 0, 2, ENDLESS.left_seconds)
    assert played is not None
    assert played.most == 1
    assert played.witness.reason == (
        "wherever VMs restart, some 2 failures leave one without a place; "
        "for example a fails; v starts on b; b fails, and w (3 bytes) has no place"
    )


def test_a_game_that_is_not_played_to_its_end_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert game.lowered(CROSSED, -1, 1, ENDLESS.left_seconds) is not None
    monkeypatch.setattr(game, "NODES_MOST", 1)
    assert game.lowered(CROSSED, -1, 1, ENDLESS.left_seconds) is None
    monkeypatch.undo()
    monkeypatch.setattr(game, "NODES_BETWEEN_LOOKS", 1)
    assert game.lowered(CROSSED, -1, 1, lambda: 0.0) is None


def test_pools_that_are_not_tiny_and_needs_beside_memory_are_not_played() -> None:
    many = Problem(tuple(ProblemHost(f"h{i}", 1) for i in range(game.HOSTS_MOST + 1)), (ProblemVm("v", 4, "h0"),))
    assert game.lowered(many, -1, 3, ENDLESS.left_seconds) is None
    paged = Problem((ProblemHost("a", 1),), (ProblemVm("v", 4, "a", hugepages=1),))
    assert game.lowered(paged, -1, 1, ENDLESS.left_seconds) is None
    assert listing.listed(paged, 0, ENDLESS.left_seconds) is None


def test_alike_vms_are_one_number() -> None:
    hosts = tuple(ProblemHost(f"h{i}", 40) for i in range(5))
    problem = Problem(hosts, tuple(ProblemVm(f"v{i:02}", 9, f"h{i % 5}") for i in range(game.VMS_MOST)))
    played = game.lowered(problem, 0, 4, ENDLESS.left_seconds)
    assert played is None or played.most >= 3

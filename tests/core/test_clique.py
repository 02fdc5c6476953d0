"""Who lives on when not everybody hears everybody: exact, the same whoever computes it, and bounded in time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate_core import clique


def graph(count: int, links: set[tuple[int, int]]) -> dict[int, int]:
    found = dict.fromkeys(range(count), 0)
    for a, b in links:
        found[a] |= 1 << b
        found[b] |= 1 << a
    return found


def members(mask: int) -> set[int]:
    return set(clique.members(mask))


@pytest.mark.parametrize(
    ("count", "links", "weights", "living"),
    [
        (3, {(1, 2)}, {}, {1, 2}),
        (4, {(0, 1), (2, 3)}, {}, {0, 1}),
        (4, {(0, 1), (2, 3)}, {2: 1}, {2, 3}),
        (3, {(1, 2)}, {0: 5}, {0}),
        (3, set(), {}, {0}),
        (5, {(0, 1), (2, 3)}, {}, {0, 1}),
        (3, {(0, 1), (1, 2)}, {}, {0, 1}),
        (4, {(0, 1), (1, 2), (2, 3), (0, 3)}, {}, {0, 1}),
        (5, {(0, 2), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3)}, {}, {1, 2, 3}),
        (3, {(0, 1), (0, 2), (1, 2)}, {}, {0, 1, 2}),
    ],
    ids=["one against two", "2:2", "2:2 weighted", "a heavy one", "1:1:1", "2:2:1", "chain", "ring", "greedy fails", "all"],
)
def test_the_situations_of_the_research_end_as_it_says(
    count: int, links: set[tuple[int, int]], weights: dict[int, int], living: set[int]
) -> None:
    """Rows 26 to 29."""
    assert members(clique.best(graph(count, links), weights)) == living


PAIRS = list(itertools.combinations(range(7), 2))


@given(st.sets(st.sampled_from(PAIRS)), st.lists(st.sampled_from([0, 0, 1, 5]), min_size=7, max_size=7))
def test_no_set_that_hears_itself_is_better(links: set[tuple[int, int]], weights: list[int]) -> None:
    best = members(clique.best(graph(7, links), dict(enumerate(weights))))

    def rank(living: tuple[int, ...]) -> tuple[int, int, list[int]]:
        return -sum(weights[v] for v in living), -len(living), sorted(living)

    def hears_itself(living: tuple[int, ...]) -> bool:
        return all(pair in links for pair in itertools.combinations(living, 2))

    every = [living for size in range(1, 8) for living in itertools.combinations(range(7), size) if hears_itself(living)]
    assert sorted(best) == list(min(every, key=rank))


def test_a_full_pool_of_triangles_that_miss_each_other_is_decided() -> None:
    """64 hosts in groups of three that do not hear each other: as many equally good answers as there are."""
    apart = {(a, b) for a, b in itertools.combinations(range(64), 2) if a // 3 != b // 3}
    assert members(clique.best(graph(64, apart), {})) == set(range(0, 64, 3))


def test_a_decision_that_would_take_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clique, "MOST_NODES", 2)
    with pytest.raises(clique.TooHard):
        clique.best(graph(4, {(0, 1), (2, 3)}), {})

"""The exact choice of who lives on when not everybody hears everybody: the best set in which all hear each other.

Exact, because every side computes it for itself and must come to the same answer, and because a greedy choice fences hosts for nothing:
with the links 0-2 0-4 1-2 1-3 1-4 2-3 it ends with {0, 2} although {1, 2, 3} hear each other.
"""

from collections.abc import Iterator, Mapping

MOST_NODES = 200_000
"""The search gives up after so many steps: a decision that takes for ever would starve the licence. Real networks need a few dozen."""


class TooHard(Exception):
    """The graph is too intricate to decide in bounded time: nobody is evicted on a guess."""


def best(neighbours: Mapping[int, int], weights: Mapping[int, int]) -> int:
    """The clique with the largest sum of weights, then the most members, then the lowest members; as a set of bits.

    `neighbours[v]` is the set of bits of those that v is mutually connected with. Raises TooHard.
    """
    # One number that compares like (sum of weights, count): no clique has more than len(neighbours) members.
    score = {v: weights.get(v, 0) * (len(neighbours) + 1) + 1 for v in neighbours}
    search = _Search(neighbours, score)
    everybody = sum(1 << v for v in neighbours)
    left, candidates, chosen = search.most(everybody), everybody, 0
    for v in sorted(neighbours):
        if not candidates >> v & 1:
            continue
        if score[v] + search.most(candidates & neighbours[v]) == left:
            chosen |= 1 << v
            left -= score[v]
            candidates &= neighbours[v]
        else:
            candidates &= ~(1 << v)
    return chosen


class _Search:
    """Branch and bound: a set of vertices that can be coloured holds a clique no better than the best vertex of each colour together."""

    def __init__(self, neighbours: Mapping[int, int], score: Mapping[int, int]) -> None:
        self._neighbours, self._score, self._nodes = neighbours, score, 0

    def most(self, candidates: int) -> int:
        """The score of the best clique among the candidates."""
        return self._expand(candidates, 0, 0)

    def _expand(self, candidates: int, have: int, found: int) -> int:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise TooHard(f"no decision after {MOST_NODES} steps")
        found = max(found, have)
        for v, bound in reversed(self._coloured(candidates)):
            if have + bound <= found:
                return found
            found = self._expand(candidates & self._neighbours[v], have + self._score[v], found)
            candidates &= ~(1 << v)
        return found

    def _coloured(self, candidates: int) -> list[tuple[int, int]]:
        """The candidates in an order in which each carries a bound for all cliques among it and those before it."""
        order: list[tuple[int, int]] = []
        bound = 0
        while candidates:
            colour, free, most = [], candidates, 0
            while free:
                v = (free & -free).bit_length() - 1
                colour.append(v)
                free &= ~(1 << v) & ~self._neighbours[v]
                most = max(most, self._score[v])
            bound += most
            for v in colour:
                candidates &= ~(1 << v)
                order.append((v, bound))
        return order


def members(mask: int) -> Iterator[int]:
    """The slots in a set of bits, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest

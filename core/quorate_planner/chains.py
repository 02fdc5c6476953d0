"""Chains: block sizes to which VM sizes are rounded up, each dividing the next.

Which chains are tried decides how sharp the planner's answer is, never whether it is true. Everything here depends on the sizes
(and for `cover` on how much memory each takes) and on nothing else, so that the same pool always gets the same chains.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

Chain = tuple[int, ...]
"""Block sizes in bytes, rising, each a divisor of the next."""

CHAINS_KEPT = 12
BEAM = 24
LEVELS_MOST = 24
"""Work limits of the search: a chain not looked at costs sharpness, never truth."""

LOSS_ALLOWED = 0.006
"""Rounding that a chain of a cover may cost a VM, as a part of its size."""


def levels(chain: Chain, sizes: Iterable[int]) -> dict[int, int]:
    """The level of each size: that of the smallest block that holds it."""
    found = {}
    level = 0
    for size in sorted(sizes):
        while chain[level] < size:
            level += 1
        found[size] = level
    return found


@lru_cache(maxsize=256)
def chains(sizes: tuple[int, ...]) -> tuple[Chain, ...]:
    """Chains worth trying for these sizes (rising), the least rounding first. Depends on nothing but the sizes."""
    if not sizes:
        return ((1,),)
    steps = _representatives(sizes)
    starts = sorted({-(-size // parts) for size in steps for parts in (1, 2, 3, 4, 6, 8, 12, 16) if -(-size // parts) >= steps[0]})
    starts = [start for start in starts if start < 2 * steps[0]]
    inverse = [0.0, *accumulate(1 / size for size in steps)]
    complete: dict[Chain, float] = {}
    beam: list[tuple[float, Chain, int]] = []
    for start in starts:
        covers = bisect_right(steps, start)
        beam.append((_loss(inverse, 0, covers, start), (start,), covers))
    while beam:
        beam = sorted(beam)[: BEAM * 4]
        longer: dict[Chain, tuple[float, Chain, int]] = {}
        for loss, chain, done in beam:
            if done == len(steps):
                complete[chain] = loss
                continue
            covers = done
            while covers < len(steps):  # a block for the next size; then one for the next that this one does not hold
                block = -(-steps[covers] // chain[-1]) * chain[-1]
                covers = bisect_right(steps, block, covers)
                longer[(*chain, block)] = (loss + _loss(inverse, done, covers, block), (*chain, block), covers)
        beam = list(longer.values())
    ranked = sorted(complete, key=lambda chain: (round(complete[chain], 6), len(chain), chain))
    kept = ranked[:CHAINS_KEPT]
    for size in steps:  # one size may carry most of the load: keep the chain that rounds it least
        kept.append(min(ranked, key=lambda chain: chain[bisect_left(chain, size)]))  # the first of equals
    return tuple(dict.fromkeys(kept))


def _representatives(sizes: Sequence[int]) -> Sequence[int]:
    """The sizes, or, when there are very many, some of them: the others are rounded up to the next."""
    if len(sizes) <= LEVELS_MOST:
        return sizes
    chosen = [sizes[-1]]
    for at in range(1, LEVELS_MOST):
        limit = sizes[-1] * (sizes[0] / sizes[-1]) ** (at / LEVELS_MOST)
        chosen.append(max((s for s in sizes if s <= limit), default=sizes[0]))
    return sorted({*chosen, sizes[0]})


def _loss(inverse: Sequence[float], start: int, end: int, block: int) -> float:
    """What these sizes lose when they are rounded up to the block, each as a part of itself; `inverse` are sums of 1 / size."""
    return block * (inverse[end] - inverse[start]) - (end - start)


def cover(volume: Mapping[int, int], *, loss: float = LOSS_ALLOWED) -> tuple[Chain, ...]:
    """Chains that together round no size by more than `loss`; `volume` is what the VMs of each size take together, in bytes.

    The first takes what weighs most of what fits one chain, the next what is left and whatever else fits as well; the shortest such
    list of three ways to weigh.
    """
    sizes = _representatives(sorted(volume))
    weight = dict.fromkeys(sizes, 0)
    for size in sorted(volume):
        weight[min(s for s in sizes if s >= size)] += volume[size]
    evenly = dict.fromkeys(sizes, 1)
    small_first = {size: 1 << (len(sizes) - at) for at, size in enumerate(sizes)}
    return min((_greedy_cover(sizes, each, loss) for each in (weight, evenly, small_first)), key=len)


def _greedy_cover(sizes: Sequence[int], weight: Mapping[int, int], loss: float) -> tuple[Chain, ...]:
    left = set(sizes)
    found: list[Chain] = []
    while left:
        chain = _heaviest(sizes, {size: weight[size] * (1000 if size in left else 1) for size in sizes}, loss)
        fitting = {size for size in sizes if any(0 <= block - size <= loss * size for block in chain)}
        if not fitting & left:
            chain, fitting = (max(left),), {max(left)}
        found.append(chain)
        left -= fitting
    return tuple(found)


def _heaviest(sizes: Sequence[int], weight: Mapping[int, int], loss: float) -> Chain:
    best: tuple[int, Chain] = (-1, ())
    paths: dict[tuple[int, ...], list[tuple[int, Chain]]] = {
        (at,): [(weight[size], (size + int(size * loss * part / 4),)) for part in range(4)] for at, size in enumerate(sizes)
    }
    while paths:
        best = max(best, *(value for values in paths.values() for value in values))
        longer: dict[tuple[int, ...], list[tuple[int, Chain]]] = {}
        kept = sorted(paths, key=lambda path: (-paths[path][0][0], path))[: BEAM * 4]
        for path in kept:
            for total, chain in paths[path]:
                for at in range(path[-1] + 1, len(sizes)):
                    block = -(-sizes[at] // chain[-1]) * chain[-1]
                    if block > chain[-1] and block - sizes[at] <= loss * sizes[at]:
                        longer.setdefault((*path, at), []).append((total + weight[sizes[at]], (*chain, block)))
        paths = {path: sorted(set(values), key=lambda value: value[1])[:4] for path, values in longer.items()}
    return best[1]

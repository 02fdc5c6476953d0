"""Cutting each host's memory into zones, one per chain, and binding VMs to them, so that k failures are survived.

A linear program over the volumes of all zones proposes a cut; it is rounded to whole blocks, mended by small steps, and checked in
integers by `cut.shortfalls`. Where that is not enough the program is solved again in whole numbers, with the levels that were short
written out, level after level. One `Splitting` remembers what it has learned: which numbers are out of reach, and which levels matter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from quorate_planner.chains import Chain
from quorate_planner.cut import Cut, Key, Place, Shape, shortfalls
from quorate_planner.program import Program
from quorate_planner.repair import STEPS_IN_VAIN, mended
from quorate_planner.tally import Counts, Kind, Tally

TIGHT = 0.02
"""A VM may be bound to any zone that rounds it by less than this more than its best one, as a part of its size."""

LOOSE = 0.6
"""The same where a waste is worth it: a large VM in another chain's block may save a zone a block it has nowhere else."""

SOLVER_TOLERANCE = 1e-5
"""Kept free on each host, in largest blocks, where a solver's rounding of the host's memory broke a cut."""

KINDS_SHARED = 6
"""With no more sets of allowed hosts than this, zones for what two of them have in common are offered too."""

UNITS_MOST = 40_000
"""Zones times hosts beyond this are not tried: the program alone would take longer than anybody waits."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a cut is looked for. `nodes`: of each program in whole numbers, by which the cut is then found; 0: by volume only.

    `rooms`: only the blocks that hosts have room for are in whole numbers, which takes a tenth of the time. `in_vain`: patience in mending
    what the linear program proposed.
    """

    nodes: int = 0
    rooms: bool = False
    in_vain: int = STEPS_IN_VAIN


class Splitting:
    """One pool and one set of chains; `cut` is asked for numbers of failures, the highest first."""

    def __init__(self, tally: Tally, chains: Sequence[Chain], *, loss: float = TIGHT) -> None:
        self._tally, self._loss = tally, loss
        self._affordable = len(tally.kinds) * len(chains) * len(tally.names) <= UNITS_MOST
        self._demand = dict(self._count()) if self._affordable else {}
        self._shapes = tuple(self._shaped(chains))
        self._homes = {(kind, size): self._homes_of(kind, size) for kind, size, _ in self._demand}
        self._impossible_from = {False: tally.groups + 1, True: tally.groups + 1}
        self._whole: dict[int, frozenset[tuple[int, int]]] = {}
        self._proposed: dict[int, Cut] = {}
        self._walked: dict[int, int] = {}

    def _count(self) -> Iterator[tuple[Key, int]]:
        for kind in self._tally.kinds:
            places: list[tuple[Place, Counts]] = [(None, self._tally.off.get(kind, {})), *enumerate(self._tally.own.get(kind, ()))]
            for place, counts in places:
                for size, number in counts.items():
                    yield (kind, size, place), number

    def _shaped(self, chains: Sequence[Chain]) -> Iterator[Shape]:
        sizes: dict[Kind, set[int]] = {}
        for kind, size, _ in self._demand:
            sizes.setdefault(kind, set()).add(size)
        few = sorted((kind for kind in sizes if kind is not None), key=sorted)
        if len(few) <= KINDS_SHARED:
            for one, other in combinations(few, 2):
                if one & other:
                    sizes.setdefault(one & other, set()).update(sizes[one] | sizes[other])
        for kind, mine in sizes.items():
            for chain in chains:
                if any(self._fits(chains, size, chain) for size in mine):
                    yield Shape(chain, kind)

    def _fits(self, chains: Sequence[Chain], size: int, chain: Chain) -> bool:
        rounded = [min((block for block in each if block >= size), default=None) for each in chains]
        best = min(block for block in rounded if block is not None)
        mine = min((block for block in chain if block >= size), default=None)
        return mine is not None and mine - best <= TIGHT * size

    def _homes_of(self, kind: Kind, size: int) -> tuple[int, ...]:
        few = len({shape.kind for shape in self._shapes}) <= 2 * KINDS_SHARED
        fitting = {
            at: block
            for at, shape in enumerate(self._shapes)
            if (shape.kind == kind or (few and shape.takes(kind))) and (block := shape.rounded(size)) is not None
        }
        best = min(block for at, block in fitting.items() if self._shapes[at].kind == kind)
        return tuple(at for at, block in fitting.items() if block - best <= self._loss * size)

    def open(self, failures: int) -> bool:
        """Whether a cut for so many failures is not ruled out."""
        return self._affordable and failures < min(self._impossible_from.values())

    def cut(self, failures: int, left_seconds: Callable[[], float], effort: Effort) -> Cut | None:
        """A proven cut for so many failures, or None: there is none with these chains, or it was not found in time.

        By volume it takes milliseconds to a second.
        """
        if not self._affordable or failures >= min(self._impossible_from[False], self._impossible_from[effort.nodes > 0]):
            return None
        if effort.nodes:
            return self._in_whole_numbers(failures, left_seconds, effort)
        return self._by_volume(failures, left_seconds, effort.in_vain)

    def _by_volume(self, failures: int, left_seconds: Callable[[], float], in_vain: int) -> Cut | None:
        """The linear program's proposal, mended. It is kept for a longer walk, and what was walked in vain is not walked again."""
        if left_seconds() <= 0 or self._walked.get(failures, -1) >= in_vain:
            return None
        if failures not in self._proposed:
            program = Program(self._tally, self._shapes, self._demand, self._homes, failures)
            proposal = program.solve(left_seconds(), 0)
            if proposal.cut is None:
                if proposal.impossible:
                    self._impossible_from[False] = failures
                return None
            self._proposed[failures] = proposal.cut
        cut = self._proposed[failures]
        short = shortfalls(self._tally, cut, failures)
        if short:
            cut = mended(self._tally, cut, failures, left_seconds, in_vain=in_vain)
            if shortfalls(self._tally, cut, failures):
                self._walked[failures] = in_vain
                self._whole[failures] = self._whole.get(failures, frozenset()) | self._levels_of(short)
                return None
        return cut

    def _in_whole_numbers(self, failures: int, left_seconds: Callable[[], float], effort: Effort) -> Cut | None:
        whole = self._whole.get(failures, frozenset())
        margin = 0.0
        while left_seconds() > 0:
            asked = Program(self._tally, self._shapes, self._demand, self._homes, failures, whole, margin, rooms_only=effort.rooms)
            proposal = asked.solve(left_seconds(), effort.nodes)
            if proposal.cut is None:
                if proposal.impossible and not margin:
                    self._impossible_from[bool(whole)] = failures
                return None
            short = shortfalls(self._tally, proposal.cut, failures)
            better = mended(self._tally, proposal.cut, failures, left_seconds) if short else proposal.cut
            if not short or not shortfalls(self._tally, better, failures):
                return better
            more = whole | self._levels_of(short)
            if more == whole and (margin or effort.rooms):
                return None
            margin = SOLVER_TOLERANCE if more == whole else margin
            whole = self._whole[failures] = more
        return None

    def _levels_of(self, short: Sequence[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Those levels, and the lowest of each zone."""
        return frozenset(short) | {(at, 0) for at in range(len(self._shapes))}

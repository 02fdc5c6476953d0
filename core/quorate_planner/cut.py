"""A cut: each host's memory in zones, each VM bound to one of them, and what is missing until it survives k failures.

`shortfalls` alone decides whether a cut is proven; whoever proposes one (a solver, a walk of small steps) is never believed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quorate_planner.bounds import covered
from quorate_planner.chains import Chain, levels
from quorate_planner.tally import Kind, Tally

Place = int | None
"""A host, or None for the VMs that wait."""

Key = tuple[Kind, int, Place]
"""VMs that are alike: the hosts they may use, their size in bytes, where they are."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A zone before its memory is known: block sizes, and the hosts that may carry it (None: all)."""

    chain: Chain
    kind: Kind

    def carries(self, host: int) -> bool:
        """Whether the zone may have memory on that host."""
        return self.kind is None or host in self.kind

    def takes(self, kind: Kind) -> bool:
        """Whether VMs of that kind may run wherever the zone may have memory."""
        return kind is None or (self.kind is not None and self.kind <= kind)

    def rounded(self, size: int) -> int | None:
        """The block for a VM of that size; None if there is none so large."""
        return next((block for block in self.chain if block >= size), None)


@dataclass(frozen=True, slots=True)
class Cut:
    """Zones with memory: `units[zone][host]` smallest blocks, and how many VMs of each key are bound to each zone."""

    shapes: tuple[Shape, ...]
    units: tuple[tuple[int, ...], ...]
    bound: Mapping[Key, tuple[int, ...]]


def shortfalls(tally: Tally, cut: Cut, failures: int) -> list[tuple[int, int]]:
    """The zones and levels whose condition does not hold for so many failures; none means that the cut is proven."""
    return [(at, level) for at, shape in enumerate(cut.shapes) for level, k in enumerate(_per_level(tally, cut, at, shape)) if k < failures]


def _per_level(tally: Tally, cut: Cut, at: int, shape: Shape) -> Iterator[int]:
    chain = shape.chain
    level_of = levels(chain, [size for size in tally.sizes if size <= chain[-1]])
    here = [(size, place, numbers[at]) for (_, size, place), numbers in cut.bound.items() if numbers[at]]
    for level, block in enumerate(chain):
        room = [units * chain[0] // block for units in cut.units[at]]
        demand = [0] * len(room)
        off = 0
        for size, place, number in here:
            if level_of[size] >= level:
                blocks = number * (chain[level_of[size]] // block)
                if place is None:
                    off += blocks
                else:
                    demand[place] += blocks
        yield covered(tally.by_group(r + d for r, d in zip(room, demand, strict=True)), sum(room) - off)

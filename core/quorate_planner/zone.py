"""The zone rule with one chain: who goes where when hosts fail, and the condition under which that never gets stuck.

VM sizes are rounded up to a chain D1 | D2 | ... | Dm (each divides the next). A host's free memory is cut into blocks as a buddy
allocator does. *Rule*: a VM of level j takes a free block of the smallest level >= j that any living host has.

*Invariant*, for every level l, with r the memory left in a host and T_l, off_l demand of levels >= l counted in blocks of D_l:

    the k largest of ( floor(r/D_l) + T_l )  <=  sum of floor(r/D_l) - off_l

A failure keeps it with k - 1: the failed host's T joins off and its value leaves both sides. A placement keeps it too: up to the VM's
own level the block leaves r and off alike; above it something is lost only when a larger block is broken, which the rule does
only when no smaller fitting one exists anywhere, and then level j itself shows that one block is to spare. So nothing is ever
stuck, in whatever order; `docs/planner.md` has the steps. After a placement the blocks of a host are again those of its remaining memory:
the state is the free memory itself, and the rule may be run anew from what is seen at the time of a failure.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence

from quorate_planner.bounds import covered, volume_ceiling
from quorate_planner.chains import Chain, chains, levels
from quorate_planner.tally import Counts, Tally


def certified(tally: Tally, chain: Chain) -> int:
    """How many failures the rule with this chain survives for certain; -1: not even the waiting VMs are sure of a place.

    Counts the VMs that may use every host. Raises ValueError where a VM is limited to some hosts: one zone does not prove those.
    """
    if any(kind is not None for kind in tally.kinds):
        raise ValueError("VMs that may use only some hosts need a zone of their own")
    hosts = range(len(tally.names))
    own: Sequence[Counts] = tally.own.get(None) or ({},) * len(tally.names)
    level_of = levels(chain, tally.sizes)
    per_level = [[0] * len(tally.names) for _ in chain]
    for i in hosts:
        for size, number in own[i].items():
            per_level[level_of[size]][i] += number
    waiting = [0] * len(chain)
    for size, number in tally.off.get(None, {}).items():
        waiting[level_of[size]] += number
    demand = [0] * len(tally.names)
    off = 0
    worst = tally.groups
    larger = chain[-1]
    for level in range(len(chain) - 1, -1, -1):
        block = chain[level]
        ratio = larger // block
        demand = [above * ratio + here for above, here in zip(demand, per_level[level], strict=True)]
        off = off * ratio + waiting[level]
        room = [free // block for free in tally.free]
        worst = min(worst, covered(tally.by_group([r + d for r, d in zip(room, demand, strict=True)]), sum(room) - off))
        larger = block
    return worst


def best(tally: Tally, *, enough: int | None = None) -> tuple[Chain, int]:
    """The chain that certifies most among those looked at, and how much; the first of equals, so that the answer is always the same.

    Stops at the first that certifies `enough`, or what plain volume allows at most. VMs limited to some hosts, or with needs beside
    memory: nothing is certified.
    """
    tried = chains(tally.sizes)
    if tally.extras or any(kind is not None for kind in tally.kinds):
        return tried[0], -1
    most = volume_ceiling(tally)
    target = most if enough is None else min(most, enough)
    found = (tried[0], certified(tally, tried[0]))
    for chain in tried[1:]:
        if found[1] >= target:
            break
        failures = certified(tally, chain)
        if failures > found[1]:
            found = (chain, failures)
    return found


class Placing:
    """Hosts during a restart: what is left on each, in blocks and in bytes. Mutable, lives for one decision.

    Where the rule has no block the VM still takes any host with enough memory, so that the bound `any_fit_floor` holds as well.
    """

    def __init__(self, chain: Chain, names: Sequence[str], free: Sequence[int]) -> None:
        self._chain = chain
        self._names = names
        self._blocks = list(free)
        self._free = list(free)
        self._taken = [0] * len(names)
        self._with_block: list[set[int]] = [set() for _ in chain]
        for i in range(len(names)):
            self._sort_in(i)

    def place(self, size: int, allowed: Collection[str] | None = None) -> str | None:
        """Give a VM its host and take the memory; None if no host that it may use has enough.

        Among the hosts with a block of the right level, the one with the fewest restarts so far and then the most memory left.
        """
        level = bisect_left(self._chain, size)
        i = self._by_rule(level, allowed)
        if i is None:
            i = self._tightest(size, allowed)
            if i is None:
                return None
        self._free[i] -= size
        self._taken[i] += 1
        rounded = self._chain[level] if level < len(self._chain) else size
        self._blocks[i] = max(0, min(self._blocks[i] - rounded, self._free[i]))
        self._sort_in(i)
        return self._names[i]

    def left(self) -> dict[str, int]:
        """The memory left in blocks, by host: what the rule goes on with."""
        return dict(zip(self._names, self._blocks, strict=True))

    def _by_rule(self, level: int, allowed: Collection[str] | None) -> int | None:
        taken, free, names = self._taken, self._free, self._names
        for hosts in self._with_block[level:]:
            usable = hosts if allowed is None else [i for i in hosts if names[i] in allowed]
            if usable:
                return min(usable, key=lambda i: (taken[i], -free[i], i))
        return None

    def _tightest(self, size: int, allowed: Collection[str] | None) -> int | None:
        fitting = [(free, i) for i, free in enumerate(self._free) if free >= size and (allowed is None or self._names[i] in allowed)]
        return min(fitting)[1] if fitting else None

    def _sort_in(self, i: int) -> None:
        chain, rest = self._chain, self._blocks[i]
        for level in range(len(chain) - 1, -1, -1):
            if rest >= chain[level]:
                self._with_block[level].add(i)
                rest %= chain[level]
            else:
                self._with_block[level].discard(i)

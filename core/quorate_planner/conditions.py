"""What must hold of a zone so that failures are survived, kept so that a change of a few hosts costs little.

For each level of a chain zone the values of all groups stay in order: the k largest need not be sorted again. Counts and decides nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from quorate_planner.chains import Chain
from quorate_planner.laid import Load


@dataclass(frozen=True, slots=True)
class Groups:
    """What fails at once: `of[i]` is the group of host i, `hosts[g]` are the hosts of group g."""

    of: Sequence[int]
    hosts: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Condition:
    """The k largest `values` of the groups together are at most `budget`, in blocks of so many bytes. `ranked`: the same, rising."""

    values: Sequence[int]
    ranked: Sequence[int]
    budget: int
    block: int

    def margin(self, failures: int) -> int:
        """Bytes of blocks to spare for so many failures; negative where some are missing."""
        return (self.budget - sum(self.ranked[max(0, len(self.ranked) - failures) :])) * self.block


@dataclass(slots=True)
class _Level:
    block: int
    rooms: list[int]
    values: list[int]
    ranked: list[int]
    total: int


class Ranked:
    """One zone: `net[i]` bytes are left in it on host i, `own[level][i]` blocks of its VMs run there. Not changed once made."""

    def __init__(self, chain: Chain, net: Sequence[int], own: Sequence[Sequence[int]], groups: Groups) -> None:
        self._levels = []
        for block, here in zip(chain, own, strict=True):
            rooms = [amount // block for amount in net]
            values = [sum(rooms[i] + here[i] for i in hosts) for hosts in groups.hosts]
            self._levels.append(_Level(block, rooms, values, sorted(values), sum(rooms)))

    def changed(self, hosts: Collection[int], net: Sequence[int], own: Sequence[Sequence[int]], groups: Groups) -> "Ranked":
        """The same zone after these hosts changed."""
        after = object.__new__(Ranked)
        after._levels = [_after(level, hosts, net, here, groups) for level, here in zip(self._levels, own, strict=True)]
        return after

    def conditions(self, off: Sequence[int], own: Sequence[Sequence[int]]) -> Iterator[Condition]:
        """One for each level that has VMs at or above it; `off[level]` blocks wait. Of levels above nobody asks anything."""
        for level, waiting, here in zip(self._levels, off, own, strict=True):
            if not waiting and not any(here):
                return
            yield Condition(level.values, level.ranked, level.total - waiting, level.block)


def _after(level: _Level, hosts: Collection[int], net: Sequence[int], own: Sequence[int], groups: Groups) -> _Level:
    rooms, total, block = level.rooms, level.total, level.block
    values, ranked = level.values, level.ranked
    copied = False
    for i in hosts:
        room = net[i] // block
        if room != rooms[i]:
            rooms = list(rooms) if rooms is level.rooms else rooms
            total += room - rooms[i]
            rooms[i] = room
    for group in {groups.of[i] for i in hosts}:
        value = sum(rooms[i] + own[i] for i in groups.hosts[group])
        if value != values[group]:
            if not copied:
                values, ranked, copied = list(values), list(ranked), True
            del ranked[bisect_left(ranked, values[group])]
            insort(ranked, value)
            values[group] = value
    return _Level(block, rooms, values, ranked, total)


def any_conditions(
    loads: Mapping[frozenset[str] | None, Load], names: Sequence[str], net: Sequence[int], groups: Groups
) -> Iterator[Condition]:
    """For each kind and size of an any zone: the room that its VMs may use against all VMs that may use some of it."""
    used = frozenset(name for name, amount in zip(names, net, strict=True) if amount)
    may = {kind: used if kind is None else used & kind for kind in loads}
    for kind, load in loads.items():
        hosts = may[kind]
        rivals = [other for k, other in loads.items() if k == kind or may[k] & hosts]
        own = [sum(amounts) for amounts in zip(*(rival.own for rival in rivals), strict=True)]
        waiting = sum(rival.off for rival in rivals)
        for size in load.sizes:
            room = [max(0, amount - size + 1) if name in hosts else 0 for name, amount in zip(names, net, strict=True)]
            values = [sum(room[i] + own[i] for i in together) for together in groups.hosts]
            yield Condition(values, sorted(values), sum(room) - waiting + size - 1, 1)

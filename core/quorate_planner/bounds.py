"""Bounds by counting: what no policy can exceed, and what every policy that tries all hosts reaches.

Every bound here has one form. Each failure group (a host, or a domain) has a value, the pool has a budget, and k failures are
covered only while the k largest values together stay within the budget. So each bound is a sort, whatever the order of failures.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import gcd

from quorate_planner.amounts import amount, both
from quorate_planner.tally import Counts, Kind, Tally

SIZES_LOOKED_AT = 32
KINDS_LOOKED_AT = 24
KINDS_JOINED = 6
CELLS = 1 << 17
"""Work limits. Looking at fewer sizes or kinds, or rounding memory to so many cells per host, makes an upper bound larger and a lower
bound smaller: still true, less sharp."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """No plan exists for more than `most` failures; -1: not even the VMs that wait now can all be placed.

    `breaking` are groups whose failure, all at once, leaves a VM without a place. `why` says it in words.
    """

    most: int
    breaking: tuple[int, ...]
    why: str


def covered(values: Sequence[int], budget: int) -> int:
    """How many groups may fail, whichever they are, before their values exceed the budget; -1 if the budget is already negative."""
    if budget < 0:
        return -1
    total = 0
    for failures, value in enumerate(sorted(values, reverse=True)):
        total += value
        if total > budget:
            return failures
    return len(values)


@dataclass(frozen=True, slots=True)
class _Found:
    """A ceiling whose words are worked out only if it is the lowest."""

    most: int
    told: Callable[[], Ceiling]


def ceiling(tally: Tally) -> Ceiling | None:
    """The lowest upper bound found by counting, or None if nothing is protected: then every host may fail."""
    best = min(_ceilings(tally), key=lambda found: found.most, default=None)
    return None if best is None else best.told()


def refuted(tally: Tally, failures: int) -> bool:
    """Whether `ceiling` is below that, without looking further than needed."""
    return any(found.most < failures for found in _ceilings(tally))


def _ceilings(tally: Tally) -> Iterator[_Found]:
    kinds = tally.kinds
    yield from _single_vms(tally, kinds)
    for kind in _regions(kinds):
        demand = _Demand.of(tally, [k for k in kinds if k == kind or kind is None or (k is not None and k <= kind)])
        yield _counted(tally, kind, demand, 1, 1)
        for size in _spread(tally.sizes, SIZES_LOOKED_AT // (1 if kind is None else 4)):
            for parts in (1, 2, 3):
                yield _counted(tally, kind, demand, parts, size)
        yield from _fillable(tally, kind, demand)


@dataclass(frozen=True, slots=True)
class _Demand:
    """VMs of some kinds taken together, by size: how many are on each host, and how many wait."""

    own: Mapping[int, Sequence[int]]
    waiting: Counts
    sizes: Sequence[int]

    @classmethod
    def of(cls, tally: Tally, kinds: Iterable[Kind]) -> "_Demand":
        own: dict[int, list[int]] = {}
        waiting: dict[int, int] = {}
        for kind in kinds:
            for i, counts in enumerate(tally.own.get(kind, ())):
                for size, number in counts.items():
                    if size not in own:
                        own[size] = [0] * len(tally.names)
                    own[size][i] += number
            for size, number in tally.off.get(kind, {}).items():
                waiting[size] = waiting.get(size, 0) + number
        return cls(own, waiting, sorted({*own, *waiting}, reverse=True))

    def measured(self, hosts: int, value_of: Callable[[int], int]) -> tuple[list[int], int]:
        """The VMs on each host, and those that wait, each counted by the value of its size. Sizes that count nothing come last."""
        load, waiting = [0] * hosts, 0
        for size in self.sizes:
            value = value_of(size)
            if not value:
                break
            if size in self.own:
                load = [total + value * number for total, number in zip(load, self.own[size], strict=True)]
            waiting += value * self.waiting.get(size, 0)
        return load, waiting


def _regions(kinds: Sequence[Kind]) -> list[Kind]:
    """Sets of hosts to count in: all, those that VMs are limited to, and two of these together where there are few."""
    if not kinds:  # nothing is protected
        return []
    limited = [kind for kind in kinds if kind is not None]
    unions = [one | other for one, other in combinations(limited, 2)] if len(limited) <= KINDS_JOINED else []
    return list(dict.fromkeys([None, *kinds, *unions]))[:KINDS_LOOKED_AT]


def _single_vms(tally: Tally, kinds: Iterable[Kind]) -> Iterator[_Found]:
    """A VM is lost when its own host fails and every other host that has room for it."""
    n = len(tally.names)
    for kind in kinds:
        seen: dict[int | None, int] = {}
        for host, counts in enumerate(tally.own.get(kind, ())):
            if counts:
                seen[host] = max(counts)
        if tally.off.get(kind):
            seen[None] = max(tally.off[kind])
        for home, size in seen.items():
            rooms = [i for i in range(n) if i != home and tally.free[i] >= size and (kind is None or i in kind)]
            losing = {tally.group[i] for i in rooms} | ({tally.group[home]} if home is not None else set())
            yield _Found(len(losing) - 1, partial(_single_vm, tally, size, home, rooms, losing))


def _single_vm(tally: Tally, size: int, home: int | None, rooms: Sequence[int], losing: Collection[int]) -> Ceiling:
    others = ", ".join(tally.names[i] for i in rooms[:5]) + (" and others" if len(rooms) > 5 else "")
    have = f"only {others} {'has' if len(rooms) == 1 else 'have'} room for it" if rooms else "no other host has room for it"
    where = f"a VM of {amount(size)} on {tally.names[home]}" if home is not None else f"a waiting VM of {amount(size)}"
    return Ceiling(len(losing) - 1, tuple(sorted(losing)), f"{where}: {have}")


def _counted(tally: Tally, kind: Kind, demand: _Demand, parts: int, size: int) -> _Found:
    """Memory counted by phi(x) = floor(x * parts / size): what fits into a host is never more than phi of its free memory.

    With parts = size = 1 this is plain volume; with parts = 1 it counts slots for VMs of that size or larger.
    """
    room = [free * parts // size if kind is None or i in kind else 0 for i, free in enumerate(tally.free)]
    load, waiting = demand.measured(len(room), lambda each: each * parts // size)
    if size == 1:
        return _measured(
            tally, room, load, waiting, lambda need, left: "{} would need a place and {} would be left".format(*both(need, left))
        )
    slots = f"slots of {amount(-(-size // parts))}"
    return _measured(tally, room, load, waiting, lambda need, left: f"{need} {slots} would need a place and {left} would be left")


def _measured(tally: Tally, room: Sequence[int], load: Sequence[int], waiting: int, words: Callable[[int, int], str]) -> _Found:
    """The bound of one measure: `room` of each host, `load` of the VMs on it and what waits."""
    values = tally.by_group([r + own for r, own in zip(room, load, strict=True)])
    most = covered(values, sum(room) - waiting)

    def told() -> Ceiling:
        breaking = tuple(sorted(range(len(values)), key=lambda g: (-values[g], g))[: most + 1])
        need = sum(own for i, own in enumerate(load) if tally.group[i] in breaking) + waiting
        left = sum(r for i, r in enumerate(room) if tally.group[i] not in breaking)
        return Ceiling(most, breaking, words(need, left))

    return _Found(most, told)


def _fillable(tally: Tally, kind: Kind, demand: _Demand) -> Iterator[_Found]:
    """Memory that VMs of a size or larger can really fill: the largest sum of such sizes that a host's free memory holds.

    No set of those VMs takes more of a host than that, so it counts as volume does. Sums are bits of one number; sizes and
    free memory are rounded down to cells where bytes would be too many, which keeps every sum that fits.
    """
    sizes = demand.sizes
    free = [amount if kind is None or i in kind else 0 for i, amount in enumerate(tally.free)]
    cell = max(gcd(*sizes), -(-max(free, default=0) // CELLS)) if sizes else 1
    limit = max(free, default=0) // cell
    inside_limit = (2 << limit) - 1
    looked_at = set(_spread(sizes[::-1], SIZES_LOOKED_AT // 2))
    up_to = [(2 << amount // cell) - 1 for amount in free]
    sums = 1
    load, waiting = [0] * len(free), 0
    for size in sizes:
        step = shift = size // cell
        while 0 < shift <= limit:
            sums |= sums << shift & inside_limit
            shift *= 2
        if size in demand.own:
            load = [total + step * number for total, number in zip(load, demand.own[size], strict=True)]
        waiting += step * demand.waiting.get(size, 0)
        if size in looked_at:
            room = [(sums & bits).bit_length() - 1 for bits in up_to]
            yield _measured(
                tally,
                room,
                load,
                waiting,
                lambda need, left, size=size: _fillable_words(need * cell, left * cell, size),  # type: ignore[misc]
            )


def _fillable_words(need: int, left: int, size: int) -> str:
    needed, found = both(need, left)
    return f"VMs of {amount(size)} or more would need places for {needed} and could fill {found} of what is left"


def volume_ceiling(tally: Tally) -> int:
    """The upper bound by memory alone, all hosts taken together; the cheapest there is."""
    return _counted(tally, None, _Demand.of(tally, tally.kinds), 1, 1).most


def any_fit_floor(tally: Tally) -> int:
    """Failures that every policy survives which places a VM wherever some host has room, however it chooses; -1 as in `Ceiling`.

    A VM of size s is stuck only if every surviving host it may use has less than s free. Then the moved VMs fill the survivors up to
    s - 1 bytes each, so `sum of max(0, free - s + 1) <= moved - s`. Where no set of failures reaches that, nothing is ever stuck.
    """
    if tally.extras:
        return -1
    kinds = tally.kinds
    hosts = range(len(tally.names))
    every = [sum(s * number for per_host in tally.own.values() for s, number in per_host[i].items()) for i in hosts]
    every_off = _volume(tally.off.values())
    worst = tally.groups
    for kind in kinds:
        if len(kinds) > KINDS_LOOKED_AT:
            meeting, meeting_off = every, every_off
        else:
            near = [k for k in kinds if k is None or kind is None or k & kind]
            near = near if kind in near else [*near, kind]
            meeting = [sum(s * number for k in near if k in tally.own for s, number in tally.own[k][i].items()) for i in hosts]
            meeting_off = _volume(tally.off[k] for k in near if k in tally.off)
        own_sizes = {s for counts in (*tally.own.get(kind, ()), tally.off.get(kind, {})) for s in counts}
        for smallest, largest in _buckets(sorted(own_sizes)):
            room = [max(0, tally.free[i] - largest + 1) if kind is None or i in kind else 0 for i in hosts]
            values = tally.by_group(meeting[i] + room[i] for i in hosts)
            worst = min(worst, covered(values, sum(room) - meeting_off + smallest - 1))
    return worst


def _volume(parts: Iterable[Counts]) -> int:
    return sum(size * number for counts in parts for size, number in counts.items())


def _buckets(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring sizes taken together when there are very many: the smallest and the largest of each part."""
    step = -(-len(sizes) // SIZES_LOOKED_AT)
    for start in range(0, len(sizes), max(1, step)):
        part = sizes[start : start + step]
        yield part[0], part[-1]


def _spread(sizes: Sequence[int], most: int) -> Sequence[int]:
    """At most that many of the sizes, evenly, and always the largest."""
    if len(sizes) <= most:
        return sizes
    return sorted({sizes[-1 - at * len(sizes) // most] for at in range(most)})

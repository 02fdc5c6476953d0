"""Bounds by counting: what no policy can exceed, and what every policy that tries all hosts reaches.

Every bound here has one form. Each failure group (a host, or a domain) has a value, the pool has a budget, and k failures are
covered only while the k largest values together stay within the budget. So each bound is a sort, whatever the order of failures.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quorate_planner.tally import Counts, Kind, Tally

SIZES_LOOKED_AT = 32
KINDS_LOOKED_AT = 24
"""Work limits. Looking at fewer sizes or kinds makes an upper bound larger and a lower bound smaller: still true, less sharp."""


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


def ceiling(tally: Tally) -> Ceiling | None:
    """The lowest upper bound found by counting, or None if nothing is protected: then every host may fail."""
    best: Ceiling | None = None
    for found in _ceilings(tally):
        if best is None or (found.most, len(found.breaking)) < (best.most, len(best.breaking)):
            best = found
    return best


def _ceilings(tally: Tally) -> Iterator[Ceiling]:
    kinds = tally.kinds
    yield from _single_vms(tally, kinds)
    for kind in kinds[:KINDS_LOOKED_AT]:
        inside = [k for k in kinds if k == kind or kind is None or (k is not None and k <= kind)]
        yield _counted(tally, kind, inside, 1, 1)
        for size in _spread(tally.sizes, SIZES_LOOKED_AT // (1 if kind is None else 4)):
            for parts in (1, 2, 3):
                yield _counted(tally, kind, inside, parts, size)


def _single_vms(tally: Tally, kinds: Iterable[Kind]) -> Iterator[Ceiling]:
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
            others = ", ".join(tally.names[i] for i in rooms[:5]) + (" and others" if len(rooms) > 5 else "")
            have = f"only {others} {'has' if len(rooms) == 1 else 'have'} room for it" if rooms else "no other host has room for it"
            where = f"a VM of {size} bytes on {tally.names[home]}" if home is not None else f"a waiting VM of {size} bytes"
            yield Ceiling(len(losing) - 1, tuple(sorted(losing)), f"{where}: {have}")


def _counted(tally: Tally, kind: Kind, inside: Iterable[Kind], parts: int, size: int) -> Ceiling:
    """Memory counted by phi(x) = floor(x * parts / size): what fits into a host is never more than phi of its free memory.

    With parts = size = 1 this is plain volume; with parts = 1 it counts slots for VMs of that size or larger.
    """
    hosts = range(len(tally.names))
    room = [tally.free[i] * parts // size if kind is None or i in kind else 0 for i in hosts]
    load = [0] * len(room)
    waiting = 0
    for each in inside:
        for i, counts in enumerate(tally.own.get(each, ())):
            if counts:
                load[i] += sum(number * (s * parts // size) for s, number in counts.items())
        waiting += sum(number * (s * parts // size) for s, number in tally.off.get(each, {}).items())
    values = tally.by_group(load[i] + room[i] for i in hosts)
    total = sum(room)
    most = covered(values, total - waiting)
    breaking = tuple(sorted(range(len(values)), key=lambda g: (-values[g], g))[: most + 1])
    if size == 1:
        unit = "bytes"
    else:
        unit = f"slots of {size} bytes" if parts == 1 else f"slots of {-(-size // parts)} bytes"
    moved = sum(load[i] for i in hosts if tally.group[i] in breaking) + waiting
    left = sum(room[i] for i in hosts if tally.group[i] not in breaking)
    return Ceiling(most, breaking, f"{moved} {unit} would need a place and {left} would be left")


def volume_ceiling(tally: Tally) -> int:
    """The upper bound by memory alone, all hosts taken together; the cheapest there is."""
    return _counted(tally, None, tally.kinds, 1, 1).most


def any_fit_floor(tally: Tally) -> int:
    """Failures that every policy survives which places a VM wherever some host has room, however it chooses; -1 as in `Ceiling`.

    A VM of size s is stuck only if every surviving host it may use has less than s free. Then the moved VMs fill the survivors up to
    s - 1 bytes each, so `sum of max(0, free - s + 1) <= moved - s`. Where no set of failures reaches that, nothing is ever stuck.
    """
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

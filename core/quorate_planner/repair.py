"""Mending a cut: what a linear program split is rounded to whole blocks, and rounding leaves some levels a few blocks short.

A walk of small steps: memory of one host moves from one zone to another, so that one more block of a level that is short comes to be,
or one VM is bound to another zone. Each step is the one that lowers the shortage most, by an estimate that looks at the host alone;
steps that help nothing are taken too, but not taken back at once. The walk proves nothing: what it returns is checked by `cut.shortfalls`.
No randomness: the same cut is mended the same way.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence

from quorate_planner.chains import levels
from quorate_planner.cut import Cut, Key, Place
from quorate_planner.tally import Tally

STEPS_MOST = 600
STEPS_IN_VAIN = 40
"""The walk ends after so many steps, or so many since the last that lowered the shortage."""

LEVELS_AT_ONCE = 6

NOT_BACK = 12
"""A host and zone, once changed, are left alone for so many steps."""

Step = tuple[str, int, int, int, tuple[tuple[int, int], ...]]
"""("shift", host, to zone, units, ((from zone, units), ...)) or ("bind", number of key, to zone, 1, ((from zone, 1),))."""

_Pair = tuple[list[int], int, int, int]
"""The values of a level, the k-th largest of them, blocks that come, and the level."""


def mended(tally: Tally, cut: Cut, failures: int, left_seconds: Callable[[], float], *, in_vain: int = STEPS_IN_VAIN) -> Cut:
    """The cut with the least shortage that was met; the same cut if nothing helped. It gives up after so many steps `in_vain`."""
    walk = _Walk(tally, cut, failures)
    best, kept = walk.shortage(), walk.cut()
    recent: deque[tuple[str, int, int]] = deque(maxlen=NOT_BACK)
    better_at = 0
    for number in range(STEPS_MOST):
        if best == 0 or number - better_at > in_vain or left_seconds() <= 0:
            break
        step = walk.best_step(frozenset(recent))
        if step is None:
            break
        walk.take(step)
        recent.append(step[:3])
        if walk.shortage() < best:
            best, kept, better_at = walk.shortage(), walk.cut(), number
    return kept


class _Walk:
    """`short[zone][level]`: blocks that are missing in the condition, negative where there are some to spare."""

    def __init__(self, tally: Tally, cut: Cut, failures: int) -> None:
        self._tally, self._cut, self._k = tally, cut, failures
        self._chains = [shape.chain for shape in cut.shapes]
        self._units = [list(row) for row in cut.units]
        self._bound = {key: list(numbers) for key, numbers in cut.bound.items()}
        self._homes = [tuple(self._homes_of(key)) for key in self._bound]
        self._keys: list[Key] = [key for key, homes in zip(self._bound, self._homes, strict=True) if len(homes) > 1]
        self._homes = [homes for homes in self._homes if len(homes) > 1]
        self._level_of = [levels(chain, [s for s in tally.sizes if s <= chain[-1]]) for chain in self._chains]
        self._parts = [[block // chain[0] for block in chain] for chain in self._chains]
        self._rest = [
            free - sum(chain[0] * self._units[at][i] for at, chain in enumerate(self._chains)) for i, free in enumerate(tally.free)
        ]
        self._values: list[list[list[int]]] = []
        self._budget: list[list[int]] = []
        for at, parts in enumerate(self._parts):
            rows, budgets = [], []
            for level, part in enumerate(parts):
                row = [0] * tally.groups
                budget = 0
                for i, units in enumerate(self._units[at]):
                    row[tally.group[i]] += units // part
                    budget += units // part
                for key, numbers in self._bound.items():
                    blocks = numbers[at] * self._blocks(at, level, key[1]) if numbers[at] else 0
                    if key[2] is None:
                        budget -= blocks
                    else:
                        row[tally.group[key[2]]] += blocks
                rows.append(row)
                budgets.append(budget)
            self._values.append(rows)
            self._budget.append(budgets)
        self._short = [[0] * len(parts) for parts in self._parts]
        self._edge = [[0] * len(parts) for parts in self._parts]
        for at in range(len(self._chains)):
            self._count(at)

    def _homes_of(self, key: Key) -> Iterator[int]:
        for at, shape in enumerate(self._cut.shapes):
            if shape.takes(key[0]) and shape.chain[-1] >= key[1]:
                yield at

    def _blocks(self, at: int, level: int, size: int) -> int:
        own = self._level_of[at][size]
        return self._parts[at][own] // self._parts[at][level] if own >= level else 0

    def _count(self, at: int) -> None:
        for level, row in enumerate(self._values[at]):
            ranked = sorted(row, reverse=True)
            self._short[at][level] = sum(ranked[: self._k]) - self._budget[at][level]
            self._edge[at][level] = ranked[self._k - 1] if self._k else 1 << 62

    def shortage(self) -> int:
        """Bytes of blocks that are missing."""
        return sum(max(0, s) * chain[level] for chain, row in zip(self._chains, self._short, strict=True) for level, s in enumerate(row))

    def cut(self) -> Cut:
        return Cut(self._cut.shapes, tuple(map(tuple, self._units)), {key: tuple(numbers) for key, numbers in self._bound.items()})

    def best_step(self, barred: Collection[tuple[str, int, int]]) -> Step | None:
        """The step expected to save most, of those that could help one of the levels that are most short and take from nothing barred.

        Looked at in the order of what they give: what a step takes never saves anything, so most need not be looked at further.
        """
        best: tuple[int, Step] | None = None
        before: Step | None = None
        self._pairs: dict[tuple[int, int, int], list[_Pair]] = {}
        for given, step in sorted(self._steps(), reverse=True):
            if best is not None and given < best[0]:
                break
            if step != before and not any((step[0], step[1], at) in barred for at, _ in step[4]):
                scored = (given + self._taken(step), step)
                best = scored if best is None else max(best, scored)
            before = step
        return None if best is None else best[1]

    def _steps(self) -> Iterator[tuple[int, Step]]:
        """Steps that could help one of the levels that are most short, each with what it saves before anything is taken for it."""
        zones = range(len(self._chains))
        short = sorted((-s * self._chains[at][level], at, level) for at in zones for level, s in enumerate(self._short[at]) if s > 0)
        saved: dict[tuple[int, int, Place], int] = {}
        for _, at, level in short[:LEVELS_AT_ONCE]:
            part, base = self._parts[at][level], self._chains[at][0]
            shape, values, edge = self._cut.shapes[at], self._values[at][level], self._edge[at][level]
            for i, units in enumerate(self._units[at]):
                if values[self._tally.group[i]] >= edge or not shape.carries(i):
                    continue
                need = part - units % part
                missing = need * base - self._rest[i]
                rich = sorted((self._units[other][i] * self._chains[other][0], other) for other in zones if other != at)
                if not rich or sum(memory for memory, _ in rich) < missing:
                    continue
                given = self._shift_gain(i, at, need)
                for memory, other in rich:
                    if memory >= missing:
                        yield given, ("shift", i, at, need, ((other, max(0, -(-missing // self._chains[other][0]))),))
                if rich[-1][0] < missing:
                    yield given, ("shift", i, at, need, self._gathered(missing, rich))
            for number, key in enumerate(self._keys):
                _, size, home = key
                if not self._bound[key][at] or self._level_of[at].get(size, -1) < level:
                    continue
                if home is not None and values[self._tally.group[home]] < edge:
                    continue
                if (at, size, home) not in saved:
                    saved[at, size, home] = self._bind_gain(key, at, -1)
                for other in self._homes[number]:
                    if other != at:
                        yield saved[at, size, home], ("bind", number, other, 1, ((at, 1),))

    def _gathered(self, missing: int, rich: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """So many bytes from several zones, the ones with most memory first."""
        taken = []
        for memory, other in reversed(rich):
            base = self._chains[other][0]
            units = min(memory // base, -(-missing // base))
            if missing > 0 and units:
                taken.append((other, units))
                missing -= units * base
        return tuple(taken)

    def _taken(self, step: Step) -> int:
        """Bytes of shortage that the step is expected to cost where it takes from; never above zero."""
        what, i, to, _, sources = step
        if what == "shift":
            return sum(self._shift_gain(i, source, -units) for source, units in sources)
        return self._bind_gain(self._keys[i], to, 1)

    def _shift_gain(self, i: int, at: int, more: int) -> int:
        total = 0
        units, group = self._units[at][i], self._tally.group[i]
        for level, part in enumerate(self._parts[at]):
            change = (units + more) // part - units // part
            if change and self._short[at][level] > min(0, change):
                value, edge = self._values[at][level][group], self._edge[at][level]
                cost = max(0, value + change - edge) - max(0, value - edge) - change
                total += self._saved(at, level, cost)
        return total

    def _bind_gain(self, key: Key, at: int, more: int) -> int:
        total = 0
        group = None if key[2] is None else self._tally.group[key[2]]
        for row, edge, change, level in self._touched(at, key[1], more):
            if group is not None:
                over = row[group] - edge
                change = max(0, over + change) - max(0, over)
            if change:
                total += self._saved(at, level, change)
        return total

    def _touched(self, at: int, size: int, more: int) -> "list[_Pair]":
        """The levels whose shortage may change once a VM of that size comes (1) or goes (-1), and by how many blocks at most."""
        if (at, size, more) not in self._pairs:
            parts, short = self._parts[at], self._short[at]
            own = self._level_of[at][size]
            changes = [more * (parts[own] // part) for part in parts[: own + 1]]
            self._pairs[at, size, more] = [
                (self._values[at][level], self._edge[at][level], change, level)
                for level, change in enumerate(changes)
                if short[level] > min(0, -change)
            ]
        return self._pairs[at, size, more]

    def _saved(self, at: int, level: int, cost: int) -> int:
        short = self._short[at][level]
        return (max(0, short) - max(0, short + cost)) * self._chains[at][level]

    def take(self, step: Step) -> None:
        """Make the step."""
        what, i, to, amount, sources = step
        changes = [(to, amount), *((source, -units) for source, units in sources)]
        if what == "shift":
            for at, more in changes:
                before = self._units[at][i]
                self._units[at][i] = before + more
                self._rest[i] -= more * self._chains[at][0]
                for level, part in enumerate(self._parts[at]):
                    change = (before + more) // part - before // part
                    self._values[at][level][self._tally.group[i]] += change
                    self._budget[at][level] += change
                self._count(at)
            return
        key = self._keys[i]
        for at, more in changes:
            self._bound[key][at] += more
            for level in range(self._level_of[at][key[1]] + 1):
                change = more * self._blocks(at, level, key[1])
                if key[2] is None:
                    self._budget[at][level] -= change
                else:
                    self._values[at][level][self._tally.group[key[2]]] += change
            self._count(at)

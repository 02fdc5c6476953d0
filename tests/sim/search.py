"""The random search: many numbers, many schedules, on all cores; what it finds is shrunk and can be played again."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import compiled, fast, scenario, shrink
from .profiles import generate
from .schedule import play

_BUNCH = 20
_SHOWN = 5
_WORTH_COMPILING = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """One number that found something."""

    seed: int
    rule: str
    sentence: str


@dataclass(slots=True)
class Tally:
    """Where a search stands."""

    seeds: int
    done: int = 0
    found: list[Found] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def per_minute(self) -> float:
        """Schedules tried per minute."""
        return 60 * self.done / max(1e-6, time.monotonic() - self.began)

    def line(self) -> str:
        """Progress in one line."""
        left = (self.seeds - self.done) / self.per_minute * 60 if self.done else 0.0
        return f"{self.done:,} of {self.seeds:,} schedules, {self.per_minute:,.0f} a minute, {left:,.0f} s left, {len(self.found)} found"


def try_one(seed: int, profile: str = "") -> Found | None:
    """What the schedule of that number finds first. A crash of the core is a finding like any other."""
    try:
        findings = play(generate(seed, profile)).findings
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Found(seed, "crash", f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})")
    return Found(seed, findings[0].rule, findings[0].sentence) if findings else None


def _bunch(work: tuple[int, int, str]) -> tuple[int, list[Found]]:
    first, count, profile = work
    found = (try_one(seed, profile) for seed in range(first, first + count))
    return count, [one for one in found if one is not None]


def search(first: int, count: int, jobs: int, profile: str = "") -> Iterator[Tally]:
    """Try so many numbers from the first one on; the tally after each bunch. Many are tried by processes that run the compiled core."""
    many = count >= _WORTH_COMPILING and _found_compiled()
    tally = Tally(count)
    work = [(seed, min(_BUNCH, first + count - seed), profile) for seed in range(first, first + count, _BUNCH)]
    if jobs == 1 and not many:
        fast.install()
        for one in work:
            yield _counted(tally, _bunch(one))
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin) as pool:
        for result in pool.imap_unordered(_bunch, work):
            yield _counted(tally, result)


def _begin() -> None:
    """A process of a search. Much is made that lives long and little that is circular, so rubbish is looked for less often."""
    fast.install()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _found_compiled() -> bool:
    """Put the compiled core in front of the path, for processes that are started from now on; False, and why, if there is none."""
    try:
        sys.path.insert(0, str(compiled.core()))
    except compiled.NotCompiled as why:
        print(f"quorate sim: no compiled core here ({why}); searching with the plain one, at half the speed", file=sys.stderr)
        return False
    return True


def _counted(tally: Tally, result: tuple[int, list[Found]]) -> Tally:
    tally.done += result[0]
    tally.found += result[1]
    return tally


def report(first: int, count: int, jobs: int, profile: str = "") -> int:
    """Search, with progress on stderr and findings on stdout; 1 if anything was found."""
    shown, tally = 0, Tally(count)
    for tally in search(first, count, jobs, profile):
        print(f"\r{tally.line()}   ", end="", file=sys.stderr, flush=True)
        while shown < len(tally.found):
            if shown < _SHOWN:
                print(file=sys.stderr)
                print(explain(tally.found[shown], profile), flush=True)
            shown += 1
    print(file=sys.stderr)
    if shown > _SHOWN:
        others = ", ".join(str(found.seed) for found in tally.found[_SHOWN:])
        print(f"and {shown - _SHOWN} more: {others}")
    minutes = (time.monotonic() - tally.began) / 60
    print(f"{tally.done:,} schedules in {minutes:.1f} minutes ({tally.per_minute:,.0f} a minute): {len(tally.found)} found")
    return 1 if tally.found else 0


def explain(found: Found, profile: str = "") -> str:
    """A finding for people: what, how to play it again, and the smallest schedule that still does it."""
    fast.install()
    small = shrink.shrink(generate(found.seed, profile), shrink.finds(found.rule))
    again = f"python -m tests.sim --seeds 1 --from {found.seed}{f' --profile {profile}' if profile else ''}"
    body = scenario.dump(small, f"seed {found.seed}: {found.rule}")
    return f"seed {found.seed}: {found.rule}: {found.sentence}\nplay it again: {again}\nas a scenario:\n{body}"

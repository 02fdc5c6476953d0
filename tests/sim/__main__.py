"""`python -m tests.sim`: play a scenario and draw its timeline, or search at random."""

import argparse
import os
import sys
from pathlib import Path

from . import fast, scenario, search, timeline
from .profiles import PROFILES, generate
from .schedule import play


def main() -> int:
    """0: all is well; 1: something was found, or an expectation is broken; 2: bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim", description="Play scenarios of the liveness protocol, or search at random."
    )
    parser.add_argument("--scenario", type=Path, help="play this file and draw its timeline")
    parser.add_argument("--words", action="store_true", help="with what the hosts say")
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="search: so many schedules")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="S", help="search: the first number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="search: processes")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="", help="search: only this kind of trouble")
    parser.add_argument("--draw", action="store_true", help="with --seeds 1: draw the timeline of that schedule")
    given = parser.parse_args()
    if given.seeds < 1 or given.jobs < 1:
        print("quorate sim: --seeds and --jobs: at least 1", file=sys.stderr)
        return 2
    if given.scenario is not None:
        return _play(given.scenario, words=given.words)
    if given.draw:
        fast.install()
        outcome = play(generate(given.first, given.profile), listen=given.words)
        print(timeline.draw(outcome, words=given.words))
        for finding in outcome.findings:
            print(f"FOUND {finding.rule}: {finding.sentence}")
        return 1 if outcome.findings else 0
    return search.report(given.first, given.seeds, given.jobs, given.profile)


def _play(path: Path, *, words: bool) -> int:
    fast.install()
    try:
        read = scenario.load(path)
    except scenario.BadScenario as error:
        print(f"quorate sim: {error}", file=sys.stderr)
        return 2
    played = scenario.run(read)
    print(f"{read.schedule.name}\n")
    print(timeline.draw(played.outcome, words=words))
    print()
    for expectation in read.expectations:
        broken = any(f"expected: {expectation};" in failure for failure in played.failures)
        print(f"{'NO ' if broken else 'ok '} {expectation}")
    for failure in played.failures:
        print(f"FAILED {failure}")
    return 1 if played.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""One search for a better plan, in a process of its own: OR-Tools keeps Python's lock while it solves, and the lease would not be renewed.

The process ends with its search. It knows nothing of the cluster, and what it sends back is only a proposal.
"""

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import quorate_planner as planner
from quorate_core.layout import Layout
from quorate_planner import Problem

NICE = 10
"""Turns and answers go first."""
_LOADING_SECONDS = 60.0


class SearchFailed(Exception):
    """The process ended without a result."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a search found: a layout for `lower` failures, if it found one, and that more than `upper` are impossible."""

    layout: Layout | None
    lower: int
    upper: int


def search(problem: Problem, seconds: float) -> Proposal:
    """Search for so long, at most. Raises `SearchFailed`."""
    spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_search, args=(sender, problem, seconds), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds + _LOADING_SECONDS):
            raise SearchFailed(f"no result {_LOADING_SECONDS:.0f} s after its time of {seconds:.0f} s")
        proposal: Proposal = receiver.recv()
        return proposal
    except EOFError:
        process.join()
        raise SearchFailed(f"the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def _search(sender: Connection, problem: Problem, seconds: float) -> None:
    os.nice(NICE)
    sharp = planner.sharpen(problem, planner.Budget.of(time.monotonic, seconds))
    layout = planner.layout_of(problem, sharp.certificate) if sharp.certificate is not None else None
    sender.send(Proposal(layout, sharp.plan.lower, sharp.plan.upper))

"""The leader's plan between its turns: which layout each pool keeps, and the search for a better one beside the loop.

A turn keeps the layout that proves most for what it sees: the one of the turn before, the one that is stored (a new leader knows no
other), one that the search has found meanwhile, or the plain one. So the number falls only when the pool changes.
The search runs in a process of its own; a thread waits for it, and nobody waits for that thread, neither a turn nor the end of the process.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import quorate_planner as planner
from quorate_controller import layouts, searching
from quorate_core.facts import Snapshot
from quorate_core.layout import Layout
from quorate_planner import Plan, Problem

log = logging.getLogger(__name__)

SEARCH_SECONDS = 20.0
"""How long one search may take."""
PAUSE_SECONDS = 60.0
"""Between two searches for the same pool while its wish is met; without a plan the next one begins at once."""

Ring = Callable[[], None]


class Keeper:
    """What one leadership remembers of its pools' layouts. `ring` wakes the loop when a search has found something."""

    def __init__(self, ring: Ring, *, seconds: float = SEARCH_SECONDS) -> None:
        self._ring = ring
        self._seconds = seconds
        self._kept: dict[str, Layout] = {}
        self._found: dict[str, Layout] = {}
        self._searched: dict[str, tuple[Problem, float]] = {}
        self._search: threading.Thread | None = None

    def keep(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the layout that its pool shall keep from now on."""
        pool = snapshot.pool.name
        given = (self._kept.get(pool), snapshot.layout, self._found.get(pool))
        candidates = [layout for at, layout in enumerate(given) if layout is not None and layout not in given[:at]]
        problem = planner.problem_of(snapshot)
        layout = planner.best_layout(problem, candidates)
        if layout is None and problem.vms and candidates:
            layout = candidates[0]  # some VM has no place now; what was found for the others is not given up for that
        if layout is not None and not layouts.storable(layout):
            log.warning("pool %s: a layout of %d zones is too large to store; the plain rule runs", pool, len(layout.zones))
            layout = None
        if layout is None:
            self._kept.pop(pool, None)
        else:
            self._kept[pool] = layout
        return replace(snapshot, layout=layout)

    def search(self, snapshots: Mapping[str, Snapshot], plans: Mapping[str, Plan]) -> None:
        """Begin to look for a better layout for a pool that may have one, if no search is under way."""
        if self._search is not None and self._search.is_alive():
            return
        now = time.monotonic()
        # Pools without a plan first.
        for pool, plan in sorted(plans.items(), key=lambda item: (item[1].plan_exists, item[0])):
            if plan.exact:
                continue
            problem = planner.problem_of(snapshots[pool])
            before, at = self._searched.get(pool, (None, float("-inf")))
            if problem == before or (plan.plan_exists and now - at < PAUSE_SECONDS):
                continue
            self._searched[pool] = (problem, now)
            self._search = threading.Thread(target=self._sharpen, args=(pool, problem, plan.lower), name=f"sharpen-{pool}", daemon=True)
            self._search.start()
            return

    def _sharpen(self, pool: str, problem: Problem, lower: int) -> None:
        """One search. What it finds is proven again, for what is then seen, before it is kept."""
        began = time.monotonic()
        try:
            found = searching.search(problem, self._seconds)
        except Exception:  # the top of this thread: the turns go on with what they have
            log.exception("pool %s: the search for a better plan failed", pool)
            return
        took = time.monotonic() - began
        if found.layout is None or found.lower <= lower:
            log.info("pool %s: no better plan in %.1f s: %d to %d failures", pool, took, lower, found.upper)
            return
        log.info("pool %s: plan for %d failures instead of %d found in %.1f s, at most %d", pool, found.lower, lower, took, found.upper)
        self._found[pool] = found.layout
        self._ring()

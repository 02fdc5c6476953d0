"""Warns while there is still time: a storage cycle longer than half its limit, evidence older than half the licence. Once per episode."""

from collections import Counter

from quorate_core.heart import Heart, Say
from quorate_core.licence import Cycle

SLOW_CYCLE, OLD_EVIDENCE = "slow storage cycle", "old evidence"


class Alarms:
    """What is being warned of, and how often each began."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter({SLOW_CYCLE: 0, OLD_EVIDENCE: 0})
        self._now: set[str] = set()

    def cycle(self, heart: Heart, cycle: Cycle) -> list[Say]:
        """What to say about a cycle that came back."""
        if heart.config is None or cycle.error:
            return []
        limit, took = heart.config.timing.cycle_limit_seconds, cycle.completed_at - cycle.issued_at
        sentence = f"a storage cycle took {took:.1f} s, more than half of the {limit:g} s after which it proves nothing"
        return self._turn(SLOW_CYCLE, heart.host, sentence, on=took > limit / 2)

    def tick(self, heart: Heart, now: float) -> list[Say]:
        """What to say at this time."""
        if heart.config is None or heart.deadline is None:
            self._now.discard(OLD_EVIDENCE)
            return []
        licence, left = heart.config.timing.licence_seconds, heart.deadline - now
        why = heart.no_evidence or "no storage cycle has come back"
        sentence = f"only {left:.1f} s of the licence of {licence:g} s are left, then this host is reset ({why})"
        return self._turn(OLD_EVIDENCE, heart.host, sentence, on=left < licence / 2)

    def _turn(self, what: str, host: str, sentence: str, *, on: bool) -> list[Say]:
        began = on and what not in self._now
        (self._now.add if on else self._now.discard)(what)
        if not began:
            return []
        self.counts[what] += 1
        return [Say(f"{host}: {sentence}", loud=True)]

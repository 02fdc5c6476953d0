"""Counts what was thrown away, by cause; and remembers whose packets were, for people who look for what keeps their pool from arming."""

from collections import Counter
from collections.abc import Mapping

from quorate_core.packet import Drop

_MOST_SENDERS = 16
_AGAIN_SECONDS = 60.0
_HINTS = {
    Drop.FORGED: "signature (another key?)",
    Drop.OTHER_POOL: "another pool (do two pools share one port?)",
    Drop.VERSION: "another version (another release of the agent?)",
    Drop.STRANGER: "no member by that name and slot (do the hosts have different configurations?)",
    Drop.REFLECTED: "this host's own name (do two hosts have one name?)",
    Drop.NOT_OURS: "not from Quorate (does something else send to this port?)",
}


class Dropped:
    """Counters by cause, and the last few senders with what was wrong."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._senders: dict[str, tuple[str, float]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def count(self, reason: str, sender: str, now: float) -> None:
        """One more. A second copy of a packet is normal where there are several paths, and nobody's fault."""
        self.counts[reason] += 1
        hint = _HINTS.get(Drop(reason))
        if hint is None:
            return
        self._senders.pop(sender, None)
        self._senders[sender] = hint, now
        while len(self._senders) > _MOST_SENDERS:
            del self._senders[next(iter(self._senders))]

    def causes(self, names: Mapping[str, str], now: float, within_seconds: float) -> list[str]:
        """A sentence for each sender of late. `names` are the hosts of known addresses."""
        return [_sentence(sender, names, hint) for sender, (hint, at) in sorted(self._senders.items()) if now - at <= within_seconds]

    def news(self, names: Mapping[str, str], now: float, within_seconds: float) -> list[str]:
        """Those of these sentences that the log does not have: one for each cause and host, all strangers being one. It has them then."""
        found = []
        for sender, (hint, at) in sorted(self._senders.items()):
            if now - at > within_seconds:
                continue
            key = hint, names.get(sender, "")
            if now - self._told.get(key, -_AGAIN_SECONDS) >= _AGAIN_SECONDS:
                found.append(_sentence(sender, names, hint))
            self._told[key] = now  # as long as they come it is told once
        return found


def _sentence(sender: str, names: Mapping[str, str], hint: str) -> str:
    return f"packets from {sender}{f' ({names[sender]})' if sender in names else ''} are dropped: {hint}"

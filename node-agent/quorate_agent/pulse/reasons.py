"""Decides when the log says why this host is not armed: in the words of its HAHost, once for each reason. Pure; time is an argument.

A reason is said when it has stood for a moment, so that the steps of every start fill no log. One that comes and goes: once a minute.
"""

import re

_STANDS_SECONDS = 1.5
_AGAIN_SECONDS = 60.0
_LONGEST_SILENCE_SECONDS = 30.0
"""Reasons that follow one another so fast that none of them stands are not kept back for longer."""
_MOST_REMEMBERED = 16
_DURATION = re.compile(r"\d+(\.\d+)?(?= s\b)")


class Reasons:
    """What has been said of late. Ask with `new` about once a second."""

    def __init__(self) -> None:
        self._now, self._since = "", 0.0
        self._last, self._elsewhere = "", ""
        self._said: dict[str, float] = {}
        self._quiet_since: float | None = None

    def heard(self, sentence: str) -> None:
        """The log has this from somebody else; a reason that it ends with is not said again."""
        self._elsewhere = _sense(sentence)

    def new(self, reason: str, now: float) -> bool:
        """Whether to say this reason now; "" while the host is armed."""
        if not reason:
            self._now = self._last = ""
            self._said, self._quiet_since = {}, None
            return False
        sense = _sense(reason)
        if self._quiet_since is None:
            self._quiet_since = now
        if sense != self._now:
            self._now, self._since = sense, now
        if sense == self._last or now - self._said.get(sense, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return False
        if now - self._since < _STANDS_SECONDS and now - self._quiet_since < _LONGEST_SILENCE_SECONDS:
            return False
        self._last, self._quiet_since = sense, now
        self._said.pop(sense, None)
        self._said[sense] = now
        while len(self._said) > _MOST_REMEMBERED:
            del self._said[next(iter(self._said))]
        known, self._elsewhere = self._elsewhere.endswith(sense), ""
        return not known


def _sense(sentence: str) -> str:
    """The sentence without its counts of seconds, which run on: it is to be a new one no more for them."""
    return _DURATION.sub("N", sentence)

"""The one clock of keeper, pulse and disk: seconds since boot, the time that the host was suspended included.

CLOCK_MONOTONIC stands still during a suspend, and so does the watchdog; the clocks of those who watch this host do not. A licence that has
ended meanwhile on theirs must have ended on this host's, so nothing here measures with any other clock.
"""

import time


def now() -> float:
    """Seconds since this host booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""The one clock of keeper, pulse and disk: seconds since boot by the raw oscillator, the time that the host was suspended included.

CLOCK_MONOTONIC stands still during a suspend, and so does the watchdog; the clocks of those who watch this host do not. A licence that has
ended meanwhile on theirs must have ended on this host's, so nothing here measures with any other clock. CLOCK_BOOTTIME counts that time,
but its rate is whatever NTP makes of it: chrony may slew it by 8 %, and rho, the bound that the proof rests on, is 0.1 %.
"""

import time

_NOISE_SECONDS = 0.01
"""What two clocks that are read one after the other may seem to differ by, and more: no suspend is as short."""

_asleep_seconds = 0.0


def now() -> float:
    """Seconds since this host booted."""
    global _asleep_seconds
    awake_and_asleep = time.clock_gettime(time.CLOCK_BOOTTIME)
    # Read after it, so that the difference is never more than the time asleep, however long this process is kept waiting in between.
    asleep = awake_and_asleep - time.clock_gettime(time.CLOCK_MONOTONIC)
    if asleep > _asleep_seconds + _NOISE_SECONDS:
        _asleep_seconds = asleep
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW) + _asleep_seconds

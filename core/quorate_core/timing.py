"""Every duration of the liveness protocol, derived from two inputs; the inequalities it rests on are checked on construction.

L, the licence: how long one proof of life lets a host keep running its VMs. W, the watchdog's timeout.
Two durations that must agree are never two settings: a third knob would be a third way to make the proof false.

Why the inequalities:

1. `P + jitter <= W/2`: the keeper pets every P = W/4 and may be late by W/4, and still one pet may be lost before the dog bites.
2. `L >= 2 h_s + 2 T_c`: two cycles in a row, each of the worst permitted length, may fail before the third must not.
3. `T_s >= 2 h_s + T_c`, `T_n >= 5 h_n`, both `< L`: a healthy peer is never called silent by one slow cycle or four lost
   packets, and silence is seen before the licence of the silent host ends.
4. `L - h_s - T_c > 0`: the time a restarted agent has to come back under the same licence.
5. `L/2 + 3 h_n + h_s <= L`: hosts that all lose their storage within one interval say so, and have each other's answers,
   before the first licence ends.

Why a survivor waits R: a pet that passed its check at the last instant of the licence may land a whole watchdog period later; killing
a process closes the device, which pings once more; so the dog may bite as late as `kappa = 3` periods after the licence. "Licence plus one
watchdog period" is unsafe. `rho` bounds how fast two clocks drift apart, `q` lets writes already sent reach the disk. From silence,
one more `T_c`, because the last write that was seen may belong to a cycle that still ended later and renewed the licence once.
"""

import math
from dataclasses import dataclass

WATCHDOG_GRANULARITY_SECONDS = 1.0
"""g: coarseness of the watchdog and time until the host has really stopped."""
CLOCK_RATE_BOUND = 1e-3
"""rho: how far the rate of any clock may be off."""
DRAIN_SECONDS = 5.0
"""q: how long a write that was already sent may take to reach a disk."""
SETTLE_SECONDS = DRAIN_SECONDS * (1 + CLOCK_RATE_BOUND)
"""q on one's own clock, which may run fast."""
KAPPA = 3
"""Watchdog periods that may pass after the licence has ended."""


@dataclass(frozen=True, slots=True)
class TimingValues:
    """What a host publishes of its timing; observers reckon with the victim's values, never with their own. In seconds."""

    licence_seconds: float
    watchdog_seconds: float
    cycle_limit_seconds: float
    granularity_seconds: float = WATCHDOG_GRANULARITY_SECONDS
    clock_rate_bound: float = CLOCK_RATE_BOUND
    drain_seconds: float = DRAIN_SECONDS
    kappa: int = KAPPA

    @property
    def release_after_eviction_seconds(self) -> int:
        """R_e: how long after an eviction record the victim's VMs have certainly stopped."""
        rate = (1 + self.clock_rate_bound) / (1 - self.clock_rate_bound)
        latest = self.licence_seconds + self.kappa * (self.watchdog_seconds + self.granularity_seconds)
        return math.ceil(latest * rate + self.drain_seconds)

    @property
    def release_after_silence_seconds(self) -> float:
        """R_s: how long after its last sign of life the victim's VMs have certainly stopped."""
        return self.release_after_eviction_seconds + self.cycle_limit_seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """All durations of a pool. Raises ValueError, with the inequality and its numbers, for inputs that cannot work."""

    licence_seconds: float
    watchdog_seconds: float

    def __post_init__(self) -> None:
        for name, value in (("licence", self.licence_seconds), ("watchdog", self.watchdog_seconds)):
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"timing: the {name} must be a positive number of seconds, not {value}")
        if self.licence_seconds < 6 or self.watchdog_seconds < 2:
            raise ValueError(
                f"timing: a licence of {self.licence_seconds:g} s and a watchdog of {self.watchdog_seconds:g} s are too short; "
                "at least 6 s and 2 s are needed"
            )
        _demand("P + jitter <= W/2", self.pet_interval_seconds + self.jitter_seconds, self.watchdog_seconds / 2)
        two_cycles = 2 * self.storage_interval_seconds + 2 * self.cycle_limit_seconds
        _demand("2 h_s + 2 T_c <= L", two_cycles, self.licence_seconds)
        one_gap = 2 * self.storage_interval_seconds + self.cycle_limit_seconds
        _demand("2 h_s + T_c <= T_s", one_gap, self.storage_timeout_seconds)
        _demand("5 h_n <= T_n", 5 * self.network_interval_seconds, self.network_timeout_seconds)
        _demand("T_s < L", self.storage_timeout_seconds, self.licence_seconds, strict=True)
        _demand("T_n < L", self.network_timeout_seconds, self.licence_seconds, strict=True)
        _demand("0 < L - h_s - T_c", 0, self.restart_budget_seconds, strict=True)
        answered = self.storageless_after_seconds + 3 * self.network_interval_seconds + self.storage_interval_seconds
        _demand("L/2 + 3 h_n + h_s <= L", answered, self.licence_seconds)

    @property
    def storage_interval_seconds(self) -> float:
        """h_s: one storage cycle begins this long after the one before."""
        return min(2.0, self.licence_seconds / 6)

    @property
    def cycle_limit_seconds(self) -> float:
        """T_c: a storage cycle that took longer proves nothing. A whole number of seconds where inequality 2 leaves room for it."""
        return min(float(math.ceil(0.3 * self.licence_seconds)), self.licence_seconds / 2 - self.storage_interval_seconds)

    @property
    def storage_timeout_seconds(self) -> float:
        """T_s: a host whose slot has not changed for so long is not seen on storage."""
        return max(2 * self.cycle_limit_seconds, 2 * self.storage_interval_seconds + self.cycle_limit_seconds)

    @property
    def network_interval_seconds(self) -> float:
        """h_n: time between two packets."""
        return min(1.0, self.licence_seconds / 12)

    @property
    def network_timeout_seconds(self) -> float:
        """T_n: a host without a packet for so long is not seen on the network."""
        return min(8.0, 2 * self.licence_seconds / 3)

    @property
    def pet_interval_seconds(self) -> float:
        """P: time between two pets."""
        return self.watchdog_seconds / 4

    @property
    def jitter_seconds(self) -> float:
        """How late a pet may come without harm."""
        return self.watchdog_seconds / 4

    @property
    def read_gap_limit_seconds(self) -> float:
        """An observer that has not read for longer than this starts its countdowns again."""
        return 2 * self.storage_interval_seconds + self.cycle_limit_seconds

    @property
    def storageless_after_seconds(self) -> float:
        """Without evidence from storage for so long, a host says that it has none: no less than a cycle that still counts may take (2.),
        and early enough for the others' answers to come within the licence."""
        return self.licence_seconds / 2

    @property
    def restart_budget_seconds(self) -> float:
        """How long the agent may be away without the host being reset."""
        return self.licence_seconds - self.storage_interval_seconds - self.cycle_limit_seconds

    @property
    def values(self) -> TimingValues:
        """What is published."""
        return self.values_with_watchdog(self.watchdog_seconds)

    def values_with_watchdog(self, watchdog_seconds: float) -> TimingValues:
        """What is published when the device has set another timeout than was asked for: what it really does counts."""
        return TimingValues(self.licence_seconds, watchdog_seconds, self.cycle_limit_seconds)

    def timeline(self) -> str:
        """The worked timeline for people: what happens when."""
        v = self.values
        rows = (
            (0.0, "the host's last sign of life"),
            (self.network_timeout_seconds, "T_n: no longer seen on the network"),
            (self.storage_timeout_seconds, "T_s: no longer seen on storage"),
            (self.restart_budget_seconds, "an agent restarted before this goes on under the same licence"),
            (self.cycle_limit_seconds + self.licence_seconds, "T_c + L: its keeper has stopped petting"),
            (
                self.cycle_limit_seconds + self.licence_seconds + KAPPA * (self.watchdog_seconds + WATCHDOG_GRANULARITY_SECONDS),
                f"+ {KAPPA} (W + g): its watchdog has reset it, whatever was paused or delayed",
            ),
            (v.release_after_silence_seconds, f"R_s: clock drift and {DRAIN_SECONDS:g} s for writes under way added; certified dead"),
        )
        head = (
            f"licence L = {self.licence_seconds:g} s, watchdog W = {self.watchdog_seconds:g} s: "
            f"a storage cycle every {self.storage_interval_seconds:g} s within {self.cycle_limit_seconds:g} s, "
            f"a packet every {self.network_interval_seconds:g} s, a pet every {self.pet_interval_seconds:g} s; "
            f"R_e = {v.release_after_eviction_seconds} s after an eviction"
        )
        agreed = self.network_timeout_seconds + 3 * self.storage_interval_seconds
        split = (
            (0.0, "the last packet across the cut; storage is fine"),
            (self.network_timeout_seconds, "T_n: both sides see it, and publish which of them is to live"),
            (agreed, "about three cycles later all who are to live have agreed: the others are evicted, and stop their VMs at once"),
            (agreed + v.drain_seconds + 2, "about q later, if they say that no VM is left: certified dead"),
            (agreed + v.release_after_eviction_seconds, "else R_e after the eviction: certified dead"),
        )
        tables = (("when a host falls silent", rows), ("when the network is cut in two", split))
        return "\n".join(
            [head, *(line for name, table in tables for line in (f"{name}:", *(f"{at:7.1f} s  {what}" for at, what in sorted(table))))]
        )


def _demand(inequality: str, left: float, right: float, *, strict: bool = False) -> None:
    holds = left < right if strict else left <= right + 1e-9
    if not holds:
        raise ValueError(f"timing: {inequality} does not hold: {left:g} s against {right:g} s")


STANDARD = Timing(licence_seconds=20, watchdog_seconds=8)
FAST = Timing(licence_seconds=12, watchdog_seconds=5)

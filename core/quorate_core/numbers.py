"""The numbers of slots and packets: which of two is the later one; and those of lives. Pure.

A number is the count of lives that a slot has had, in the high bits, and the host's own milliseconds since boot. So within one boot numbers
rise with the clock over all lives and all restarts, whatever could be read when they began; and a life begins above all that it reads.
"""

import hashlib
from collections.abc import Iterable

_BOOT = 2**45
"""Milliseconds in 1115 years; 2^19 lives are left."""
_MOST_LIVES = 2**19 - 1


def first(seen: Iterable[int], now: float) -> int:
    """The number with which a new life begins at that time, in own seconds since boot: above all of these."""
    return min(max((number // _BOOT for number in seen), default=0) + 1, _MOST_LIVES) * _BOOT + int(now * 1000)


def following(number: int, now: float) -> int:
    """The number after that one of the same life, at that time."""
    return max(number + 1, number // _BOOT * _BOOT + int(now * 1000))


def another(incarnation: int) -> int:
    """The incarnation after that one in the same boot: as good as drawn anew."""
    return int.from_bytes(hashlib.sha256(incarnation.to_bytes(8)).digest()[:8]) | 1


def in_boot(number: int) -> int:
    """What tells the order of numbers of one boot."""
    return number % _BOOT

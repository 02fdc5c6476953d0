"""What pulse's log says of a host that does not arm: each reason once, and whose packets are dropped."""

from itertools import pairwise

from quorate_agent.pulse.dropped import Dropped
from quorate_agent.pulse.reasons import Reasons
from quorate_core.packet import Drop

DISK = "no proof of life on the heartbeat disk"


def said(*looks: tuple[float, str]) -> list[tuple[float, str]]:
    """Those of the looks (when, at which reason) at which the log says it."""
    reasons = Reasons()
    return [(at, reason) for at, reason in looks if reasons.new(reason, at)]


def test_a_reason_is_said_once_it_has_stood_and_only_once() -> None:
    assert said((0, DISK), (1, DISK), (2, DISK), (3, DISK), (300, DISK)) == [(2, DISK)]


def test_the_steps_of_a_start_are_not_said() -> None:
    assert said((0, "starting"), (1, "the watchdog is being opened"), (2, "h1 is Joining"), (3, "")) == []


def test_a_count_of_seconds_makes_no_new_reason_and_the_number_of_a_host_does() -> None:
    counting = [(float(at), f"h1 is silent for {at} s (limit 9.5 s)") for at in range(100)]
    assert said(*counting) == [counting[2]]
    hosts = [(float(at), f"h{1 + at // 10} is not seen on the network") for at in range(30)]
    assert said(*hosts) == [hosts[2], hosts[12], hosts[22]]


def test_a_reason_that_comes_and_goes_is_said_once_a_minute() -> None:
    looks = [(float(at), DISK if at // 5 % 2 else "h1 is not seen") for at in range(180)]
    times = [at for at, reason in said(*looks) if reason == DISK]
    assert len(times) == 3
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))


def test_reasons_that_never_stand_do_not_leave_the_log_without_one() -> None:
    looks = [(float(at), f"h{at} is not seen on the network") for at in range(100)]
    assert [at for at, _ in said(*looks)] == [30, 60, 90]


def test_a_host_that_was_armed_says_the_same_reason_again() -> None:
    looks = [(0, DISK), (2, DISK), (3, ""), (4, DISK), (6, DISK)]
    assert said(*looks) == [(2, DISK), (6, DISK)]


def test_a_reason_that_the_log_already_has_is_not_repeated() -> None:
    reasons = Reasons()
    reasons.heard(f"h0: refused: {DISK} (3 s)")
    assert not any(reasons.new(f"{DISK} (4 s)", at) for at in (0, 2, 4))
    assert not reasons.new("another", 5)
    assert reasons.new("another", 7)


NAMES = {"10.0.0.2": "h1", "10.0.0.3": "h2"}


def test_dropped_packets_are_told_once_for_each_cause_and_host() -> None:
    dropped = Dropped()
    told = []
    for at in range(200):
        for sender, cause in (("10.0.0.2", Drop.FORGED), ("10.0.0.3", Drop.FORGED), (f"192.0.2.{at}", Drop.NOT_OURS)):
            dropped.count(cause, sender, at)
        told += dropped.news(NAMES, at, 10)
    assert told == [
        "packets from 10.0.0.2 (h1) are dropped: signature (another key?)",
        "packets from 10.0.0.3 (h2) are dropped: signature (another key?)",
        "packets from 192.0.2.0 are dropped: not from Quorate (does something else send to this port?)",
    ]


def test_packets_dropped_again_after_a_while_are_told_again_and_copies_never() -> None:
    dropped, told = Dropped(), []
    for at in (0, 5, 100):
        dropped.count(Drop.OTHER_POOL, "10.0.0.2", at)
        dropped.count(Drop.DUPLICATE, "10.0.0.3", at)
        told += [at for _ in dropped.news(NAMES, at, 10)]
    assert told == [0, 100]

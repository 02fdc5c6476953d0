"""Storage that hangs, fails or is slow under real hosts, with the network whole. Rows are those of the design's test matrix."""

import time

import pytest

from tests.agent.machines import TIMING
from tests.agent.namespaces import Host, Pool
from tests.agent.staging import scenario

R_S = TIMING.values.release_after_silence_seconds
R_E = TIMING.values.release_after_eviction_seconds
BEYOND_ANY_LICENCE_SECONDS = TIMING.licence_seconds + 3 * (TIMING.watchdog_seconds + 1) + 1
"""Whoever has no proof of life for so long has been reset."""


def lose_storage(pool: Pool, *hosts: Host, how: str = "eio") -> None:
    for host in hosts or pool.hosts:
        host.storage(both="hang" if how == "hang" else "eio")


@scenario()
def test_a_host_whose_power_is_cut_is_certified_and_the_rest_outlive_the_loss_of_all_storage(pool: Pool) -> None:
    """Rows 21 and 25."""
    pool.arm()
    *rest, victim = pool.hosts
    died = pool.power_off(victim)
    certified = pool.until("all survivors certify it", lambda: pool.certified(victim, by=rest))
    issued = [pool.certificate(victim, by=host) for host in rest]
    assert all(one.silent_seconds >= one.bound_seconds == R_S for one in issued)
    silent = ", ".join(f"{one.silent_seconds:.1f} s" for one in issued)
    pool.figures.append(
        f"certified {certified - died:.1f} s after the power cut; silent for {silent} by the survivors' clocks; R_s = {R_S:g} s"
    )
    time.sleep(3 * TIMING.storage_interval_seconds)  # all have read the certificates on the disk
    lose_storage(pool)
    pool.during(
        BEYOND_ANY_LICENCE_SECONDS / 2, lambda: pool.alive() == [0, 1, 2], "the certified host is not needed to live without storage"
    )
    victim.boot()
    pool.during(BEYOND_ANY_LICENCE_SECONDS / 2, lambda: pool.alive() == [0, 1, 2], "a rebooted host waits, and disturbs nobody")
    assert not victim.armed
    pool.figures.append(f"three hosts without storage and with one certified dead: alive for {BEYOND_ANY_LICENCE_SECONDS:g} s")


@scenario()
def test_hosts_that_all_lose_their_storage_stay_until_one_of_them_dies_and_then_all_fence(pool: Pool) -> None:
    """Rows 19 and 20, with an error for every request."""
    pool.arm()
    lose_storage(pool)
    pool.during(BEYOND_ANY_LICENCE_SECONDS, lambda: pool.alive() == [0, 1, 2, 3], "all stay")
    assert all(host.dog.bitten_at is None for host in pool.hosts)
    pool.figures.append(f"storage gone for all: all alive for {BEYOND_ANY_LICENCE_SECONDS:g} s")
    *rest, victim = pool.hosts
    died = pool.power_off(victim)
    pool.until("all fence", lambda: not any(host.on for host in rest))
    stopped = max(host.off_since or 0.0 for host in rest) - died
    assert not pool.certificates
    bound = TIMING.licence_seconds + 3 * (TIMING.watchdog_seconds + 1)
    pool.figures.append(f"then one dies: the last of the others was reset after {stopped:.1f} s; bound L + 3 (W + g) = {bound:g} s")


@pytest.mark.nightly
@scenario()
def test_a_host_that_alone_finds_its_storage_again_condemns_nobody_for_r_s(pool: Pool) -> None:
    """Rows 19 and 22, with requests that hang."""
    pool.arm()
    lose_storage(pool, how="hang")
    pool.during(BEYOND_ANY_LICENCE_SECONDS, lambda: pool.alive() == [0, 1, 2, 3], "all stay")
    pool.hosts[2].storage(both="ok")
    healed = time.monotonic()

    def condemned() -> bool:
        slot = pool.slot(2)
        return slot is not None and bool(slot.evictions or slot.certificates)

    pool.during(R_S - 1, lambda: not condemned(), "it evicts and certifies nobody")
    assert 2 in pool.alive()
    pool.figures.append(f"storage back for one: no verdict of it for {time.monotonic() - healed:.0f} s; alive: {pool.alive()}")


@pytest.mark.nightly
@scenario()
def test_storage_that_comes_back_for_all_ends_the_alarm_and_nobody_has_fenced(pool: Pool) -> None:
    """Row 19, and back."""
    pool.arm()
    lose_storage(pool, how="hang")
    pool.during(BEYOND_ANY_LICENCE_SECONDS / 2, lambda: pool.alive() == [0, 1, 2, 3], "all stay")
    assert not any(host.state()["storage"]["ok"] for host in pool.hosts)
    for host in pool.hosts:
        host.storage(both="ok")
    pool.until("all have storage again", lambda: all(host.state()["storage"]["ok"] for host in pool.hosts))
    pool.during(BEYOND_ANY_LICENCE_SECONDS / 2, lambda: pool.alive() == [0, 1, 2, 3], "all stay")
    assert not pool.certificates


@scenario()
def test_a_host_that_alone_loses_its_storage_stops_and_the_others_certify_it(pool: Pool) -> None:
    """Rows 13 and 23: the writes hang in the kernel, pulse still answers."""
    pool.arm()
    _, victim, *_ = pool.hosts
    rest = [host for host in pool.hosts if host is not victim]
    victim.storage(writes="hang")
    lost = time.monotonic()
    pool.until("it says what is wrong", lambda: not victim.state().get("storage", {}).get("ok", True))
    pool.until("it is reset", lambda: not victim.on)
    stopped = (victim.off_since or 0.0) - lost
    pool.until("the others certify it", lambda: pool.certified(victim, by=rest))
    assert pool.alive() == [0, 2, 3]
    issued = pool.certificate(victim, by=rest[0])
    pool.figures.append(
        f"reset {stopped:.1f} s and certified ({issued.evidence.name.lower()}) {time.monotonic() - lost:.1f} s after its writes hang; "
        f"R_s = {R_S:g} s"
    )


@scenario()
def test_a_majority_that_loses_its_storage_fences_and_the_minority_lives(pool: Pool) -> None:
    """Row 24; and rows 13, 14 and 15: writes that hang, writes that fail, reads that fail."""
    pool.arm()
    keeps, hangs, cannot_write, cannot_read = pool.hosts
    hangs.storage(writes="hang")
    cannot_write.storage(writes="eio")
    cannot_read.storage(reads="eio")
    lost = time.monotonic()
    others = pool.hosts[1:]
    pool.until("the three are reset", lambda: not any(host.on for host in others))
    stopped = max(host.off_since or 0.0 for host in others) - lost
    pool.until("the one certifies them", lambda: all(pool.certified(host, by=[keeps]) for host in others))
    assert pool.alive() == [0]
    pool.figures.append(
        f"three of four reset {stopped:.1f} s and certified {time.monotonic() - lost:.1f} s after the loss; R_s = {R_S:g} s"
    )


@pytest.mark.nightly
@scenario()
def test_cycles_that_take_turns_just_below_and_just_above_their_limit_fence_nobody(pool: Pool) -> None:
    """Row 18, for one host."""
    pool.arm()
    slow = pool.hosts[1]
    slow.storage(writes=(0.75 * TIMING.cycle_limit_seconds, 1.05 * TIMING.cycle_limit_seconds))
    pool.during(3 * TIMING.licence_seconds, lambda: pool.alive() == [0, 1, 2, 3], "all stay")
    assert not pool.certificates
    assert "hangs for more than" in slow.log("pulse")

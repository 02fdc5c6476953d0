"""Links that are cut between real hosts, with storage whole: the right side lives, the others are reset and certified.

Rows are those of the design's test matrix. Every scenario also watches the promise: no certificate for a host whose VM still runs.
"""

import time
from collections.abc import Iterable

import pytest

from quorate_core.slot import Evidence
from tests.agent.machines import TIMING
from tests.agent.namespaces import Pool
from tests.agent.staging import scenario

R_E = TIMING.values.release_after_eviction_seconds


def settles(pool: Pool, living: Iterable[int], cut_at: float) -> None:
    """All but those are reset, and certified by each of those; those go on."""
    chosen = [pool.hosts[number] for number in living]
    lost = [host for host in pool.hosts if host not in chosen]
    pool.until("the hosts of the other sides are reset", lambda: not any(host.on for host in lost))
    stopped_at = max(host.off_since or 0.0 for host in lost)
    pool.until("they are certified", lambda: all(pool.certified(host, by=chosen) for host in lost))
    certified_at = time.monotonic()
    assert pool.alive() == [host.number for host in chosen]
    assert all(host.dog.bitten_at is None for host in chosen)
    for host in lost:
        for issuer in chosen:
            issued = pool.certificate(host, issuer)
            assert issued.evidence is Evidence.CONFIRMED or issued.silent_seconds >= issued.bound_seconds
    names = ", ".join(host.name for host in lost)
    evidence = ", ".join(sorted({pool.certificate(host, chosen[0]).evidence.name.lower() for host in lost}))
    pool.figures.append(
        f"{names} reset {stopped_at - cut_at:.1f} s and certified ({evidence}) {certified_at - cut_at:.1f} s after the cut; "
        f"bound T_n + R_e = {TIMING.network_timeout_seconds + R_E:g} s and the rounds of the intent"
    )


@scenario()
def test_a_pool_split_into_two_equal_halves_lives_on_in_the_half_with_the_lowest_slot(pool: Pool) -> None:
    """Row 26, 2:2."""
    pool.arm()
    cut_at = pool.split((0, 1), (2, 3))
    settles(pool, (0, 1), cut_at)


@scenario()
def test_three_hosts_outlive_one_that_has_the_lowest_slot(pool: Pool) -> None:
    """Row 26, 3:1: number goes before the lowest slot."""
    pool.arm()
    cut_at = pool.split((0,), (1, 2, 3))
    settles(pool, (1, 2, 3), cut_at)


@scenario()
def test_evicted_hosts_that_have_stopped_their_vms_are_certified_in_seconds_and_one_that_cannot_only_after_r_e(pool: Pool) -> None:
    """Row 57: the VM of h3 cannot be stopped."""
    stoppers = [host.let_pulse_stop_vms() for host in pool.hosts]
    stoppers[3].works = False
    pool.arm()
    cut_at = pool.split((0, 1), (2,), (3,))
    quick, slow = pool.hosts[2], pool.hosts[3]
    confirmed_at = pool.until("the one without a VM is certified", lambda: pool.certified(quick, by=pool.hosts[:2]))
    assert {pool.certificate(quick, by).evidence for by in pool.hosts[:2]} == {Evidence.CONFIRMED}
    pool.figures.append(f"h2 stopped its VM and was certified {confirmed_at - cut_at:.1f} s after the cut")
    settles(pool, (0, 1), cut_at)
    assert {pool.certificate(slow, by).evidence for by in pool.hosts[:2]} <= {Evidence.EVICTION, Evidence.SILENCE}
    assert all(host.vm_runs for host in pool.hosts[:2])


@scenario(hosts=3)
def test_of_three_equal_parts_exactly_one_lives(pool: Pool) -> None:
    """Row 27."""
    pool.arm()
    cut_at = pool.split((0,), (1,), (2,))
    settles(pool, (0,), cut_at)


@pytest.mark.nightly
@scenario()
def test_of_three_parts_the_largest_lives(pool: Pool) -> None:
    """Row 27, 1:2:1."""
    pool.arm()
    cut_at = pool.split((0,), (1, 2), (3,))
    settles(pool, (1, 2), cut_at)


@scenario()
def test_a_deaf_host_and_a_mute_one_go(pool: Pool) -> None:
    """Row 28: h3 hears nobody, nobody hears h2; each link is whole in the other direction."""
    pool.arm()
    cut_at = pool.links([(a, 3) for a in range(3)] + [(2, b) for b in (0, 1)])
    settles(pool, (0, 1), cut_at)


@pytest.mark.nightly
@scenario()
def test_of_a_chain_of_hosts_one_connected_pair_lives(pool: Pool) -> None:
    """Row 29: 0-1-2-3."""
    pool.arm()
    cut_at = pool.links(both((0, 2), (0, 3), (1, 3)))
    settles(pool, (0, 1), cut_at)


@pytest.mark.nightly
@scenario(hosts=5)
def test_the_largest_fully_connected_set_lives_where_a_greedy_choice_would_keep_a_smaller_one(pool: Pool) -> None:
    """Row 29: links 0-2, 0-4, 1-2, 1-3, 1-4, 2-3 only. Dropping the host with the lowest score each time keeps {0, 2}."""
    pool.arm()
    cut_at = pool.links(both((0, 1), (0, 3), (2, 4), (3, 4)))
    settles(pool, (1, 2, 3), cut_at)


@pytest.mark.nightly
@scenario()
def test_links_that_lose_a_quarter_of_all_packets_fence_nobody(pool: Pool) -> None:
    """Below the limits nothing happens."""
    pool.arm()
    pool.links(loss={(a, b): 25 for a in range(4) for b in range(4) if a != b})
    pool.during(15, lambda: pool.alive() == [0, 1, 2, 3], "all are armed")
    assert not pool.certificates
    pool.figures.append("15 s with 25 % loss in every direction: nobody fenced")


def both(*pairs: tuple[int, int]) -> list[tuple[int, int]]:
    """Those links in both directions."""
    return [*pairs, *((b, a) for a, b in pairs)]

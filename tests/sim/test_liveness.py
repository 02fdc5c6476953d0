"""The protocol under hostile schedules: no certificate before the victim's possible end, and one for every dead host within its bound.

A schedule that finds something is printed with its seed. The planted bugs prove that the simulation can find what it looks for.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from quorate_core import certificate
from quorate_core.heart import Configured
from quorate_core.slot import Issued
from quorate_core.timing import Timing, TimingValues

from .world import Host, World

SEEDS = 12
BOUND_SECONDS = 23 + 2 * 2 + 4 + 2
"""R_s, two cycles of the longest kind, T_n and a little: a dead host is certified before this."""


def fail(world: World, victim: Host) -> None:
    """One of many ways to lose a host, its keeper always as hostile as it can be."""
    way = world.random.choice(["disk hangs", "writes land, answers do not", "EIO", "slow", "flaky", "pulse stops", "pauses"])
    for_ever = 1e6
    match way:
        case "disk hangs":
            world.set(victim, disk_seconds=lambda: None, write_lands=False)
        case "writes land, answers do not":
            world.set(victim, disk_seconds=lambda: None)
        case "EIO":
            world.set(victim, disk_error=True)
        case "slow":
            world.set(victim, disk_seconds=lambda: world.random.uniform(1.0, 6.0))
        case "flaky":
            world.set(victim, disk_seconds=lambda: world.random.choice([0.02, 1.95, 2.05, 6.0]))
        case "pulse stops":
            world.set(victim, pulse_paused_until=world.now + for_ever)
        case "pauses":
            world.set(victim, pulse_paused_until=world.now + world.random.uniform(3, 9))
    world.set(victim, hostile_keeper=True, network=world.random.random() < 0.5)


def ordeal(seed: int) -> World:
    """Arm three hosts, lose one, disturb the observers, and wait."""
    world = World(3, seed)
    assert world.run_until(world.armed, 60), [h.heart.message for h in world.hosts]
    world.run(world.random.uniform(0, 5))
    victim = world.random.choice(world.hosts)
    fail(world, victim)
    for host in world.hosts:
        if host is not victim and world.random.random() < 0.3:
            world.at(world.random.uniform(0, 30), lambda h=host: world.set(h, pulse_paused_until=world.now + 2.5))  # type: ignore[misc]
    world.run(80)
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_certificate_exists_before_the_victim_has_ended_and_its_writes_have_landed(seed: int) -> None:
    """Rows 2, 4, 5, 10, 13, 14, 15, 18, 23, 48, 55."""
    world = ordeal(seed)
    assert world.early == []


@pytest.mark.parametrize("seed", range(4))
def test_a_dead_host_is_certified_by_every_survivor_within_its_bound(seed: int) -> None:
    world = World(3, 100 + seed)
    assert world.run_until(world.armed, 60)
    victim, *others = world.hosts
    incarnation = victim.heart.incarnation
    world.power_off(victim)
    died = world.now
    assert world.run_until(lambda: len(world.certified_by(0, incarnation)) == 2, BOUND_SECONDS), "not certified in time"
    # Its last write may have been seen up to one interval before it died; the clocks may be fast.
    assert world.now - died >= 23 / 1.002 - 1.2
    assert world.early == []
    assert world.armed(*others), "the survivors stay armed"


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_reboots_fast_joins_only_after_its_former_life_is_certified_and_is_certified_once(seed: int) -> None:
    """Row 38."""
    world = World(3, 200 + seed)
    assert world.run_until(world.armed, 60)
    victim = world.hosts[1]
    former = victim.heart.incarnation
    world.power_off(victim)
    world.run(3)
    world.reboot(victim)
    newborn = victim.heart.incarnation
    assert world.run_until(lambda: len(world.certified_by(1, former)) >= 2, BOUND_SECONDS)
    assert not victim.heart.confirmed, "it must not be armed before its former life is certified"
    assert world.run_until(world.armed, 30), victim.heart.message
    world.run(40)
    assert world.armed()
    assert world.certified_by(1, newborn) == []
    assert world.early == []


def test_three_hosts_that_all_lose_power_arm_again_and_nobody_is_certified_wrongly() -> None:
    world = World(3, 300)
    assert world.run_until(world.armed, 60)
    for host in world.hosts:
        world.power_off(host)
    world.run(10)
    for host in world.hosts:
        world.reboot(host)
    assert world.run_until(world.armed, 120), [h.heart.message for h in world.hosts]
    assert world.early == []


def test_two_of_three_hosts_come_back_after_a_power_cut_and_certify_the_third() -> None:
    world = World(3, 301)
    assert world.run_until(world.armed, 60)
    lost = world.hosts[2].heart.incarnation
    for host in world.hosts:
        world.power_off(host)
    for host in world.hosts[:2]:
        world.reboot(host)
    assert world.run_until(lambda: world.armed(*world.hosts[:2]), 120), [h.heart.message for h in world.hosts]
    assert world.certified_by(2, lost)
    assert world.early == []


def test_a_disarmed_pool_certifies_nobody() -> None:
    world = World(3, 302)
    assert world.run_until(world.armed, 60)
    world.config = replace(world.config, enabled=False, disabled_reason="paused")
    for host in world.hosts:
        world.step(host, _configured(world, host))
    assert world.run_until(lambda: all(h.heart.phase.name == "DISARMED" and h.heart.deadline is None for h in world.hosts), 20)
    world.set(world.hosts[0], disk_seconds=lambda: None)
    world.power_off(world.hosts[1])
    world.run(90)
    assert world.hosts[0].died_at is None, "without a licence it is petted on"
    assert all(not h.certified for h in world.hosts)


def test_hosts_that_all_lose_their_storage_are_all_reset_and_nobody_is_certified() -> None:
    """Row 19 as far as this version goes: life without storage comes later; until then doubt ends in no restart."""
    world = World(3, 303)
    assert world.run_until(world.armed, 60)
    for host in world.hosts:
        world.set(host, disk_error=True)
    world.run(90)
    assert all(h.died_at is not None for h in world.hosts)
    assert all(not h.certified for h in world.hosts)


def test_a_host_of_one_pool_arms_alone() -> None:
    world = World(1, 304)
    assert world.run_until(world.armed, 30), world.hosts[0].heart.message


def test_packets_that_still_arrive_forbid_a_certificate() -> None:
    """A host that is silent on storage only: while its packets come it may live; they end with its reset."""
    world = World(3, 305)
    assert world.run_until(world.armed, 60)
    victim, incarnation = world.hosts[0], world.hosts[0].heart.incarnation
    world.set(victim, disk_seconds=lambda: None, write_lands=False)
    assert world.run_until(lambda: bool(world.certified_by(0, incarnation)), 60)
    assert victim.died_at is not None
    assert world.early == []


@pytest.fixture
def one_period_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug kappa = 1: "licence plus one watchdog period"."""
    honest = Timing.values_with_watchdog
    monkeypatch.setattr(Timing, "values_with_watchdog", lambda self, seconds: replace(honest(self, seconds), kappa=1))


def _certify_without_final_read(watch: certificate.Watch, index: int, cycle: object, heard: float | None, timeout: float) -> Issued | str:
    return Issued(index, watch.incarnation, 0.0, watch.bound_seconds) if watch.armed else "not armed"


def _found(seeds: range) -> list[str]:
    return [line for seed in seeds for line in ordeal(seed).early]


@pytest.mark.usefixtures("one_period_is_enough")
def test_the_simulation_finds_the_planted_bug_kappa_1() -> None:
    assert TimingValues(6, 2, 2, kappa=1).release_after_silence_seconds < 23
    assert _found(range(SEEDS)), "a certificate after one watchdog period was not caught"


def test_the_simulation_finds_a_certificate_without_the_countdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "verdict", _certify_without_final_read)
    assert _found(range(2))


def test_the_simulation_finds_a_missing_restart_of_the_countdown_after_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that trusts a clock instead of reads: it counts from the last change it happens to remember."""
    honest: Callable[..., certificate.Watch | None] = certificate.observe

    def forgetful(watch: certificate.Watch | None, *rest: object, after_gap: bool) -> certificate.Watch | None:
        seen = honest(watch, *rest, after_gap=False)
        return replace(seen, since=watch.since) if watch is not None and seen is not None else seen

    monkeypatch.setattr(certificate, "observe", forgetful)
    assert _found(range(3))


def _configured(world: World, host: Host) -> Configured:
    return Configured(world.clock(host), world.config)

"""The protocol under hostile schedules: no certificate before the victim's possible end, and one for every dead host within its bound.

A schedule that finds something is printed with its number; `python -m tests.sim --seeds 1 --from NUMBER` plays it again.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from quorate_core import certificate
from quorate_core.slot import Issued
from quorate_core.timing import Timing, TimingValues

from .faults import Event, begin
from .profiles import PROFILES, generate
from .schedule import Schedule, play
from .search import try_one
from .world import World

SEEDS = 4
MANY_SEEDS = 300
BOUND_SECONDS = 23 + 2 * 2 + 4 + 2
"""R_s, two cycles of the longest kind, T_n and a little: a dead host is certified before this."""


def armed(count: int, seed: int) -> World:
    """A pool in which all hosts are armed."""
    world = World(count, seed)
    assert world.engine.run_until(world.armed, 60), [h.heart.message for h in world.hosts]
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_certificate_exists_before_the_victim_has_ended_and_its_writes_have_landed(seed: int) -> None:
    """Rows 2, 4, 5, 10, 13, 14, 15, 18, 23, 48, 55."""
    assert play(generate(seed, "silence")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_evicted_host_that_does_not_want_to_die_is_certified_only_after_its_end(seed: int) -> None:
    """Rows 26, 30, 31, 32, 56: splits, hostile keepers, and winners that fail in the middle of it."""
    assert play(generate(seed, "eviction")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_at_once_no_vm_may_run_twice_and_the_dead_are_certified(seed: int) -> None:
    """Everything at once: disks, network, processes, power, configuration, keepers that fight their end."""
    assert play(generate(seed, "havoc")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_without_storage_no_vm_may_run_twice(seed: int) -> None:
    """Rows 19 to 25: all lose their storage; then the network, hosts, or the storage of some comes and goes."""
    assert play(generate(seed, "storageless")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_with_several_disks_no_vm_may_run_twice(seed: int) -> None:
    """Rows 33 and 54: each host loses another disk for a while; failed writes land late."""
    assert play(generate(seed, "disks")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_dead_host_that_comes_back_judges_nobody_that_may_live_without_it(seed: int) -> None:
    """Rows 21, 22 and 25."""
    assert play(generate(seed, "comeback")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_host_that_is_disarmed_in_the_middle_of_trouble_is_never_taken_for_dead(seed: int) -> None:
    """Row 53: maintenance, disabling and enabling, while others are cut off and do not know of it yet."""
    assert play(generate(seed, "maintenance")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_a_clean_partition_exactly_the_best_mutually_connected_hosts_live(seed: int) -> None:
    """Rows 26 to 29: any graph of cut links, one way or both; compared with a search through all sets."""
    assert play(generate(seed, "partition")).findings == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nobody_is_fenced_by_disturbances_within_the_limits(seed: int) -> None:
    """Rows 1, 6, 18: slow cycles below T_c, two bad ones in a row, lost and late packets, short pauses, pulse restarts, an API outage."""
    assert play(generate(seed, "mild")).findings == []


@pytest.mark.parametrize("seed", range(3))
def test_when_all_is_over_and_all_have_power_the_pool_is_whole_again(seed: int) -> None:
    assert play(generate(seed, "return")).findings == []


@pytest.mark.parametrize("seed", range(4))
def test_a_dead_host_is_certified_by_every_survivor_within_its_bound(seed: int) -> None:
    world = armed(3, 100 + seed)
    victim, *others = world.hosts
    incarnation, died = victim.heart.incarnation, world.now
    victim.power_off("loses power")
    assert world.engine.run_until(lambda: len(world.certified_by(victim, incarnation)) == 2, BOUND_SECONDS), "not certified in time"
    # Its last write may have been seen up to one interval before it died; the clocks may be fast.
    assert world.now - died >= 23 / 1.002 - 1.2
    assert world.monitor.findings == []
    assert world.armed(*others), "the survivors stay armed"


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_reboots_fast_joins_only_after_its_former_life_is_certified_and_is_certified_once(seed: int) -> None:
    """Row 38."""
    world = armed(3, 200 + seed)
    victim = world.hosts[1]
    former = victim.heart.incarnation
    victim.power_off("loses power")
    world.engine.run(3)
    victim.boot()
    newborn = victim.heart.incarnation
    assert world.engine.run_until(lambda: len(world.certified_by(victim, former)) >= 2, BOUND_SECONDS)
    assert not victim.heart.confirmed, "it must not be armed before its former life is certified"
    assert world.engine.run_until(world.armed, 30), victim.heart.message
    world.engine.run(40)
    assert world.armed()
    assert world.certified_by(victim, newborn) == []
    assert world.monitor.findings == []


def test_three_hosts_that_all_lose_power_arm_again_and_nobody_is_certified_wrongly() -> None:
    world = armed(3, 300)
    for host in world.hosts:
        host.power_off("loses power")
    world.engine.run(10)
    for host in world.hosts:
        host.boot()
    assert world.engine.run_until(world.armed, 120), [h.heart.message for h in world.hosts]
    assert world.monitor.findings == []


def test_two_of_three_hosts_come_back_after_a_power_cut_and_certify_the_third() -> None:
    world = armed(3, 301)
    lost = world.hosts[2].heart.incarnation
    for host in world.hosts:
        host.power_off("loses power")
    for host in world.hosts[:2]:
        host.boot()
    assert world.engine.run_until(lambda: world.armed(*world.hosts[:2]), 120), [h.heart.message for h in world.hosts]
    assert world.certified_by(world.hosts[2], lost)
    assert world.monitor.findings == []


def test_a_disarmed_pool_certifies_nobody() -> None:
    world = armed(3, 302)
    world.configure(replace(world.config, enabled=False, disabled_reason="paused"))
    gone = world.engine.run_until(lambda: all(h.heart.phase.name == "DISARMED" and h.heart.deadline is None for h in world.hosts), 20)
    assert gone
    begin(world, Event(0, "hang", {"host": "h0"}))
    world.hosts[1].power_off("loses power")
    world.engine.run(90)
    assert world.hosts[0].alive, "without a licence it is petted on"
    assert world.monitor.certificates == []


def test_hosts_that_all_lose_their_storage_are_all_reset_and_nobody_is_certified() -> None:
    """Storage and network gone for all: nobody can know anything, so all end and none is restarted."""
    world = armed(3, 303)
    begin(world, Event(0, "fail", {"host": "all"}))
    begin(world, Event(0, "cut", {}))
    world.engine.run(90)
    assert not any(h.alive for h in world.hosts)
    assert world.monitor.certificates == []


def test_a_host_of_one_pool_arms_alone() -> None:
    armed(1, 304)


def test_packets_that_still_arrive_forbid_a_certificate() -> None:
    """A host that is silent on storage only: while its packets come it may live; they end with its reset."""
    world = armed(3, 305)
    victim, incarnation = world.hosts[0], world.hosts[0].heart.incarnation
    begin(world, Event(0, "hang", {"host": "h0"}))
    assert world.engine.run_until(lambda: bool(world.certified_by(victim, incarnation)), 60)
    assert not victim.alive
    assert world.monitor.findings == []


@pytest.mark.nightly
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_hundreds_of_schedules_of_each_kind_find_nothing(profile: str) -> None:
    found = [one for seed in range(1000, 1000 + MANY_SEEDS) if (one := try_one(seed, profile)) is not None]
    assert found == []


def test_a_schedule_plays_the_same_way_every_time() -> None:
    schedule = generate(7)
    assert play(schedule).monitor.log == play(schedule).monitor.log


def test_a_quiet_pool_stays_as_it_is() -> None:
    quiet = play(Schedule(1, 4, seconds=60, demands=("calm",)))
    assert quiet.findings == []
    assert quiet.world.armed()


def _finds(planted: pytest.MonkeyPatch, seeds: range) -> bool:
    """Whether one of these schedules finds a double run with the bug, and nothing at all once the bug is out again."""
    seed = next((seed for seed in seeds if any(f.rule == "double run" for f in play(generate(seed, "silence")).findings)), None)
    planted.undo()
    return seed is not None and play(generate(seed, "silence")).findings == []


def test_the_simulation_finds_the_planted_bug_kappa_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Licence plus one watchdog period"."""
    honest = Timing.values_with_watchdog
    monkeypatch.setattr(Timing, "values_with_watchdog", lambda self, seconds: replace(honest(self, seconds), kappa=1))
    assert TimingValues(6, 2, 2, kappa=1).release_after_silence_seconds < 23
    assert _finds(monkeypatch, range(30)), "a certificate after one watchdog period was not caught"


def _without_countdown(
    watch: certificate.Watch, index: int, cycle: object, heard: float | None, timeout: float, judge: certificate.Judge
) -> Issued | str:
    return Issued(index, watch.incarnation, 0.0, watch.bound_seconds) if watch.armed else "not armed"


def test_the_simulation_finds_a_certificate_without_the_countdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "verdict", _without_countdown)
    assert _finds(monkeypatch, range(4))


def test_the_simulation_finds_a_missing_restart_of_the_countdown_after_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that trusts a clock instead of reads: it counts from the last change that it happens to remember."""
    honest: Callable[..., certificate.Watch | None] = certificate.observe

    def forgetful(watch: certificate.Watch | None, *rest: object, after_gap: bool) -> certificate.Watch | None:
        seen = honest(watch, *rest, after_gap=False)
        return replace(seen, since=watch.since) if watch is not None and seen is not None else seen

    monkeypatch.setattr(certificate, "observe", forgetful)
    assert _finds(monkeypatch, range(6))

"""Rows of the matrix that a list of faults cannot say: what depends on the moment of an event, or is written on the disk by a stranger."""

from dataclasses import replace

import pytest

from quorate_core import slot
from quorate_core.statement import Phase

from .faults import Event, begin
from .host import Host
from .world import World

R_S = 23


def armed(count: int, seed: int = 1, **pool: int) -> World:
    """A pool in which all hosts are armed."""
    world = World(count, seed, **pool)  # type: ignore[arg-type]
    assert world.engine.run_until(world.armed, 60), [h.heart.message for h in world.hosts]
    return world


def undisturbed(*hosts: Host) -> bool:
    """Whether these live, armed, and have never fenced."""
    return all(h.alive and h.heart.phase is Phase.ARMED and h.name not in h.monitor.fenced for h in hosts)


def test_clocks_that_began_years_apart_and_run_at_other_rates_change_nothing() -> None:
    """Row 34: no wall clock exists for the core; only rates matter, within rho."""
    world = World(3, 11)
    for host, years in zip(world.hosts, (0.0, 40.0, 1000.0), strict=True):
        host.shift_clock(years * 365 * 86400)
    assert world.engine.run_until(world.armed, 60)
    victim, incarnation = world.hosts[0], world.hosts[0].heart.incarnation
    victim.power_off("loses power")
    assert world.engine.run_until(lambda: len(world.certified_by(victim, incarnation)) == 2, 40)
    assert world.monitor.findings == []


def test_a_slot_that_says_disarmed_or_evicted_in_the_name_of_nobody_disarms_no_other_host() -> None:
    """Row 40: nothing that is written on the disk switches the pool off; what stands in a member's slot is that member's word only."""
    world = armed(3)
    disk, victim = world.disks[0], world.hosts[2]
    found = slot.decode(disk.blocks[2])
    for phase in (Phase.DISARMED, Phase.REFUSED, Phase.STARTING):
        forged = replace(found, statement=replace(found.statement, phase=phase, sequence=found.statement.sequence + 5))
        disk.write(2, slot.encode(forged))
        world.engine.run(3)
    assert undisturbed(world.hosts[0], world.hosts[1])
    assert not any(h.heart.phase is Phase.DISARMED for h in world.hosts)
    assert victim.alive


@pytest.mark.parametrize("crash", ["pulse", "keeper", "both", "power"])
@pytest.mark.parametrize("moment", [0.3, 1.0, 1.7, 3.1])
def test_a_crash_in_any_step_of_maintenance_neither_runs_a_vm_twice_nor_harms_the_others(crash: str, moment: float) -> None:
    """Row 53: excluded, disarmed, released; a crash between any two of them."""
    world = armed(3, seed=int(moment * 10))
    leaver, *others = world.hosts
    world.change_member(0, excluded=True)
    world.engine.run(moment)
    if crash == "power":
        leaver.power_off("loses power")
    else:
        begin(world, Event(0, "kill", {"host": "h0", "process": crash, "away": 1.0}))
    world.engine.run(R_S + 15)
    assert world.monitor.findings == []
    assert undisturbed(*others)
    if leaver.alive:
        assert leaver.heart.phase is Phase.DISARMED, leaver.heart.message
    world.change_member(0, excluded=False)
    if not leaver.alive:
        leaver.boot()
    assert world.engine.run_until(world.armed, R_S + 30), leaver.heart.message


@pytest.mark.parametrize("back", [False, True])
def test_another_survivor_adopts_the_record_of_an_evictor_that_dies_right_after_writing_it(back: bool) -> None:
    """Row 56: and counts from its own write."""
    world = armed(4, seed=5)
    for host in world.hosts:
        host.vms_stop_seconds = None
    loser, incarnation = world.hosts[3], world.hosts[3].heart.incarnation
    begin(world, Event(0, "split", {"sides": [["h0", "h1", "h2"], ["h3"]]}))

    def on_disk() -> list[int]:
        read = {index: slot.decode(block) for index, block in world.disks[0].blocks.items()}
        return [index for index, one in read.items() if (3, incarnation) in one.evictions]

    assert world.engine.run_until(lambda: bool(on_disk()), 20)
    evictor = world.hosts[on_disk()[0]]
    evictor.power_off("loses power right after its write")
    if back:
        world.engine.run(2)
        evictor.boot()
    survivors = [h for h in world.hosts[:3] if h is not evictor]
    assert world.engine.run_until(lambda: all(h in world.certified_by(loser, incarnation) for h in survivors), 45)
    assert world.monitor.findings == []
    assert undisturbed(*survivors)


@pytest.mark.parametrize("seed", range(2))
def test_two_sides_that_evict_each_other_at_once_both_end_and_nobody_runs_twice(seed: int) -> None:
    """Row 32: both records are put on the disk in the same moment, whatever the intents said."""
    world = armed(2, seed=40 + seed)
    one, other = world.hosts
    for host, peer in ((one, other), (other, one)):
        found = slot.decode(world.disks[0].blocks[host.index])
        forged = replace(
            found,
            evictions=((peer.index, peer.heart.incarnation),),
            statement=replace(found.statement, sequence=found.statement.sequence + 1),
        )
        world.disks[0].write(host.index, slot.encode(forged))
        host.pulse.pause(0.9)
    world.engine.run(R_S + 20)
    assert world.monitor.findings == []


def test_a_flapping_link_costs_at_most_one_reconfiguration_in_r_e() -> None:
    """Row 30: the hosts that end are those of one decision."""
    world = armed(4, seed=3)
    for _ in range(6):
        begin(world, Event(0, "cut", {"from": "h0", "to": "h3", "both": True}, 4.6))
        world.engine.run(6.0)
    ended = [h.name for h in world.hosts if not h.alive]
    assert ended in ([], ["h0"], ["h3"])
    assert world.monitor.findings == []


def test_a_pool_of_eight_hosts_is_split_four_to_four() -> None:
    """Row 26, larger: the side with the lowest slot lives."""
    world = armed(8, seed=9)
    sides = [[f"h{i}" for i in range(1, 5)], ["h0", "h5", "h6", "h7"]]
    begin(world, Event(0, "split", {"sides": sides}))
    world.engine.run(50)
    world.monitor.check_exactly_these_live(frozenset(sides[1]))
    world.monitor.check_the_dead_are_certified()
    assert world.monitor.findings == []


def test_a_watchdog_that_is_slower_than_asked_for_is_waited_for() -> None:
    """Rows 42 and 45: observers reckon with what the victim has published of its own device."""
    world = World(3, 17)
    slow = world.hosts[1]
    slow.watchdog_least_seconds = 5.0
    assert world.engine.run_until(world.armed, 60)
    incarnation = slow.heart.incarnation
    slow.vms_stop_seconds, slow.keeper_strategy = None, "late"
    begin(world, Event(0, "hang", {"host": "h1"}))
    began = world.now
    assert world.engine.run_until(lambda: bool(world.certified_by(slow, incarnation)), 60)
    assert world.now - began > R_S + 3 * 3 - 2, "three periods of three more seconds each"
    assert world.monitor.findings == []

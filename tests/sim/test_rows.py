"""Rows of the matrix that a list of faults cannot say: what depends on the moment of an event, or is written on the disk by a stranger."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from quorate_core import partition, slot
from quorate_core.partition import Choice
from quorate_core.slot import Issued, Slot
from quorate_core.statement import Phase

from .faults import Event, begin
from .host import Host
from .world import World

R_S = 23
R_E = 21


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


def test_a_slot_that_says_disarmed_disarms_no_other_host() -> None:
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


def test_what_is_written_in_the_name_of_nobody_condemns_nobody() -> None:
    """Row 40: neither an eviction nor a certificate, in a slot that is read but belongs to no member."""
    world = World(4, 1)
    world.change_membership(1, member=False)
    members = [world.hosts[index] for index in (0, 2, 3)]
    world.hosts[1].power_off("was never there")
    assert world.engine.run_until(lambda: world.armed(*members), 60), [h.heart.message for h in members]
    others = [h for h in members if h.index]
    nobody = slot.decode(world.disks[0].blocks[0])
    forged = replace(
        nobody,
        evictions=tuple((h.index, h.heart.incarnation) for h in others),
        certificates=tuple(Issued(h.index, h.heart.incarnation, 23.0, 23.0) for h in others),
        statement=replace(nobody.statement, host="h1", slot=1, incarnation=0xF0),
    )
    for _ in range(3):
        forged = replace(forged, statement=replace(forged.statement, sequence=forged.statement.sequence + 1))
        world.disks[0].write(1, slot.encode(forged))
        world.engine.run(3)
    assert undisturbed(*members)
    assert world.monitor.certificates == []


@pytest.mark.parametrize("moment", [1.5, 4.0, 5.5, 6.0, 6.5, 7.5])
def test_a_host_that_is_let_in_in_the_middle_of_arming_is_armed_only_when_all_say_that_they_see_it_and_need_its_word(moment: float) -> None:
    """Row 41: all members have to agree on the same set, the newcomer in it; then each of them certifies it when it dies."""
    world = World(4, 43)
    late, others = world.hosts[3], world.hosts[:3]
    world.change_member(3, excluded=True)
    world.engine.run(moment)
    world.change_member(3, excluded=False)
    assert world.engine.run_until(lambda: late.heart.phase is Phase.ARMED, 60), late.heart.message
    incarnation = late.heart.incarnation
    said = [slot.decode(world.disks[0].blocks[h.index]) for h in others]
    assert all(one.statement.sees(3, incarnation) and one.required >> 3 & 1 for one in said)
    assert world.engine.run_until(world.armed, 30), [h.heart.message for h in world.hosts]
    late.power_off("loses power")
    assert world.engine.run_until(lambda: len(world.certified_by(late, incarnation)) == 3, 2 * R_S + 10)
    assert undisturbed(*others)
    assert world.monitor.findings == []


@pytest.mark.parametrize("seed", range(8))
def test_two_machines_that_write_one_slot_at_once_are_never_both_under_a_licence_for_long(seed: int) -> None:
    """Rows 36 and 37, if both run: they boot in the same moment and find the slot empty. Each looks before it writes again."""
    world = World(3, seed)
    one, twin = world.hosts[0], world.add_twin(0)
    world.engine.run(90)
    assert world.monitor.findings == []
    both = one.alive and twin.alive
    assert [h.heart.phase for h in (one, twin)].count(Phase.ARMED) <= (0 if both else 1)
    assert any("wrote this host's own slot; two agents or machines may share it" in h.heart.no_evidence for h in (one, twin))


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


def _selfish(me: int, seated: Mapping[int, Slot], published: int, stirred: int) -> Choice:
    """Each one decides for itself alone, at once, and asks nobody."""
    heard = partition.links(seated)[me]
    lost = tuple(index for index in seated if index != me and not heard >> index & 1)
    return Choice(1 << me, lost) if lost else Choice()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_sides_that_evict_each_other_at_once_both_end_and_nobody_runs_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 32: both records are put on the disk in the same moment, whatever the intents would have said."""
    monkeypatch.setattr(partition, "choose", _selfish)
    world = armed(2, seed)
    for host in world.hosts:
        host.vms_stop_seconds, host.keeper_strategy = None, "late"
    lives = [h.heart.incarnation for h in world.hosts]
    begin(world, Event(0, "split", {"sides": [["h0"], ["h1"]]}))
    world.engine.run(R_S + 20)
    assert world.monitor.evicted_by == [{(1, lives[1])}, {(0, lives[0])}]
    assert not any(h.alive for h in world.hosts)
    assert world.monitor.certificates == []
    assert world.monitor.findings == []


@pytest.mark.parametrize("seed", range(3))
def test_links_that_fail_in_turn_cost_one_reconfiguration_in_r_e(seed: int) -> None:
    """Row 30: each is cut for longer than it takes to evict somebody; the second waits for the certificate that the first has led to."""
    world = armed(4, seed=3 + seed)
    for host in world.hosts:
        host.vms_stop_seconds = None
    for one, other in (("h0", "h3"), ("h1", "h2"), ("h0", "h1")):
        begin(world, Event(0, "cut", {"from": one, "to": other, "both": True}, 8.5))
        world.engine.run(9.0)
    evictions = [entry for entry in world.monitor.log if entry.kind == "eviction"]
    assert {entry.what.split("/")[0] for entry in evictions} == {"evicts h3"}
    assert evictions[0].at + R_E > world.now, "the last cut must begin and end within R_e"
    assert undisturbed(*world.hosts[:3])
    world.engine.run(R_S)
    assert world.certified_by(world.hosts[3], world.hosts[3].heart.incarnation)
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

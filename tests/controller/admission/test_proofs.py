"""The proof that admission keeps: brought to exactly the snapshot in question, whatever changed since the last one."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import quorate_planner as planner
from quorate_controller.admission.proofs import Proofs
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.layout import LaidZone, Layout
from quorate_planner import Proof
from tests.planner.oracle import tolerates
from tests.planner.pools import problems, snapshot_of


def changed(snapshot: Snapshot, dice: Random, number: int) -> Snapshot:
    """A pool after something happened to it: a VM came, went, moved, grew, was protected or not, or a host's memory was taken."""
    vms, hosts = list(snapshot.vms), list(snapshot.hosts)
    at = dice.randrange(len(hosts))
    match dice.choice(["start", "stop", "move", "protect", "memory", "host"]):
        case "start":
            vms.append(Vm(f"ns/new{number}", dice.randint(1, 6), hosts[at].name, Protection.PROTECTED))
        case "stop" if vms:
            vms.pop(dice.randrange(len(vms)))
        case "move" if vms:
            i = dice.randrange(len(vms))
            vms[i] = replace(vms[i], host=dice.choice([hosts[at].name, None]), size_bytes=dice.randint(1, 6))
        case "protect" if vms:
            i = dice.randrange(len(vms))
            vms[i] = replace(vms[i], protection=dice.choice([Protection.PROTECTED, Protection.UNPROTECTED]))
        case "host":
            name = f"extra{number}"
            hosts = [*hosts, Host(name, 8)] if dice.choice([True, False]) or len(hosts) == 1 else hosts[:at] + hosts[at + 1 :]
        case _:
            hosts[at] = replace(hosts[at], used_bytes=dice.randint(0, hosts[at].allocatable_bytes))
    return replace(snapshot, vms=tuple(vms), hosts=tuple(hosts))


def test_a_vm_that_the_leader_puts_into_another_zone_is_counted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tuple(Host(f"h{n}", 100, 10) for n in range(4))
    vms = tuple(Vm(f"ns/v{n}", 10, f"h{n}", Protection.PROTECTED) for n in range(4))
    zones = (LaidZone((10,), {f"h{n}": 40 for n in range(4)}), LaidZone((5, 10), {f"h{n}": 40 for n in range(4)}))
    before = Snapshot(Pool("a", 1), hosts, vms, layout=Layout(zones, {vm.key: 0 for vm in vms}))
    after = replace(before, layout=Layout(zones, {**{vm.key: 0 for vm in vms}, "ns/v2": 1}))
    proofs = Proofs(search_seconds=0)
    made: list[Proof] = []
    monkeypatch.setattr("quorate_controller.admission.proofs.Proof", lambda *a: made.append(Proof(*a)) or made[-1])
    first, second = proofs._proof(before, 1), proofs._proof(after, 1)
    assert first is not None
    assert second is not None
    assert (first.bind["ns/v2"], second.bind["ns/v2"]) == (0, 1)
    assert len(made) == 1, "not proven from the start"
    fresh = Proof(planner.problem_of(after), after.layout or Layout((), {}), 1)
    assert (second.bind, second.margins, second.net, second.holds) == (fresh.bind, fresh.margins, fresh.net, True)


@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(problems(hosts=4, vms=6), st.randoms(use_true_random=False), st.integers(0, 2))
def test_no_answer_comes_from_a_pool_that_was(problem: planner.Problem, dice: Random, k: int) -> None:
    proofs = Proofs(search_seconds=0)
    snapshot = snapshot_of(problem)
    for number in range(5):
        now = planner.problem_of(snapshot)
        if proofs.kept(snapshot, k):
            assert tolerates(now, k)
        if proofs.holds(snapshot, k) and now.vms:
            assert tolerates(now, k)
        else:
            assert not now.vms or not planner.holds(snapshot, k)
        vm = Vm("ns/asked", 2, None, dice.choice([Protection.PROTECTED, Protection.UNPROTECTED]))
        host = proofs.start_host(snapshot, vm, k)
        if host is not None:
            after = planner.problem_of(planner.apply(snapshot, planner.AddVm(replace(vm, host=host))))
            assert not after.vms or tolerates(after, k)
        else:
            assert planner.start_hosts(snapshot, vm, k) == ()
        snapshot = changed(snapshot, dice, number)


def test_what_only_new_zones_cover_is_admitted_in_time_and_counts_as_no_without() -> None:
    pytest.importorskip("ortools", reason="OR-Tools is not installed: nothing beyond plain zones is found")
    free = {"h0": 8, "h1": 18, "h2": 22, "h3": 12}
    vms = (planner.ProblemVm("a", 12, "h0"), planner.ProblemVm("b", 10, "h0"), planner.ProblemVm("c", 8, "h2"))
    snapshot = snapshot_of(planner.Problem(tuple(planner.ProblemHost(name, amount) for name, amount in free.items()), vms))
    assert not Proofs(search_seconds=0).holds(snapshot, 2)
    assert Proofs(search_seconds=30).holds(snapshot, 2)

"""Pairs of changes that are fine alone but not together, where the first is not visible yet or is just being undone."""

from dataclasses import replace

import pytest

import quorate_planner as planner
from quorate_controller.admission.decisions import Allow, Asked, Change, Maintain, Refuse, Start, achieved, decide
from quorate_controller.admission.proofs import Proofs
from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.ledger import Reservation, ReservationKind, reserve
from tests.planner.oracle import tolerates

GIB = 1 << 30
PROTECTED = Protection.PROTECTED


def pool(*vms: Vm, memory_gib: int = 8) -> Snapshot:
    used = {f"h{i}": sum(v.size_bytes for v in vms if v.host == f"h{i}") for i in (1, 2)}
    return Snapshot(Pool("p", 1), tuple(Host(name, memory_gib * GIB, bytes_) for name, bytes_ in used.items()), vms)


def vm(name: str, gib: int, host: str | None = None, protection: Protection = PROTECTED, *, should_run: bool = True) -> Vm:
    return Vm(f"d/{name}", gib * GIB, host, protection, should_run=should_run)


def asked(change: Change) -> Asked:
    return Asked("request-2", "VirtualMachine d/new", change)


# h1 has 4 GiB free, h2 has 7. An unprotected VM of 4 GiB fits on h2; a protected one would leave b and it without a place if h2 fails.
BARE = pool(vm("a", 3, "h1"), vm("u", 1, "h1", Protection.UNPROTECTED), vm("b", 1, "h2"), vm("new", 4, should_run=False))


def test_a_start_is_judged_by_a_protection_that_is_admitted_but_not_visible_yet() -> None:
    unprotected = replace(BARE, vms=(*BARE.vms[:3], replace(BARE.vms[3], protection=Protection.UNPROTECTED)))
    start = Start(replace(unprotected.vms[3], should_run=True))
    assert isinstance(decide(asked(start), unprotected), Allow), "alone it is fine"
    protection = Reservation(ReservationKind.PROTECT, "d/new", "request-1", protection=PROTECTED)
    verdict = decide(asked(start), reserve(unprotected, (protection,)))
    assert isinstance(verdict, Refuse)
    assert "would leave" in verdict.message or "plan" in verdict.message


# a was stopped and its launcher pod is still ending; since then u was started, where a's own place was kept.
ENDING = pool(vm("a", 4, "h1", should_run=False), vm("b", 4, "h2"), vm("u", 4, "h2", Protection.UNPROTECTED))


def test_a_protected_vm_that_is_started_while_its_old_pod_ends_is_judged_like_any_start() -> None:
    assert achieved(ENDING) == 1
    verdict = decide(asked(Start(replace(ENDING.vms[0], host=None, should_run=True))), ENDING)
    assert isinstance(verdict, Refuse)


def test_a_vm_that_was_protected_while_its_old_pod_ends_is_judged_by_that_when_it_starts() -> None:
    before = replace(ENDING, vms=(replace(ENDING.vms[0], protection=Protection.UNPROTECTED), *ENDING.vms[1:]))
    assert achieved(before) == 1
    verdict = decide(asked(Start(replace(ENDING.vms[0], host=None, should_run=True))), before)
    assert isinstance(verdict, Refuse)


def test_a_start_that_is_reserved_counts_as_running_also_while_the_old_pod_ends() -> None:
    roomy = replace(ENDING, vms=ENDING.vms[:2], hosts=(ENDING.hosts[0], replace(ENDING.hosts[1], used_bytes=4 * GIB)))
    verdict = decide(asked(Start(replace(ENDING.vms[0], host=None, should_run=True))), roomy)
    assert isinstance(verdict, Allow)
    after = reserve(roomy, verdict.reservations)
    found = after.vm("d/a")
    assert found is not None
    assert found.should_run
    assert after.hosts == roomy.hosts, "its memory is not counted twice"
    assert isinstance(decide(asked(Start(vm("u", 4, None, Protection.UNPROTECTED))), after), Refuse)


# Of 20 GiB each. One failure is survived, also with one or two more VMs of 3 GiB, but then only zones of 7 and of 3 GiB show it.
LAID = {"0": (7, "h2"), "1": (3, "h1"), "2": (7, "h1"), "3": (3, "h1"), "4": (7, "h0"), "6": (7, "h0")}


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_a_search_has_let_in_does_not_lower_the_number_that_the_next_start_is_judged_by(replicas: int) -> None:
    pytest.importorskip("ortools", reason="OR-Tools is not installed: admission proves by plain zones only")
    vms = tuple(vm(name, gib, host) for name, (gib, host) in LAID.items())
    used = {f"h{i}": sum(v.size_bytes for v in vms if v.host == f"h{i}") for i in range(3)}
    now = Snapshot(Pool("p", 1), tuple(Host(name, 20 * GIB, bytes_) for name, bytes_ in used.items()), vms)
    proofs = [Proofs(search_seconds=30) for _ in range(replicas)]
    answers = []
    for number in range(3):
        asking = proofs[number % replicas]
        asking.begin()
        verdict = decide(asked(Start(vm(f"n{number}", 3))), now, asking)
        answers.append(type(verdict))
        if isinstance(verdict, Allow):
            now = reserve(now, verdict.reservations)
        assert tolerates(planner.problem_of(now), 1)
    assert answers == [Allow, Allow, Refuse]
    assert not planner.holds(now, 1), "else this test would show nothing"


@pytest.mark.parametrize("what", ["domain", "hugepages"])
def test_a_kept_proof_does_not_outlast_what_it_was_about(what: str) -> None:
    vms = tuple(replace(vm(f"v{i}", 4, f"h{i}"), hugepages_bytes=GIB if what == "hugepages" else 0) for i in range(3))
    hosts = tuple(Host(f"h{i}", 12 * GIB, 4 * GIB, domain=f"d{i}", allocatable_hugepages_bytes=8 * GIB) for i in range(3))
    before = Snapshot(Pool("p", 1, failure_domain_key="rack"), hosts, vms)
    proofs = Proofs(search_seconds=0)
    assert proofs.kept(before, 1)
    changed = {"domain": {"domain": "d1"}, "hugepages": {"used_hugepages_bytes": 8 * GIB}}[what]
    tight = tuple(replace(h, used_bytes=6 * GIB, **(changed if h.name != "h0" else {})) for h in hosts)  # type: ignore[arg-type]  # by field
    assert not tolerates(planner.problem_of(replace(before, hosts=tight)), 1)
    assert not proofs.kept(replace(before, hosts=tight), 1)


# One failure of h2 to h5 can be survived with h1 drained, and with h2 drained, and not with both.
SPREAD = {"a1": "h1", "a2": "h1", "a3": "h1", "b": "h2", "c": "h3", "d": "h4", "e": "h5"}
DRAINING = Snapshot(
    Pool("p", 1),
    tuple(Host(f"h{i}", 3 * GIB, (3 if i == 1 else 1) * GIB) for i in range(1, 6)),
    tuple(vm(name, 1, host) for name, host in SPREAD.items()),
)


@pytest.mark.parametrize("visible", [False, True])
def test_a_second_maintenance_is_judged_as_if_the_first_host_were_drained(*, visible: bool) -> None:
    first = decide(Asked("r1", "HAHost h1", Maintain("h1", may_lower=False)), DRAINING)
    assert isinstance(first, Allow)
    assert isinstance(decide(Asked("r2", "HAHost h2", Maintain("h2", may_lower=False)), DRAINING), Allow), "alone it is fine"
    later = reserve(DRAINING, first.reservations)
    if visible:
        hosts = tuple(
            replace(h, leaving=True, accepts_vms=False, why_not="in maintenance") if h.name == "h1" else h for h in DRAINING.hosts
        )
        later = replace(DRAINING, hosts=hosts)
    assert isinstance(decide(Asked("r2", "HAHost h2", Maintain("h2", may_lower=False)), later), Refuse)


def test_a_start_is_judged_as_if_the_host_in_maintenance_were_drained() -> None:
    hosts = tuple(replace(h, used_bytes=2 * GIB) if h.name == "h5" else h for h in DRAINING.hosts)
    before = replace(DRAINING, hosts=hosts, vms=(*DRAINING.vms, vm("f", 1, "h5")))
    first = decide(Asked("r1", "HAHost h1", Maintain("h1", may_lower=False)), before)
    assert isinstance(first, Allow)
    start = Asked("r2", "VirtualMachine d/new", Start(vm("new", 2)))
    assert isinstance(decide(start, before), Allow), "without the maintenance it is fine"
    assert isinstance(decide(start, reserve(before, first.reservations)), Refuse)

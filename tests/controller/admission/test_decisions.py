"""What is refused and what is not: a table of small pools, one change each."""

from dataclasses import replace

import pytest

from quorate_controller.admission.decisions import (
    Allow,
    Asked,
    Change,
    Grow,
    Maintain,
    Protect,
    Refuse,
    Start,
    Stop,
    Tolerate,
    achieved,
    decide,
)
from quorate_core.facts import Host, OvercommitPolicy, Pool, Protection, Snapshot, Vm
from quorate_core.ledger import ReservationKind, reserve

GIB = 1 << 30
PROTECTED = Protection.PROTECTED


def pool(*vms: Vm, hosts: int = 3, memory_gib: int = 8, tolerate: int = 1, **more: object) -> Snapshot:
    used = {f"h{i}": sum(v.size_bytes for v in vms if v.host == f"h{i}") for i in range(1, hosts + 1)}
    return Snapshot(
        replace(Pool("p", tolerate), **more),  # type: ignore[arg-type]
        tuple(Host(name, memory_gib * GIB, bytes_) for name, bytes_ in used.items()),
        vms,
    )


def vm(name: str, gib: int, host: str | None = None, protection: Protection = PROTECTED, **more: object) -> Vm:
    return replace(Vm(f"d/{name}", gib * GIB, host, protection), **more)  # type: ignore[arg-type]


def asked(change: Change, **more: object) -> Asked:
    return replace(Asked("request-1", "VirtualMachine d/new", change), **more)  # type: ignore[arg-type]


# Three hosts of 8 GiB with 4 GiB of protected VMs each: 4 GiB free on each, any one failure is covered.
HALF = (vm("a", 4, "h1"), vm("b", 4, "h2"), vm("c", 4, "h3"))
# Free: 4, 2 and 6 GiB. One failure is covered; a VM of 6 GiB fits on h3 only, and then a's 4 GiB have no place left.
TIGHT = pool(vm("a", 4, "h1"), vm("b", 4, "h2"), vm("d", 2, "h2"), vm("c", 2, "h3"))
BREAKING = Start(vm("new", 6, protection=Protection.UNPROTECTED))


def test_a_start_that_leaves_a_plan_is_admitted_and_its_best_host_reserved() -> None:
    verdict = decide(asked(Start(vm("new", 2))), pool(*HALF))
    assert isinstance(verdict, Allow)
    (entry,) = verdict.reservations
    assert (entry.kind, entry.subject, entry.pinned) == (ReservationKind.START, "d/new", True)
    after = reserve(pool(*HALF), verdict.reservations)
    assert achieved(after) == 1


def test_a_start_that_fits_but_leaves_no_plan_is_refused_with_vm_hosts_numbers_and_the_way_round() -> None:
    verdict = decide(asked(BREAKING), TIGHT)
    assert isinstance(verdict, Refuse)
    for part in ("d/new", "6.0 GiB", "covers 1 host failure now", "cover 0 host failures", "if h1 failed", "d/a", "allow-overcommit=true"):
        assert part in verdict.message


def test_a_start_that_fits_nowhere_is_refused_with_the_most_that_is_free() -> None:
    verdict = decide(asked(Start(vm("new", 5))), pool(*HALF))
    assert isinstance(verdict, Refuse)
    assert "needs 5.0 GiB" in verdict.message
    assert "4.0 GiB" in verdict.message


def test_a_vm_that_fits_nowhere_may_wait_where_nothing_is_protected() -> None:
    verdict = decide(asked(Start(vm("new", 9, protection=Protection.UNPROTECTED))), pool())
    assert isinstance(verdict, Allow)
    assert "needs 9.0 GiB" in verdict.warnings[0]


def test_an_overcommitted_pool_decides_on_what_it_still_achieves() -> None:
    # The wish of 2 is not met, 1 is: what keeps 1 is admitted, what breaks 1 is not.
    snapshot = replace(TIGHT, pool=replace(TIGHT.pool, host_failures_to_tolerate=2))
    assert achieved(snapshot) == 1
    assert isinstance(decide(asked(Start(vm("new", 1, protection=Protection.UNPROTECTED))), snapshot), Allow)
    assert isinstance(decide(asked(BREAKING), snapshot), Refuse)


def test_nothing_is_refused_where_no_plan_is_left_to_break() -> None:
    stuck = pool(vm("a", 8, "h1"), vm("b", 8, "h2"), vm("c", 7, "h3"), vm("waits", 4))
    assert achieved(stuck) is None
    verdict = decide(asked(Start(vm("new", 1))), stuck)
    assert isinstance(verdict, Allow)
    assert "no failover plan" in verdict.warnings[0]


@pytest.mark.parametrize(
    ("snapshot", "insists", "said"),
    [
        (TIGHT, True, "annotation quorate.dev/allow-overcommit"),
        (replace(TIGHT, pool=replace(TIGHT.pool, overcommit_policy=OvercommitPolicy.WARN)), False, "overcommitPolicy Warn"),
        (replace(TIGHT, pool=replace(TIGHT.pool, armed=False)), False, "not armed"),
    ],
    ids=["override", "warn", "disarmed"],
)
def test_what_would_be_refused_is_allowed_with_a_warning(snapshot: Snapshot, insists: bool, said: str) -> None:
    assert isinstance(decide(asked(BREAKING), TIGHT), Refuse)
    verdict = decide(asked(BREAKING, override=insists), snapshot)
    assert isinstance(verdict, Allow)
    assert said in verdict.warnings[0]


def test_a_start_that_was_allowed_without_a_plan_still_counts_against_the_next() -> None:
    verdict = decide(asked(BREAKING, override=True), TIGHT)
    assert isinstance(verdict, Allow)
    (entry,) = verdict.reservations
    assert (entry.host, entry.pinned) == ("h3", False)


def test_a_vm_that_is_not_agile_cannot_be_protected_and_the_reasons_are_told() -> None:
    local = vm("new", 1, "h1", Protection.UNPROTECTED, not_agile=("disk d/data is a local volume of h1",))
    verdict = decide(asked(Protect(replace(local, protection=PROTECTED))), pool(local))
    assert isinstance(verdict, Refuse)
    assert "disk d/data is a local volume of h1" in verdict.message
    assert "BestEffort" in verdict.message


def test_an_unprotected_vm_that_is_not_agile_may_start() -> None:
    local = vm("new", 1, None, Protection.UNPROTECTED, not_agile=("host disk",))
    assert isinstance(decide(asked(Start(local)), pool(*HALF)), Allow)


def test_protecting_is_refused_when_the_vm_would_have_no_place_after_a_failure() -> None:
    big = vm("big", 7, "h1", Protection.UNPROTECTED)
    snapshot = pool(big, vm("b", 4, "h2"), vm("c", 4, "h3"))
    verdict = decide(asked(Protect(replace(big, protection=PROTECTED))), snapshot)
    assert isinstance(verdict, Refuse)
    assert "Protecting VirtualMachine d/big" in verdict.message
    assert isinstance(decide(asked(Protect(replace(big, protection=PROTECTED))), pool(big, vm("b", 4, "h2"))), Allow)


def test_protecting_a_vm_that_is_off_promises_nothing_yet() -> None:
    off = vm("off", 30, None, Protection.UNPROTECTED, should_run=False)
    assert isinstance(decide(asked(Protect(replace(off, protection=PROTECTED))), pool(off)), Allow)


@pytest.mark.parametrize(("gib", "other_gib", "allowed"), [(3, 2, True), (8, 0, True), (4, 2, True), (5, 2, False)])
def test_growth_is_admitted_while_a_plan_is_left(gib: int, other_gib: int, allowed: bool) -> None:
    # If h2 fails, b's 4 GiB need h1 (which a grows on) or h3 (which u may have taken from).
    other = vm("u", other_gib, "h3", Protection.UNPROTECTED)
    snapshot = pool(vm("a", 4, "h1", Protection.UNPROTECTED), vm("b", 4, "h2"), vm("c", 4, "h3"), other)
    verdict = decide(asked(Grow(vm("a", gib, "h1", Protection.UNPROTECTED))), snapshot)
    assert isinstance(verdict, Allow) is allowed, verdict


def test_growth_past_the_hosts_memory_names_both() -> None:
    verdict = decide(asked(Grow(vm("a", 20, "h1"))), pool(*HALF))
    assert isinstance(verdict, Refuse)
    assert "from 4.0 GiB to 20.0 GiB" in verdict.message
    assert "h1 has only 4.0 GiB free" in verdict.message


@pytest.mark.parametrize(("number", "allowed"), [(0, True), (1, True), (2, False), (9, False)])
def test_a_wish_above_the_maximum_is_refused_with_the_maximum(number: int, allowed: bool) -> None:
    verdict = decide(asked(Tolerate(number)), pool(*HALF, tolerate=0))
    assert isinstance(verdict, Allow) is allowed
    if isinstance(verdict, Refuse):
        assert f"spec.hostFailuresToTolerate: {number} is above the maximum" in verdict.message
        assert "tolerates at most 1 host failure now" in verdict.message


@pytest.mark.parametrize("deleted", [True, False])
def test_a_protected_vm_is_neither_stopped_nor_deleted_before_it_is_unprotected(deleted: bool) -> None:
    verdict = decide(asked(Stop("d/a", deleted)), pool(*HALF))
    assert isinstance(verdict, Refuse)
    assert "unprotect it first" in verdict.message


def test_stopping_what_is_not_protected_is_nobodys_business() -> None:
    assert decide(asked(Stop("d/u", False)), pool(vm("u", 1, "h1", Protection.BEST_EFFORT))) == Allow()


def test_a_pool_that_only_warns_still_keeps_protected_vms_running() -> None:
    assert isinstance(decide(asked(Stop("d/a", True)), pool(*HALF, overcommit_policy=OvercommitPolicy.WARN)), Refuse)


def test_maintenance_that_breaks_the_plan_is_refused_or_lowers_it_by_one() -> None:
    four = (vm("a", 2, "h1"), vm("b", 2, "h2"), vm("c", 2, "h3"), vm("d", 2, "h4"))
    roomy = pool(*four, hosts=4, memory_gib=4, tolerate=1)
    assert isinstance(decide(asked(Maintain("h1", False)), roomy), Allow)
    tight = replace(roomy, pool=replace(roomy.pool, host_failures_to_tolerate=2))
    assert achieved(tight) == 2
    refused = decide(asked(Maintain("h1", False)), tight)
    assert isinstance(refused, Refuse)
    assert "LowerTolerance" in refused.message
    lowered = decide(asked(Maintain("h1", True)), tight)
    assert isinstance(lowered, Allow)
    assert "covers 1 host failure instead of 2" in lowered.warnings[0]


def test_a_restart_keeps_its_host_and_is_never_refused() -> None:
    running = replace(HALF[0])
    verdict = decide(asked(Start(replace(running, host=None))), TIGHT)
    assert isinstance(verdict, Allow)
    (entry,) = verdict.reservations
    assert (entry.host, entry.restart, entry.pinned) == ("h1", True, True)

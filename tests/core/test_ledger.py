"""The admission ledger: nothing that was admitted is ever counted less than once, and nothing stays for ever."""

from dataclasses import replace

import pytest

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.ledger import PERSISTENCE_SECONDS, RESTART_SECONDS, Ages, Ledger, Reservation, ReservationKind, reap, reserve

GIB = 1 << 30
START = Reservation(ReservationKind.START, "d/a", "r1", size_bytes=2 * GIB, host="h1", pinned=True)


def pool(*vms: Vm, used_gib: int = 0) -> Snapshot:
    return Snapshot(Pool("p"), (Host("h1", 8 * GIB, used_gib * GIB), Host("h2", 8 * GIB)), vms)


def off(key: str = "d/a", **more: object) -> Vm:
    return replace(Vm(key, 2 * GIB, should_run=False), **more)  # type: ignore[arg-type]


def aged(ledger: Ledger, seconds: float, snapshot: Snapshot) -> tuple[Reservation, ...]:
    """What leaves in a turn that long after the turn that first saw the entries."""
    first = reap(Ages(), ledger, snapshot, 100.0)
    assert first.gone == ()
    return reap(first.ages, ledger, snapshot, 100.0 + seconds).gone


def test_a_start_counts_on_its_host_before_the_cluster_shows_it() -> None:
    after = reserve(pool(off()), [START])
    host, vm = after.host("h1"), after.vm("d/a")
    assert host is not None
    assert vm is not None
    assert (host.used_bytes, vm.host, vm.should_run) == (2 * GIB, "h1", True)


def test_the_start_of_a_vm_that_does_not_exist_yet_counts_with_its_protection() -> None:
    vm = reserve(pool(), [replace(START, protection=Protection.PROTECTED, allowed=frozenset({"h1"}))]).vm("d/a")
    assert vm is not None
    assert (vm.protection, vm.host, vm.allowed) == (Protection.PROTECTED, "h1", frozenset({"h1"}))


def test_a_vm_whose_launcher_pod_is_bound_is_not_counted_twice() -> None:
    snapshot = pool(Vm("d/a", 2 * GIB, host="h2"))
    assert reserve(snapshot, [START]) == snapshot


def test_an_entry_leaves_once_the_launcher_pod_is_bound() -> None:
    assert aged(Ledger((START,)), 1, pool(Vm("d/a", 2 * GIB, host="h1"))) == (START,)


def test_no_entry_leaves_in_the_turn_that_first_sees_it() -> None:
    # That turn's snapshot may be older than the entry, and show the launcher pod of an earlier run.
    assert reap(Ages(), Ledger((START,)), pool(Vm("d/a", 2 * GIB, host="h1")), 1e9).gone == ()


def test_a_vm_that_should_run_and_has_no_bound_pod_keeps_its_entry_however_long_that_lasts() -> None:
    assert aged(Ledger((START,)), 1e6, pool(Vm("d/a", 2 * GIB, host=None))) == ()


@pytest.mark.parametrize("snapshot", [pool(), pool(off())], ids=["vm not there", "vm still off"])
def test_a_change_that_never_came_leaves_only_when_its_request_can_no_longer_succeed(snapshot: Snapshot) -> None:
    assert aged(Ledger((START,)), PERSISTENCE_SECONDS, snapshot) == ()
    assert aged(Ledger((START,)), PERSISTENCE_SECONDS + 0.1, snapshot) == (START,)


def test_a_new_reaper_counts_from_its_own_first_sight() -> None:
    assert reap(Ages(), Ledger((START,)), pool(), 1e9).gone == ()


def test_a_repeated_request_starts_a_new_age() -> None:
    first = reap(Ages(), Ledger((START,)), pool(), 0.0)
    again = Ledger((START,)).add(replace(START, request="r2"))
    assert reap(first.ages, again, pool(), PERSISTENCE_SECONDS + 1).gone == ()


def test_a_restart_is_not_taken_for_done_because_the_old_pod_is_still_bound() -> None:
    restart = replace(START, restart=True)
    running = pool(Vm("d/a", 2 * GIB, host="h1"))
    assert aged(Ledger((restart,)), 10, running) == ()
    assert aged(Ledger((restart,)), 180, running) == (), "a launcher pod may take so long to end"
    assert aged(Ledger((restart,)), RESTART_SECONDS + 1, running) == (restart,)


def test_a_protected_start_stays_until_its_protection_is_seen_too() -> None:
    entry = replace(START, protection=Protection.PROTECTED)
    assert aged(Ledger((entry,)), 10, pool(Vm("d/a", 2 * GIB, host="h1"))) == ()
    assert aged(Ledger((entry,)), 10, pool(Vm("d/a", 2 * GIB, host="h1", protection=Protection.PROTECTED))) == (entry,)


def test_of_two_demands_for_one_vm_the_larger_stays() -> None:
    smaller = replace(START, request="r2", size_bytes=GIB)
    (entry,) = Ledger((START,)).add(smaller).entries
    assert (entry.request, entry.size_bytes) == ("r2", 2 * GIB)


def test_an_entry_that_was_replaced_meanwhile_is_not_removed_with_the_old_one() -> None:
    newer = Ledger((replace(START, request="r2"),))
    assert newer.without([START]) == newer


CASES = [
    (Reservation(ReservationKind.GROW, "d/a", "r", size_bytes=3 * GIB), pool(Vm("d/a", 3 * GIB, host="h1"))),
    (
        Reservation(ReservationKind.PROTECT, "d/a", "r", protection=Protection.PROTECTED),
        pool(Vm("d/a", GIB, host="h1", protection=Protection.PROTECTED)),
    ),
    (Reservation(ReservationKind.TOLERATE, "p", "r", tolerate=1), pool()),
    (Reservation(ReservationKind.MAINTAIN, "h9", "r"), pool()),
]


@pytest.mark.parametrize(("entry", "shown"), CASES, ids=[e.kind.value for e, _ in CASES])
def test_every_kind_of_entry_leaves_when_the_cluster_shows_it(entry: Reservation, shown: Snapshot) -> None:
    assert aged(Ledger((entry,)), 1, shown) == (entry,)


def test_growth_protection_wish_and_maintenance_count_at_once() -> None:
    before = pool(Vm("d/a", GIB, host="h1"), used_gib=1)
    after = reserve(
        before,
        [
            Reservation(ReservationKind.GROW, "d/a", "r", size_bytes=3 * GIB),
            Reservation(ReservationKind.PROTECT, "d/a", "r", protection=Protection.PROTECTED, priority=4),
            Reservation(ReservationKind.TOLERATE, "p", "r", tolerate=2),
            Reservation(ReservationKind.MAINTAIN, "h2", "r"),
        ],
    )
    vm, h1, h2 = after.vm("d/a"), after.host("h1"), after.host("h2")
    assert vm is not None
    assert h1 is not None
    assert h2 is not None
    assert (vm.size_bytes, vm.protection, vm.priority) == (3 * GIB, Protection.PROTECTED, 4)
    assert (h1.used_bytes, h2.free_bytes, after.pool.host_failures_to_tolerate) == (3 * GIB, 0, 2)

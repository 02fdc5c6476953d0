"""From the request and the cluster to the answer: the whole way of one replica, without a network."""

from typing import Any

import pytest

from quorate_controller.admission.assess import Scene
from quorate_controller.admission.batch import settle
from quorate_controller.admission.decisions import Allow, Refuse, Verdict
from quorate_controller.observe import Observed
from quorate_core.facts import Protection
from quorate_core.ledger import Ledger, Reservation, ReservationKind
from tests.controller.admission.objects import cluster, hahost, hapool, launcher, node, pvm, request, vm


def answer(observed: Observed, new: dict[str, Any] | None, old: dict[str, Any] | None = None, **more: Any) -> Verdict:
    return settle([request(new, old, **more)], Scene(observed), {}).verdicts[0][1]


def test_a_created_vm_is_measured_by_kubevirts_formula_before_it_exists() -> None:
    verdict = answer(cluster(), vm("a", 4, "Always"))
    assert isinstance(verdict, Allow)
    (entry,) = verdict.reservations
    overhead = (288 << 20) + 35_000_000  # QEMU and its helpers, and the container that carries the console log
    assert (entry.subject, entry.size_bytes) == ("d/a", (4 << 30) + overhead)


def test_the_label_of_a_created_vm_protects_it_from_the_first_moment() -> None:
    verdict = answer(cluster(), vm("a", 4, "Always", labels={"quorate.dev/protection": "Protected", "quorate.dev/priority": "3"}))
    assert isinstance(verdict, Allow)
    (entry,) = verdict.reservations
    assert (entry.protection.value, entry.priority) == ("Protected", 3)


def test_a_protectedvm_that_waits_for_its_vm_counts_when_the_vm_comes() -> None:
    verdict = answer(cluster(protectedvms=(pvm("a"),)), vm("a", 4, "Always"))
    assert isinstance(verdict, Allow)
    assert verdict.reservations[0].protection.value == "Protected"


def test_a_vm_bound_to_one_host_cannot_be_protected_and_its_reasons_are_told() -> None:
    local = vm("a", 2, volumes=[{"name": "x", "hostDisk": {"path": "/x", "type": "Disk"}}])
    for new, old in (
        (pvm("a"), None),
        ({**local, "metadata": {**local["metadata"], "labels": {"quorate.dev/protection": "Protected"}}}, local),
    ):
        verdict = answer(cluster(vms=(local,)), new, old)
        assert isinstance(verdict, Refuse)
        assert "cannot be protected" in verdict.message
        assert "BestEffort" in verdict.message


def test_a_vm_that_is_off_and_may_run_on_one_host_only_cannot_be_protected() -> None:
    pinned = vm("a", 2, nodeSelector={"only": "here"})
    nodes = (node("n1", only="here"), node("n2"), node("n3"))
    verdict = answer(cluster(nodes=nodes, vms=(pinned,)), pvm("a"))
    assert isinstance(verdict, Refuse)
    assert "only n1 may run it" in verdict.message


def test_a_running_vm_grows_against_what_its_host_has_left() -> None:
    small = vm("a", 2, "Always")
    seen = cluster(vms=(small,), pods=(launcher("a", "n1"),))
    assert isinstance(answer(seen, vm("a", 8, "Always"), small), Allow)


def test_the_override_is_read_from_the_object_itself() -> None:
    big = vm("a", 64, "Always", labels={"quorate.dev/protection": "Protected"})
    assert isinstance(answer(cluster(), big), Refuse)
    big["metadata"]["annotations"] = {"quorate.dev/allow-overcommit": "true"}
    verdict = answer(cluster(), big)
    assert isinstance(verdict, Allow)
    assert "allow-overcommit" in verdict.warnings[0]


def test_a_vm_that_a_failover_is_restarting_is_never_refused() -> None:
    manual = vm("a", 64, "Manual")
    started = {**manual, "status": {"stateChangeRequests": [{"action": "Start"}]}}
    failover = {
        "kind": "Failover",
        "metadata": {"name": "f"},
        "spec": {"restarts": [{"vm": "d/a"}, {"vm": "d/b"}]},
        "status": {"phase": "Restarting", "vms": [{"vm": "d/b", "phase": "Running"}]},
    }
    others = tuple(vm(n, 2, "Always", labels={"quorate.dev/protection": "Protected"}) for n in ("b", "c"))
    seen = cluster(vms=(manual, *others), pods=(launcher("b", "n1"), launcher("c", "n2")))
    assert isinstance(answer(seen, started, manual, subresource="status"), Refuse)
    busy = cluster(vms=(manual, *others), pods=(launcher("b", "n1"), launcher("c", "n2")), failovers=(failover,))
    assert answer(busy, started, manual, subresource="status") == Allow()


def test_a_protectedvm_for_a_vm_that_is_not_there_yet_is_a_warning() -> None:
    verdict = answer(cluster(), pvm("later"))
    assert isinstance(verdict, Allow)
    assert verdict.warnings == ("Quorate: ProtectedVM d/later: spec.vmRef.name: there is no VirtualMachine d/later yet",)


LEFT, RIGHT = {"side": "left"}, {"side": "right"}
TWO_POOLS = {
    "nodes": (node("n1", side="left"), node("n2", side="left"), node("n3", side="right"), node("n4", side="right")),
    "hapools": (hapool("left", selector=LEFT), hapool("right", selector=RIGHT)),
    "hahosts": tuple(hahost(f"n{i}", "left" if i < 3 else "right") for i in (1, 2, 3, 4)),
}


def test_of_several_pools_an_unprotected_vm_takes_the_one_it_may_run_in() -> None:
    settled = settle([request(vm("a", 2, "Always", nodeSelector=RIGHT))], Scene(cluster(**TWO_POOLS)), {})
    assert list(settled.ledgers) == ["right"]
    assert settled.ledgers["right"].entries[0].host in {"n3", "n4"}


def test_a_vm_that_no_pool_may_run_is_no_pools_business() -> None:
    assert answer(cluster(**TWO_POOLS), vm("a", 2, "Always", nodeSelector={"side": "outside"})) == Allow()


def test_with_several_pools_a_protectedvm_has_to_name_one() -> None:
    verdict = answer(cluster(**TWO_POOLS, vms=(vm("a"),)), pvm("a"))
    assert isinstance(verdict, Refuse)
    assert "ProtectedVM d/a: spec.pool: " in verdict.message


WRONG = [
    (vm("a", -4, "Always"), "VirtualMachine d/a: spec.template.spec.domain.memory.guest"),
    (vm("a", labels={"quorate.dev/protection": "Protekted"}), "VirtualMachine d/a: metadata.labels[quorate.dev/protection]"),
    (pvm("a", pool="nowhere"), "ProtectedVM d/a: spec.pool: there is no HAPool nowhere"),
    (pvm("a", priority=-1), "ProtectedVM d/a: spec.priority"),
    (hapool("second"), "HAPool second: spec.hostSelector: Node n1 is selected by pools p and second"),
    (
        {**hapool("two"), "spec": {"heartbeat": {"storage": {"devicePath": "/a", "claimName": "b"}}}},
        "HAPool two: spec.heartbeat.storage: exactly one of",
    ),
    (hahost("n9", "nowhere"), "HAHost n9: spec.pool: there is no HAPool nowhere"),
]


@pytest.mark.parametrize(("obj", "said"), WRONG, ids=[said.rpartition(": ")[0] or said for _, said in WRONG])
def test_a_wrong_field_is_refused_by_object_and_field(obj: dict[str, Any], said: str) -> None:
    verdict = answer(cluster(vms=(vm("a"),) if obj["kind"] != "VirtualMachine" else ()), obj)
    assert isinstance(verdict, Refuse)
    assert said in verdict.message


def test_a_pool_without_hosts_and_a_wish_that_leaves_no_host_are_warnings() -> None:
    none = answer(cluster(), hapool("empty", selector={"rack": "none"}))
    assert isinstance(none, Allow)
    assert "HAPool empty: spec.hostSelector: no Node is selected" in none.warnings[0]
    all_ = answer(cluster(hapools=()), hapool(tolerate=3))
    assert isinstance(all_, Allow)
    assert "3 failures of 3 hosts" in all_.warnings[0]


def test_a_raised_wish_and_a_maintenance_are_asked_of_the_plan() -> None:
    guarded = tuple(vm(n, 12, "Always", labels={"quorate.dev/protection": "Protected"}) for n in ("a", "b"))
    seen = cluster(vms=guarded, pods=(launcher("a", "n1", 12), launcher("b", "n2", 12)))
    raised = answer(seen, hapool(tolerate=2), hapool(tolerate=1))
    assert isinstance(raised, Refuse)
    assert "spec.hostFailuresToTolerate: 2 is above the maximum" in raised.message
    away = answer(seen, hahost("n3", maintenance=True), hahost("n3"))
    assert isinstance(away, Refuse)
    assert "Maintenance of HAHost n3" in away.message
    back = answer(seen, hahost("n3"), hahost("n3", maintenance=True))
    assert back == Allow()


def test_disarming_is_never_asked_of_the_plan() -> None:
    assert isinstance(answer(cluster(), hapool(tolerate=9, enabled=False), hapool(tolerate=1)), Allow)


def test_without_any_pool_nothing_is_refused_or_reserved() -> None:
    settled = settle([request(vm("a", 999, "Always"))], Scene(cluster(hapools=(), hahosts=())), {})
    assert settled.verdicts == ((None, Allow()),)
    assert settled.ledgers == {}


def test_a_started_vm_is_found_in_the_ledger_by_the_next_request_of_another_kind() -> None:
    off = vm("a", 2)
    settled = settle([request(vm("a", 2, "Always"), off), request(pvm("a"))], Scene(cluster(vms=(off,))), {})
    assert all(isinstance(v, Allow) for _, v in settled.verdicts)
    kinds = {entry.kind for entry in settled.ledgers["p"].entries}
    assert kinds == {ReservationKind.START, ReservationKind.PROTECT}


def test_a_vm_that_was_unprotected_can_be_stopped_while_the_ledger_still_counts_its_protection() -> None:
    seen = cluster(vms=(vm("a", 2, "Always"),), pods=(launcher("a", "n1"),), protectedvms=(pvm("a", "Unprotected"),))
    entry = Reservation(ReservationKind.PROTECT, "d/a", "earlier", protection=Protection.PROTECTED)
    stop = request(vm("a", 2), vm("a", 2, "Always"))
    assert settle([stop], Scene(seen), {"p": Ledger((entry,))}).verdicts[0][1] == Allow()

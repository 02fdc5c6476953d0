"""Admission of VMs that must not share a host, from the cluster's objects to the answer."""

from dataclasses import replace
from typing import Any

import pytest

from quorate_controller.admission.assess import Scene
from quorate_controller.admission.batch import settle
from quorate_controller.admission.decisions import Allow, Refuse, Verdict
from quorate_controller.admission.proofs import Proofs
from quorate_controller.admission.store import decode, encode
from quorate_controller.observe import Observed
from quorate_core.ledger import Ledger
from tests.controller.admission.objects import Json, cluster, hahost, hapool, launcher, node, pvm, request, vm


def db(name: str, gib: int = 2, strategy: str = "Always") -> Json:
    """A VM that is never on a host with another such one."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}
    made = vm(name, gib, strategy, affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    made["spec"]["template"]["metadata"] = {"labels": {"app": "db"}}
    return made


def running(name: str, host: str) -> tuple[Json, Json]:
    machine = db(name)
    pod = launcher(name, host)
    pod["metadata"]["labels"] |= {"app": "db"}
    pod["spec"]["affinity"] = machine["spec"]["template"]["spec"]["affinity"]
    return machine, pod


def pool_of(hosts: int, *on: str, tolerate: int = 1, protected: int | None = None) -> Observed:
    """A pool of so many hosts with a database on each of `on`."""
    made = [running(f"db{i}", host) for i, host in enumerate(on)]
    return cluster(
        hapools=(hapool(tolerate=tolerate),),
        nodes=tuple(node(f"n{i}") for i in range(1, hosts + 1)),
        hahosts=tuple(hahost(f"n{i}") for i in range(1, hosts + 1)),
        vms=tuple(machine for machine, _ in made),
        pods=tuple(pod for _, pod in made),
        protectedvms=tuple(pvm(f"db{i}") for i in range(len(on) if protected is None else protected)),
    )


def answers(observed: Observed, *machines: Json, **more: Any) -> list[Verdict]:
    requests = [request(machine, None, **more) for machine in machines]
    return [verdict for _, verdict in settle(requests, Scene(observed), {}, Proofs(search_seconds=5.0)).verdicts]


def labelled(machine: Json) -> Json:
    return {**machine, "metadata": {**machine["metadata"], "labels": {"quorate.dev/protection": "Protected"}}}


def test_a_database_starts_on_a_host_without_one_and_its_reservation_remembers_why() -> None:
    (verdict,) = answers(pool_of(4, "n1", "n2"), labelled(db("new")))
    assert isinstance(verdict, Allow), verdict
    (entry,) = verdict.reservations
    assert entry.host in {"n3", "n4"}
    assert entry.apart == {"d: app=db"}
    written = Ledger((entry,))
    assert decode({"metadata": {"name": "quorate-ledger-p"}, "data": {"ledger.json": encode(written)}}) == written


def test_a_start_that_leaves_no_host_for_a_restart_is_refused() -> None:
    (verdict,) = answers(pool_of(3, "n1", "n2"), labelled(db("new")))
    assert isinstance(verdict, Refuse)
    (verdict,) = answers(pool_of(3, "n1", "n2"), db("unprotected"))
    assert isinstance(verdict, Refuse)
    (verdict,) = answers(pool_of(3, "n1", "n2"), vm("other", 2, "Always"))
    assert isinstance(verdict, Allow)


def test_two_starts_at_once_do_not_get_the_same_host_and_the_second_finds_the_room_of_the_first_taken() -> None:
    first, second, third = answers(pool_of(4, "n1"), *(labelled(db(f"new{i}")) for i in range(3)))
    assert isinstance(first, Allow)
    assert isinstance(second, Allow)
    assert {first.reservations[0].host, second.reservations[0].host} < {"n2", "n3", "n4"}
    assert first.reservations[0].host != second.reservations[0].host
    assert isinstance(third, Refuse)


def test_where_every_host_has_one_the_refusal_says_so() -> None:
    (verdict,) = answers(pool_of(2, "n1", "n2", tolerate=0), labelled(db("new")))
    assert isinstance(verdict, Refuse)
    assert "each host with room for it runs a VM that it must not share a host with" in verdict.message


def test_databases_can_be_protected_one_after_the_other() -> None:
    observed = pool_of(4, "n1", "n2", protected=0)
    for name in ("db0", "db1"):
        verdict = settle([request(pvm(name), None)], Scene(observed), {}).verdicts[0][1]
        assert isinstance(verdict, Allow), verdict
        assert verdict.warnings == ()
        observed = replace(observed, protectedvms=(*observed.protectedvms, pvm(name)))


def test_a_database_beside_a_pod_with_its_label_cannot_be_protected() -> None:
    observed = pool_of(4, "n1", "n2", protected=0)
    backup = {**launcher("backup", "n3"), "metadata": {"name": "backup", "namespace": "d", "labels": {"app": "db"}}}
    verdict = settle([request(pvm("db0"), None)], Scene(replace(observed, pods=(*observed.pods, backup))), {}).verdicts[0][1]
    assert isinstance(verdict, Refuse)
    assert "also selects pod d/backup" in verdict.message


def test_many_starts_of_ordinary_vms_go_on_from_the_kept_proof_beside_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = pool_of(5, "n1", "n2")
    proofs = Proofs(search_seconds=5.0)
    scene = Scene(observed)
    first = settle([request(vm("a", 2, "Always"), None)], scene, {}, proofs)
    assert isinstance(first.verdicts[0][1], Allow)

    def search(*_: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr("quorate_planner.incremental.sought", search)
    second = settle([request(labelled(vm("b", 2, "Always")), None)], scene, first.ledgers, proofs)
    assert isinstance(second.verdicts[0][1], Allow)


def paged(name: str, gib: int = 4, strategy: str = "Always") -> Json:
    made = vm(name, gib, strategy)
    made["spec"]["template"]["spec"]["domain"]["memory"]["hugepages"] = {"pageSize": "2Mi"}
    return made


def paged_pool(*free: int, on: str = "n1") -> Observed:
    """Nodes with so many GiB of hugepages, and a protected VM with 4 GiB of them on n1."""
    nodes = [node(f"n{i}") for i in range(1, len(free) + 1)]
    for made, gib in zip(nodes, free, strict=True):
        made["status"]["allocatable"]["hugepages-2Mi"] = f"{gib}Gi"
    pod = launcher("db0", on, 1)
    pod["spec"]["containers"][0]["resources"]["requests"]["hugepages-2Mi"] = "4Gi"
    hosts = tuple(hahost(made["metadata"]["name"]) for made in nodes)
    return cluster(nodes=tuple(nodes), hahosts=hosts, vms=(paged("db0"),), pods=(pod,), protectedvms=(pvm("db0"),))


def test_a_vm_with_hugepages_starts_where_they_are_and_where_a_restart_still_finds_some() -> None:
    (verdict,) = answers(paged_pool(8, 8, 0), labelled(paged("new")))
    assert isinstance(verdict, Allow), verdict
    (entry,) = verdict.reservations
    assert (entry.host, entry.hugepages_bytes) == ("n2", 4 << 30)
    assert entry.size_bytes < 1 << 30


def test_a_vm_with_hugepages_that_would_take_those_kept_for_a_restart_is_refused() -> None:
    first, second = answers(paged_pool(8, 8, 0), labelled(paged("new")), labelled(paged("more")))
    assert isinstance(first, Allow)
    assert isinstance(second, Refuse)
    for taken in (paged("unprotected", 8), labelled(paged("new", 8))):
        (verdict,) = answers(paged_pool(8, 8, 0), taken)
        assert isinstance(verdict, Refuse), taken


def test_where_memory_is_plenty_and_hugepages_are_not_the_refusal_says_which_are_missing() -> None:
    (verdict,) = answers(replace(paged_pool(4, 2, 0), hapools=(hapool(tolerate=0),)), labelled(paged("new", 6)))
    assert isinstance(verdict, Refuse)
    assert "has both free: n2 has most hugepages, 2.0 GiB" in verdict.message


def test_growing_hugepages_beyond_what_a_restart_finds_is_refused() -> None:
    observed = paged_pool(16, 6, 0)
    old = observed.vms[0]
    for gib, admitted in ((6, True), (8, False)):
        verdict = settle([request(paged("db0", gib), old)], Scene(observed), {}, Proofs(search_seconds=5.0)).verdicts[0][1]
        assert isinstance(verdict, Allow if admitted else Refuse), (gib, verdict)

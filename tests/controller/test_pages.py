"""Hugepages of a live pool: what VMs, pods and Nodes have of them, which page size is counted, and how a zone over them is stored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from quorate_api.hapool import PlanZone
from quorate_controller import layouts
from quorate_controller.observe import BadInput, Observed
from quorate_controller.translate import snapshot_of
from quorate_core.facts import Snapshot
from quorate_core.ledger import Reservation, ReservationKind
from quorate_planner import Proof, best_layout, problem_of

from .objects import GI, MI, Json, hahost, launcher, node, pool, protected_vm, vm, vmi


def paged_node(name: str, **pages: str) -> Json:
    made = node(name)
    made["status"]["allocatable"] |= {f"hugepages-{size.removeprefix('p')}": amount for size, amount in pages.items()}
    return made


def paged_vm(name: str, guest: str = "4Gi", size: str = "2Mi", **more: Any) -> Json:
    return vm(name, domain={"memory": {"guest": guest, "hugepages": {"pageSize": size}}}, **more)


def paged_pod(name: str, host: str, amount: str = "4Gi", size: str = "2Mi") -> Json:
    made = launcher(name, host, "300Mi")
    made["spec"]["containers"][0]["resources"]["requests"][f"hugepages-{size}"] = amount
    return made


NODES = [paged_node(name, p2Mi="16Gi", p1Gi="0") for name in ("n1", "n2", "n3")]


def seen(
    vms: Sequence[Json], pods: Sequence[Json] = (), *, protected: Sequence[str] = ("a",), nodes: Sequence[Json] = NODES, **more: Any
) -> Snapshot:
    found = Observed(
        hapools=(pool(),),
        nodes=tuple(nodes),
        hahosts=tuple(hahost(n["metadata"]["name"]) for n in nodes),
        vms=tuple(vms),
        vmis=tuple(
            vmi(p["metadata"]["ownerReferences"][0]["name"], p["spec"]["nodeName"]) for p in pods if "ownerReferences" in p["metadata"]
        ),
        pods=tuple(pods),
        protectedvms=tuple(protected_vm(name) for name in protected),
    )
    return snapshot_of(found, **more)


def test_a_running_vm_takes_hugepages_of_its_host_beside_ordinary_memory_for_its_overhead() -> None:
    snapshot = seen([paged_vm("a")], [paged_pod("a", "n1")])
    (found,) = snapshot.vms
    assert (found.size_bytes, found.hugepages_bytes, found.not_agile) == (300 * MI, 4 * GI, ())
    assert [(h.used_hugepages_bytes, h.free_hugepages_bytes) for h in snapshot.hosts] == [(4 * GI, 12 * GI), (0, 16 * GI), (0, 16 * GI)]
    assert snapshot.page_size == "2Mi"
    problem = problem_of(snapshot)
    assert (problem.hosts[0].hugepages, problem.vms[0].hugepages) == (12 * GI, 4 * GI)


@pytest.mark.parametrize(
    ("domain", "hugepages"),
    [
        ({"memory": {"guest": "4Gi", "hugepages": {"pageSize": "1Gi"}}}, 4 * GI),
        ({"memory": {"hugepages": {"pageSize": "1Gi"}}}, GI),
        ({"memory": {"guest": "2Gi", "hugepages": {"pageSize": "1Gi"}}, "resources": {"requests": {"memory": "3Gi"}}}, 2 * GI),
        ({"memory": {"hugepages": {"pageSize": "1Gi"}}, "resources": {"requests": {"memory": "3Gi"}}}, 3 * GI),
    ],
)
def test_a_stopped_vm_is_counted_as_kubevirt_will_ask_for_hugepages(domain: Json, hugepages: int) -> None:
    (found,) = seen([vm("a", None, domain=domain)]).vms
    assert (found.page_size, found.hugepages_bytes) == ("1Gi", hugepages)


def test_pods_that_are_no_vms_and_hosts_without_such_pages_count() -> None:
    other = {**paged_pod("a", "n1", "6Gi"), "metadata": {"name": "dpdk", "namespace": "other", "labels": {}}}
    bare = [*NODES[:2], node("n3")]
    snapshot = seen([paged_vm("a", strategy="Halted")], [other], nodes=bare)
    assert [h.free_hugepages_bytes for h in snapshot.hosts] == [10 * GI, 16 * GI, 0]


def test_a_vm_that_will_need_more_hugepages_at_its_next_start_counts_with_them_already() -> None:
    snapshot = seen([paged_vm("a", "6Gi")], [paged_pod("a", "n1", "4Gi")])
    assert snapshot.vms[0].hugepages_bytes == 6 * GI
    assert snapshot.hosts[0].used_hugepages_bytes == 6 * GI


def test_of_two_page_sizes_the_one_that_protected_vms_use_most_is_counted_and_the_others_say_so() -> None:
    vms = [paged_vm("a", "2Gi"), paged_vm("b", "4Gi", "1Gi"), paged_vm("c", "4Gi")]
    snapshot = seen(vms, [paged_pod("b", "n2", size="1Gi")], protected=["a", "b", "c"])
    assert snapshot.page_size == "2Mi"
    b = snapshot.vm("ns/b") or pytest.fail("no b")
    assert b.not_agile == ("hugepages of 1Gi: those of 2Mi are counted in this pool, because its protected VMs use more of them",)
    assert b.hugepages_bytes == 0
    assert {v.name: v.allowed for v in problem_of(snapshot).vms}["ns/b"] == {"n2"}
    assert seen(vms, protected=["b"]).page_size == "1Gi"


def test_before_any_vm_uses_them_the_pages_that_the_nodes_have_are_counted() -> None:
    assert [h.free_hugepages_bytes for h in seen([vm("a")]).hosts] == [16 * GI] * 3
    assert seen([vm("a")], nodes=[node("n1"), paged_node("n2", p2Mi="0")]).page_size == ""


def test_a_reserved_start_takes_its_hugepages_before_its_pod_is_there() -> None:
    start = Reservation(ReservationKind.START, "ns/new", "r", size_bytes=MI, hugepages_bytes=5 * GI, host="n2")
    grow = Reservation(ReservationKind.GROW, "ns/a", "s", size_bytes=MI, hugepages_bytes=7 * GI)
    snapshot = seen([paged_vm("a")], [paged_pod("a", "n1")], reservations=[start, grow])
    assert [h.used_hugepages_bytes for h in snapshot.hosts] == [7 * GI, 5 * GI, 0]
    assert {v.key: v.hugepages_bytes for v in snapshot.vms} == {"ns/a": 7 * GI, "ns/new": 5 * GI}


def test_an_amount_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match=r"Node n1: status\.allocatable\.hugepages-2Mi: 'lots' is not a quantity"):
        seen([paged_vm("a")], nodes=[paged_node("n1", p2Mi="lots"), *NODES[1:]])
    with pytest.raises(BadInput, match=r"pageSize: 'large' is not a quantity"):
        seen([paged_vm("a", size="large")])


def test_a_zone_over_hugepages_is_stored_and_proves_the_same_when_it_is_read_again() -> None:
    snapshot = seen([paged_vm("a"), paged_vm("b")], [paged_pod("a", "n1"), paged_pod("b", "n2")], protected=["a", "b"])
    problem = problem_of(snapshot)
    layout = best_layout(problem, ()) or pytest.fail("nothing found")
    (zone,) = layout.zones
    assert zone.hugepages is not None
    of_pool, hosts = pool(), [hahost(n["metadata"]["name"]) for n in NODES]
    of_pool["status"] = {"zones": [found.to_json() for found in layouts.zones_of(layout)]}
    for host in hosts:
        host["status"]["zoneBytes"] = layouts.bytes_of(layout, host["metadata"]["name"])
    bound = [{**protected_vm(name), "status": {"pool": "a", "zone": layouts.zone_of(layout, f"ns/{name}")}} for name in "ab"]
    read = layouts.stored(Observed(hapools=(of_pool,), hahosts=tuple(hosts), protectedvms=tuple(bound)))["a"]
    assert replace(read, zones=()) == replace(layout, zones=())
    assert [(z.chain, z.hugepages) for z in read.zones] == [(zone.chain, zone.hugepages)]
    assert Proof(problem, read, 1).holds
    for wrong in ([1], [0], [], [1, 2], ["x"]):
        of_pool["status"] = {"zones": [PlanZone(kind="chain", blocks=list(zone.chain or ())).to_json() | {"hugepages": wrong}]}
        again = layouts.stored(Observed(hapools=(of_pool,), hahosts=tuple(hosts), protectedvms=tuple(bound))).get("a")
        assert again is None or not Proof(problem, again, 1).holds

"""From Kubernetes objects to snapshots: each fact by one case, and what is wrong in words that name object and field."""

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from quorate_controller.memory import vm_memory_bytes
from quorate_controller.observe import BadInput, Observed, parse_dump
from quorate_controller.translate import snapshot_of
from quorate_core.facts import Host, HostPhase, Pool, Protection, Snapshot, Vm
from quorate_core.ledger import Reservation, ReservationKind

from .objects import GI, MI, Json, hahost, launcher, node, pod, pool, protected_vm, vm, vmi

SIZE = 1300 * MI


def observed(**objects: Sequence[Json]) -> Observed:
    usual: dict[str, Sequence[Json]] = {"hapools": [pool()], "nodes": [node("n1"), node("n2")], "hahosts": [hahost("n1"), hahost("n2")]}
    return Observed(**{name: tuple(found) for name, found in {**usual, **objects}.items()})  # type: ignore[arg-type]


def running(name: str, host: str, **arguments: Any) -> dict[str, list[Json]]:
    return {"vms": [vm(name, **arguments)], "vmis": [vmi(name, host)], "pods": [launcher(name, host)]}


def test_a_whole_pool_becomes_one_snapshot() -> None:
    found = snapshot_of(
        observed(
            **{
                **running("a", "n1", labels={"x": "y"}),
                "pods": [launcher("a", "n1"), pod("agent", "n1", "100Mi"), pod("done", "n1", "9Gi", phase="Succeeded")],
                "protectedvms": [protected_vm("a", priority=3, startDelaySeconds=5)],
            }
        )
    )
    assert found == Snapshot(
        pool=Pool("a", 1, armed=False),
        hosts=(Host("n1", 32 * GI, SIZE + 100 * MI), Host("n2", 32 * GI)),
        vms=(Vm("ns/a", SIZE, "n1", Protection.PROTECTED, 3, 5),),
    )


def test_a_dump_gives_the_snapshot_of_the_live_objects() -> None:
    objects = observed(**running("a", "n1"), protectedvms=[protected_vm("a")])
    items = [item for field in (objects.nodes, objects.pods, objects.vms, objects.vmis) for item in field]
    items += [*objects.hapools, *objects.hahosts, *objects.protectedvms]
    dump = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}})
    assert snapshot_of(parse_dump([("dump.yaml", dump)])) == snapshot_of(objects)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (node("n2", unschedulable=True), "cordoned"),
        (node("n2", labels={"kubevirt.io/schedulable": "false"}), "KubeVirt cannot run VMs on it (label kubevirt.io/schedulable=false)"),
        (node("n2", taints=[{"key": "gold", "effect": "NoSchedule"}]), "taint gold"),
        (node("n2", taints=[{"key": "gold", "effect": "PreferNoSchedule"}]), ""),
        (
            node("n2", taints=[{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]),
            "taint node.kubernetes.io/out-of-service",
        ),
        ({**node("n2"), "status": {**node("n2")["status"], "conditions": []}}, "not Ready (no Ready condition)"),
    ],
)
def test_a_host_says_why_no_vm_may_be_placed_on_it(broken: Json, why: str) -> None:
    host = snapshot_of(observed(nodes=[node("n1"), broken])).host("n2")
    assert host is not None
    assert (host.why_not, host.accepts_vms) == (why, not why)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (hahost("n2", maintenance=True), "in maintenance"),
        (hahost("n2", phase="Maintenance", maintenance=True), "in maintenance"),
        (hahost("n2", phase="Lost"), "lost"),
        (hahost("n2", phase=None), ""),
    ],
)
def test_the_hahost_closes_its_host(host: Json, why: str) -> None:
    found = snapshot_of(observed(hahosts=[hahost("n1"), host])).host("n2")
    assert found is not None
    assert found.why_not == why


def test_a_tolerated_taint_closes_a_host_only_to_the_other_vms() -> None:
    taint = {"key": "gold", "effect": "NoSchedule"}
    vms = [vm("a", template={"tolerations": [{"operator": "Exists"}]}), vm("b")]
    found = snapshot_of(observed(nodes=[node("n1"), node("n2", taints=[taint])], vms=vms))
    assert [host.accepts_vms for host in found.hosts] == [True, True]
    assert [vm.allowed for vm in found.vms] == [None, frozenset({"n1"})]


def test_a_certified_dead_host_is_gone_and_its_vms_wait_for_a_place() -> None:
    found = snapshot_of(observed(**running("a", "n1"), hahosts=[hahost("n1", phase="Fenced"), hahost("n2")]))
    assert [host.name for host in found.hosts] == ["n2"]
    assert [(vm.host, vm.should_run, vm.size_bytes) for vm in found.vms] == [(None, True, SIZE)]


def test_a_stopped_vm_is_counted_by_formula_and_a_pending_one_by_its_pod() -> None:
    vms = [vm("off", strategy="Halted"), vm("waits")]
    found = snapshot_of(observed(vms=vms, pods=[launcher("waits", None, "1234Mi")]))
    assert [(v.key, v.size_bytes, v.host, v.should_run) for v in found.vms] == [
        ("ns/off", vm_memory_bytes(vms[0]), None, False),
        ("ns/waits", 1234 * MI, None, True),
    ]


def test_a_vm_that_has_grown_counts_at_its_new_size_before_its_pod_does() -> None:
    found = snapshot_of(observed(**{**running("a", "n1"), "vms": [vm("a", "3Gi")]}))
    assert found.vms[0].size_bytes == SIZE + 2 * GI
    assert found.hosts[0].used_bytes == SIZE + 2 * GI


def test_during_a_migration_both_hosts_are_used_and_the_vm_is_where_its_instance_says() -> None:
    pods = [launcher("a", "n1"), launcher("a", "n2", suffix="target")]
    found = snapshot_of(observed(vms=[vm("a")], vmis=[vmi("a", "n2")], pods=pods))
    assert [host.used_bytes for host in found.hosts] == [SIZE, SIZE]
    assert found.vms[0].host == "n2"


@pytest.mark.parametrize(
    ("arguments", "instance", "expected"),
    [
        ({"strategy": "Always"}, None, True),
        ({"strategy": None, "running": True}, None, True),
        ({"strategy": None, "running": False}, None, False),
        ({"strategy": None}, None, False),
        ({"strategy": "Halted"}, "Running", False),
        ({"strategy": "Halted", "status": {"stateChangeRequests": [{"action": "Start"}]}}, None, True),
        ({"strategy": "Manual"}, None, False),
        ({"strategy": "Manual"}, "Running", True),
        ({"strategy": "Manual"}, "Succeeded", False),
        ({"strategy": "Manual"}, "Failed", True),
        ({"strategy": "Manual", "status": {"stateChangeRequests": [{"action": "Start"}]}}, None, True),
        ({"strategy": "Manual", "status": {"stateChangeRequests": [{"action": "Stop", "uid": "u"}]}}, "Running", False),
        ({"strategy": "RerunOnFailure", "status": {"runStrategy": "RerunOnFailure"}}, None, False),
        ({"strategy": "RerunOnFailure"}, None, True),
        ({"strategy": "RerunOnFailure", "status": {"runStrategy": "RerunOnFailure"}}, "Succeeded", False),
        ({"strategy": "RerunOnFailure", "status": {"runStrategy": "RerunOnFailure"}}, "Failed", True),
        ({"strategy": "Once"}, None, True),
        ({"strategy": "Once"}, "Succeeded", False),
    ],
)
def test_whether_a_vm_should_run_follows_its_strategy_requests_and_instance(
    arguments: dict[str, Any], instance: str | None, expected: bool
) -> None:
    vmis = [vmi("a", "n1", instance)] if instance else []
    assert snapshot_of(observed(vms=[vm("a", **arguments)], vmis=vmis)).vms[0].should_run is expected


def test_the_label_protects_until_a_protected_vm_says_otherwise() -> None:
    labels = {"quorate.dev/protection": "BestEffort", "quorate.dev/priority": "7"}
    by_label = snapshot_of(observed(vms=[vm("a", labels=labels)])).vms[0]
    assert (by_label.protection, by_label.priority) == (Protection.BEST_EFFORT, 7)
    by_object = snapshot_of(observed(vms=[vm("a", labels=labels)], protectedvms=[protected_vm("a")])).vms[0]
    assert by_object.protection is Protection.PROTECTED


def test_of_two_protected_vms_for_one_vm_the_stronger_counts_and_the_other_is_remarked() -> None:
    found = snapshot_of(observed(vms=[vm("a")], protectedvms=[protected_vm("x", "a", "BestEffort"), protected_vm("y", "a")]))
    assert found.vms[0].protection is Protection.PROTECTED
    assert found.remarks == ("ProtectedVM ns/x: spec.vmRef.name: ns/a is named by ProtectedVM ns/y too, which counts",)


def test_a_missing_vm_is_remarked_and_nothing_else_suffers() -> None:
    found = snapshot_of(observed(vms=[vm("a")], protectedvms=[protected_vm("gone")]))
    assert [v.key for v in found.vms] == ["ns/a"]
    assert found.remarks == ("ProtectedVM ns/gone: spec.vmRef.name: there is no VirtualMachine ns/gone",)


def test_a_vm_of_an_unknown_instancetype_is_remarked_and_one_that_runs_is_counted_all_the_same() -> None:
    vms = [vm("off", None, instancetype={"name": "small"}), vm("on", None, instancetype={"name": "small"})]
    found = snapshot_of(observed(vms=vms, vmis=[vmi("on", "n1")], pods=[launcher("on", "n1")]))
    assert [(v.key, v.size_bytes) for v in found.vms] == [("ns/on", SIZE)]
    assert found.remarks == (
        "VirtualMachine ns/off: its memory is set by VirtualMachineClusterInstancetype small, "
        "which is missing or not in the input; VM not counted",
    )


def test_a_reservation_takes_its_place_until_the_pod_is_bound() -> None:
    entry = Reservation(ReservationKind.START, "ns/a", "r1", size_bytes=SIZE, host="n2", pinned=True)
    before = snapshot_of(observed(vms=[vm("a")]), reservations=[entry])
    assert (before.vms[0].host, before.hosts[1].used_bytes) == ("n2", vm_memory_bytes(vm("a")))
    after = snapshot_of(observed(**running("a", "n1")), reservations=[entry])
    assert [host.used_bytes for host in after.hosts] == [SIZE, 0]


def test_a_host_that_two_pools_select_stays_with_the_pool_that_has_it() -> None:
    claims = observed(hapools=[pool("a"), pool("b", selector={})])
    message = r"HAPool b: spec\.hostSelector: Node n1 is selected by pools a and b; it stays with a"
    with pytest.raises(BadInput, match=message):
        snapshot_of(claims, "b")
    assert [host.name for host in snapshot_of(claims, "a", strict=False).hosts] == ["n1", "n2"]
    assert snapshot_of(claims, "b", strict=False).hosts == ()


def test_a_host_that_two_pools_select_and_none_has_belongs_to_neither() -> None:
    claims = observed(hapools=[pool("a"), pool("b", selector={})], hahosts=[])
    for name in ("a", "b"):
        assert snapshot_of(claims, name, strict=False).hosts == ()
        with pytest.raises(BadInput, match="Node n1 is selected by pools a and b"):
            snapshot_of(claims, name)


def test_with_two_pools_a_vm_belongs_where_it_says_or_where_it_runs() -> None:
    two = observed(
        hapools=[
            pool("a", selector={"matchLabels": {"kubernetes.io/hostname": "n1"}}),
            pool("b", selector={"matchLabels": {"kubernetes.io/hostname": "n2"}}),
        ],
        hahosts=[hahost("n1", "a"), hahost("n2", "b")],
        vms=[vm("on1"), vm("says-b"), vm("nowhere")],
        vmis=[vmi("on1", "n1")],
        pods=[launcher("on1", "n1")],
        protectedvms=[protected_vm("on1"), protected_vm("says-b", pool="b"), protected_vm("nowhere")],
    )
    assert [v.key for v in snapshot_of(two, "a").vms] == ["ns/on1"]
    assert [v.key for v in snapshot_of(two, "b").vms] == ["ns/says-b"]
    assert "ProtectedVM ns/nowhere: spec.pool must name one of the pools a, b" in snapshot_of(two, "a").remarks


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"hapools": []}, "input: HAPool: there is none"),
        ({"hapools": [pool("a"), pool("b")]}, "input: HAPool: there are a, b; name one"),
        ({"nodes": [node("n1", None)]}, "Node n1: status.allocatable.memory: 'missing' is not a quantity such as 512Mi"),
        ({"nodes": [node("n1", "-4Gi")]}, "Node n1: status.allocatable.memory: '-4Gi' is negative"),
        ({"vms": [vm("a", "-1Gi")]}, "VirtualMachine ns/a: spec.template.spec.domain.memory.guest: '-1Gi' is negative"),
        (
            {"vms": [vm("a", labels={"quorate.dev/protection": "Yes"})]},
            "VirtualMachine ns/a: metadata.labels[quorate.dev/protection]: 'Yes' is not one of",
        ),
        ({"vms": [vm("a")], "protectedvms": [protected_vm("a", protection="Yes")]}, "ProtectedVM ns/a: spec.protection: "),
        (
            {"hapools": [pool(heartbeat={"storage": {"devicePath": "/d", "claimName": "c"}})]},
            "HAPool a: spec.heartbeat.storage: exactly one of",
        ),
        ({"hapools": [pool(heartbeat={"storage": {}})]}, "HAPool a: spec.heartbeat.storage: exactly one of"),
        ({"hapools": [pool(tolerate=-1)]}, "HAPool a: spec.hostFailuresToTolerate: "),
    ],
)
def test_bad_input_names_object_and_field(objects: dict[str, list[Json]], message: str) -> None:
    with pytest.raises(BadInput) as error:
        snapshot_of(observed(**objects))
    assert str(error.value).startswith(message)


def test_what_cannot_be_read_is_left_out_and_remarked_when_the_rest_must_go_on() -> None:
    found = snapshot_of(observed(nodes=[node("n1"), node("n2", None)], vms=[vm("a", "x"), vm("b")]), strict=False)
    assert [host.free_bytes for host in found.hosts] == [32 * GI, 0]
    assert [v.key for v in found.vms] == ["ns/b"]
    assert len(found.remarks) == 2


def test_failure_domains_and_their_absence_are_seen() -> None:
    found = snapshot_of(observed(hapools=[pool(failureDomainKey="rack")], nodes=[node("n1", labels={"rack": "r1"}), node("n2")]))
    assert [host.domain for host in found.hosts] == ["r1", None]
    assert found.remarks == ("Node n2: metadata.labels[rack]: missing; it counts as a failure domain of its own",)


def test_phases_of_hahosts_are_taken_over_and_a_host_without_one_is_joining() -> None:
    assert [host.phase for host in snapshot_of(observed(hahosts=[hahost("n1")])).hosts] == [HostPhase.LIVE, HostPhase.JOINING]

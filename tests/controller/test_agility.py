"""Where a VM may be started, case by case: the table of what binds a VM to its host."""

from typing import Any

import pytest

from quorate_controller.agility import Disks, Hosts, Places, places

from .objects import Json, claim, launcher, node, vm, volume

ZONES = {"n1": "z1", "n2": "z1", "n3": "z2"}
NODES = [
    node(name, labels={"zone": zone, "cpu-model.node.kubevirt.io/Skylake": "true"} if name != "n3" else {"zone": zone})
    for name, zone in ZONES.items()
]
ALL = frozenset(ZONES)
DISKS = Disks.of(
    [
        claim("shared", "pv-shared", "ReadWriteMany"),
        claim("network", "pv-network"),
        claim("local", "pv-local"),
        claim("zonal", "pv-zonal"),
        claim("unbound", None),
        claim("lost", "pv-lost"),
        claim("directory", "pv-directory"),
        claim("nfs", "pv-nfs", "ReadWriteMany"),
    ],
    [
        volume("pv-shared", "ReadWriteMany"),
        volume("pv-network"),
        volume("pv-local", on=["n1"], local={"path": "/d"}),
        volume("pv-zonal", on=["n1", "n2"]),
        volume("pv-directory", hostPath={"path": "/d"}),
        volume("pv-nfs", "ReadWriteMany", hostPath={"path": "/mnt/nfs"}),
    ],
)


def where(own: str | None = "n1", pod: Json | None = None, nodes: list[Json] = NODES, **arguments: Any) -> Places:
    return places(vm("a", **arguments), pod, Hosts(nodes), DISKS, own)


def with_claim(name: str) -> Json:
    return {"template": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]}}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({}, ALL),
        (with_claim("shared"), ALL),
        (with_claim("network"), ALL),
        (with_claim("nfs"), ALL),
        (with_claim("zonal"), {"n1", "n2"}),
        ({"template": {"volumes": [{"name": "d", "dataVolume": {"name": "zonal"}}]}}, {"n1", "n2"}),
        ({"template": {"volumes": [{"name": "d", "hostDisk": {"path": "/d", "shared": True}}]}}, ALL),
        ({"template": {"volumes": [{"name": "d", "containerDisk": {}}, {"name": "e", "emptyDisk": {}}]}}, ALL),
        ({"template": {"nodeSelector": {"zone": "z1"}}}, {"n1", "n2"}),
        ({"domain": {"cpu": {"model": "Skylake"}}}, {"n1", "n2"}),
        ({"domain": {"cpu": {"model": "host-model"}}}, ALL),
    ],
)
def test_a_vm_with_another_possible_host_is_agile(arguments: dict[str, Any], allowed: set[str]) -> None:
    assert where(**arguments) == Places(frozenset(allowed), ())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (with_claim("local"), "the volume of claim local allows only n1"),
        (with_claim("unbound"), "claim unbound is not bound to a volume yet"),
        (with_claim("absent"), "claim absent is not known (missing, or not in the input: add pvc,pv)"),
        (with_claim("lost"), "volume pv-lost of claim lost is not known (missing, or not in the input: add pv)"),
        (with_claim("directory"), "claim directory is a directory of one host (hostPath, ReadWriteOnce)"),
        (
            {"template": {"volumes": [{"name": "d", "hostDisk": {"path": "/d"}}]}},
            "volume d is a disk on the host's own file system (hostDisk)",
        ),
        ({"template": {"nodeSelector": {"kubernetes.io/hostname": "n1"}}}, "node label kubernetes.io/hostname=n1 allows only n1"),
        ({"template": {"nodeSelector": {"zone": "z9"}}}, "node label zone=z9 allows only no host"),
        ({"domain": {"devices": {"gpus": [{"name": "g", "deviceName": "v/g"}]}}}, "GPU v/g of its host; devices are not counted"),
        ({"domain": {"devices": {"hostDevices": [{"deviceName": "v/h"}]}}}, "host device v/h of its host; devices are not counted"),
        ({"domain": {"devices": {"interfaces": [{"name": "i", "sriov": {}}]}}}, "interface i is an SR-IOV function of its host"),
        ({"domain": {"cpu": {"dedicatedCpuPlacement": True}}}, "dedicated CPUs, which are not counted"),
        ({"strategy": "Once"}, "runStrategy Once: KubeVirt starts it once only"),
        (
            {"template": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}},
            "required podAffinity: that VMs run beside each other is not planned for",
        ),
    ],
)
def test_a_vm_bound_to_its_host_is_not_agile_and_says_why(arguments: dict[str, Any], reason: str) -> None:
    found = where(**arguments)
    assert found.allowed == {"n1"}
    assert found.reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ({"key": "zone", "operator": "In", "values": ["z2"]}, {"n1", "n3"}),
        ({"key": "zone", "operator": "NotIn", "values": ["z2"]}, {"n1", "n2"}),
        ({"key": "zone", "operator": "Exists"}, ALL),
        ({"key": "rank", "operator": "Gt", "values": ["3"]}, {"n1"}),
        ({"key": "zone", "operator": "SomethingNew"}, {"n1"}),
    ],
)
def test_required_node_affinity_is_honoured_and_its_own_host_stays_allowed(expression: Json, allowed: set[str]) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert where(template={"affinity": affinity}).allowed == allowed


def test_a_taint_keeps_out_only_vms_that_do_not_tolerate_it() -> None:
    nodes = [*NODES[:2], node("n3", taints=[{"key": "gold", "value": "yes", "effect": "NoSchedule"}])]
    assert where(nodes=nodes).allowed == {"n1", "n2"}
    tolerations = [{"key": "gold", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]
    assert where(nodes=nodes, template={"tolerations": tolerations}).allowed == ALL


def test_a_passing_taint_says_nothing_about_agility() -> None:
    nodes = [*NODES[:2], node("n3", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])]
    assert where(nodes=nodes).allowed == ALL


def test_what_kubevirt_added_to_the_pod_counts_but_not_what_a_cold_start_resolves_anew() -> None:
    pod = launcher(
        "a", "n1", nodeSelector={"zone": "z1", "cpu-model-migration.node.kubevirt.io/Skylake": "true", "kubevirt.io/schedulable": "true"}
    )
    assert where(pod=pod).allowed == {"n1", "n2"}


def test_a_stopped_vm_is_agile_while_any_host_suits_it() -> None:
    assert where(own=None, **with_claim("local")) == Places(frozenset({"n1"}), ())
    assert where(own=None, template={"nodeSelector": {"zone": "z9"}}).reasons == ("node label zone=z9 allows only no host",)


def test_a_pool_of_one_host_makes_no_vm_agile() -> None:
    assert where(nodes=NODES[:1]) == Places(frozenset({"n1"}), ("the pool has no other host",))

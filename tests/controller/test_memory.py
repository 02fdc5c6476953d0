"""Memory as the scheduler and KubeVirt count it. The figures of real launcher pods are KubeVirt 1.7's, written out in their parts."""

from typing import Any

import pytest

from quorate_controller import memory
from quorate_controller.memory import KubeVirtConfig, pod_request_bytes, vm_memory_bytes
from quorate_controller.observe import BadInput

from .objects import GI, MI, Json, container, launcher, vm

SIDECAR = {"restartPolicy": "Always"}
FIXED = 240 * MI + 8 * MI  # components and IO thread
USUAL = FIXED + 8 * MI + 32 * MI + 35_000_000  # one vCPU, video, the console's log


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("100Mi"), container("50Mi", "b")]}, 150 * MI),
        ({"containers": [container("100Mi")], "initContainers": [container("300Mi", "i")]}, 300 * MI),
        ({"containers": [container("100Mi")], "initContainers": [container("30Mi", "s", **SIDECAR)]}, 130 * MI),
        ({"containers": [container("100Mi")], "initContainers": [container("30Mi", "s", **SIDECAR), container("90Mi", "i")]}, 130 * MI),
        ({"containers": [container("100Mi")], "initContainers": [container("30Mi", "s", **SIDECAR), container("190Mi", "i")]}, 220 * MI),
        ({"containers": [container("100Mi")], "initContainers": [container("190Mi", "i"), container("30Mi", "s", **SIDECAR)]}, 190 * MI),
        ({"containers": [container("100Mi")], "overhead": {"memory": "7Mi"}}, 107 * MI),
        ({"containers": [container("100Mi")], "resources": {"requests": {"memory": "1Gi"}}}, GI),
        ({"containers": [container(None)]}, 0),
        ({"containers": [container("1.5")]}, 2),
    ],
)
def test_a_pod_requests_the_larger_of_its_steady_and_its_starting_need(spec: Json, expected: int) -> None:
    assert pod_request_bytes({"metadata": {"name": "p"}, "spec": spec}) == expected


def test_a_container_resized_in_place_counts_at_the_larger_figure() -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [container("100Mi")]},
        "status": {"containerStatuses": [{"name": "compute", "allocatedResources": {"memory": "160Mi"}}]},
    }
    assert pod_request_bytes(pod) == 160 * MI


def test_a_real_launcher_pod_of_kubevirt_1_7_is_counted_in_full() -> None:
    spec = {
        "containers": [container("1292Mi"), container("1M", "volumed")],
        "initContainers": [container("35M", "guest-console-log", **SIDECAR)],
    }
    assert pod_request_bytes(launcher("a", "n1", **spec)) == 1390760192


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, GI + USUAL),
        ({"domain": {"resources": {"requests": {"memory": "1Gi"}}}, "guest": None}, GI + USUAL + 1073742000 // 512),
        ({"domain": {"resources": {"limits": {"memory": "1Gi"}}}, "guest": None}, GI + USUAL),
        ({"domain": {"resources": {"requests": {"memory": "512Mi"}}}}, GI // 2 + USUAL + 536871000 // 512),
        ({"domain": {"resources": {"requests": {"memory": "1Gi"}, "overcommitGuestOverhead": True}}}, GI + 35_000_000),
        ({"domain": {"cpu": {"cores": 2, "sockets": 2}}}, GI + USUAL + 24 * MI),
        ({"domain": {"resources": {"limits": {"cpu": "3"}}}}, GI + USUAL + 16 * MI),
        ({"domain": {"devices": {"autoattachGraphicsDevice": False}}}, GI + USUAL - 32 * MI),
        ({"domain": {"devices": {"logSerialConsole": False}}}, GI + USUAL - 35_000_000),
        ({"domain": {"devices": {"gpus": [{"name": "g", "deviceName": "x/y"}]}}}, 2 * GI + USUAL),
        ({"domain": {"devices": {"interfaces": [{"name": "i", "sriov": {}}]}}}, 2 * GI + USUAL),
        ({"domain": {"devices": {"tpm": {}}}}, GI + USUAL + 53 * MI),
        ({"domain": {"devices": {"tpm": {"enabled": False}}}}, GI + USUAL),
        ({"domain": {"launchSecurity": {"sev": {}}}}, GI + USUAL + 256 * MI),
        ({"domain": {"cpu": {"cores": 1, "dedicatedCpuPlacement": True}}}, GI + USUAL + 100 * MI + 25_000_000),
        ({"template": {"architecture": "arm64"}}, GI + USUAL + 128 * MI),
        ({"template": {"livenessProbe": {"exec": {}}, "readinessProbe": {"exec": {}}}}, GI + USUAL + 120 * MI),
        (
            {"template": {"volumes": [{"name": "a", "containerDisk": {}}, {"name": "b", "downwardMetrics": {}}]}},
            GI + USUAL + 1_000_000 + MI,
        ),
        ({"guest": "2Gi", "domain": {"memory": {"guest": "2Gi", "hugepages": {"pageSize": "2Mi"}}}}, USUAL),
    ],
)
def test_a_stopped_vm_is_counted_by_kubevirts_formula(arguments: dict[str, Any], expected: int) -> None:
    assert vm_memory_bytes(vm("a", **arguments)) == expected


def test_kubevirts_configuration_changes_the_formula() -> None:
    kubevirt = {
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt"},
        "spec": {
            "configuration": {
                "developerConfiguration": {"memoryOvercommit": 200},
                "additionalGuestMemoryOverheadRatio": "1.5",
                "virtualMachineOptions": {"disableSerialConsoleLog": {}},
            }
        },
    }
    overhead = 288 * MI
    more = int(-(-overhead // 1000) * 0.5) * 1000
    assert vm_memory_bytes(vm("a"), KubeVirtConfig.of([kubevirt])) == GI // 2 + overhead + more


def test_an_instancetype_gives_memory_cpus_and_overcommit() -> None:
    instancetype = {"metadata": {"name": "small"}, "spec": {"cpu": {"guest": 2}, "memory": {"guest": "4Gi", "overcommitPercent": 25}}}
    request = 3 * GI
    expected = request + USUAL + 8 * MI + -(-request // 1000) * 1000 // 512
    assert vm_memory_bytes(vm("a", None), instancetype=instancetype) == expected


@pytest.mark.parametrize("text", ["-1Gi", "many", "", "1Gib", "NaN", None])
def test_a_wrong_quantity_names_object_and_field(text: Any) -> None:
    with pytest.raises(BadInput, match=r"^VirtualMachine ns/a: spec\.template\.spec\.domain\.memory\.guest: "):
        vm_memory_bytes(vm("a", None, domain={"memory": {"guest": text}}))


def test_every_quantity_of_a_vm_is_read_with_its_own_field_in_the_message() -> None:
    with pytest.raises(BadInput, match=r"domain\.resources\.requests\.memory: '1X' is not a quantity"):
        vm_memory_bytes(vm("a", domain={"resources": {"requests": {"memory": "1X"}}}))
    assert memory.quantity_bytes("1e3", "o", "f") == 1000

"""The VMs of the demo: sizes, protection and manifests. Pure; applying them is the demo's business.

Every disk is a ReadWriteMany claim on network storage, as agile VMs have, bound beforehand because no provisioner runs here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quorate_core.facts import Protection

Json = dict[str, Any]

GIB = 1 << 30
POOL = "demo"
NAMESPACE = "shop"
SIZES_GIB = (8, 2, 4, 1, 6, 2, 4, 8, 1, 2)
TARGET_LOAD = 0.55
"""Share of the pool's memory that the VMs take: high enough that a plan is no matter of course, low enough that one exists."""


@dataclass(frozen=True, slots=True)
class DemoVm:
    """One VM to be made. `priority` counts for protected ones; lower starts first."""

    name: str
    memory_gib: int
    protection: Protection
    priority: int = 0


def make_vms(count: int) -> tuple[DemoVm, ...]:
    """That many VMs of mixed sizes: mostly protected in three priorities, then best-effort and unprotected ones."""
    best_effort = max(1, count // 7)
    unprotected = max(1, count // 10)
    protected = max(1, count - best_effort - unprotected)
    vms = []
    for number in range(count):
        size = SIZES_GIB[number % len(SIZES_GIB)]
        if number < protected:
            tier = 3 * number // protected
            vms.append(DemoVm(f"{('db', 'app', 'web')[tier]}-{number + 1}", size, Protection.PROTECTED, tier))
        elif number < protected + best_effort:
            vms.append(DemoVm(f"batch-{number + 1}", min(size, 2), Protection.BEST_EFFORT))
        else:
            vms.append(DemoVm(f"test-{number + 1}", min(size, 2), Protection.UNPROTECTED))
    return tuple(vms)


def host_memory_gib(vms: Sequence[DemoVm], hosts: int, failures: int = 1) -> int:
    """Memory per host at which these VMs load the pool as wanted, and at least twice the largest VM.

    For more host failures at once than one there must be more: those that are left carry it all.
    """
    left = (hosts - failures) / max(1, hosts - 1)
    total = sum(vm.memory_gib + 0.3 for vm in vms)  # 0.3: KubeVirt's overhead per VM, about 288 MiB
    largest = max((vm.memory_gib for vm in vms), default=1)
    return max(2 * largest + 2, math.ceil(total / (TARGET_LOAD * left * hosts)))


def disk_manifests(name: str, namespace: str = NAMESPACE) -> list[Json]:
    """A network volume and its claim, bound to each other."""
    spec: Json = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeMode": "Filesystem"}
    volume = f"{namespace}-{name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **spec,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "nfs": {"server": "storage.example", "path": f"/vms/{volume}"},
                "claimRef": {"namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**spec, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]


def vm_manifest(name: str, memory_gib: int, *, namespace: str = NAMESPACE, run_strategy: str = "Always") -> Json:
    """A VirtualMachine with one disk, from the claim of its own name."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "quorate-demo"}},
        "spec": {
            "runStrategy": run_strategy,
            "template": {
                "metadata": {"labels": {"kubevirt.io/domain": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "domain": {
                        "memory": {"guest": f"{memory_gib}Gi"},
                        "devices": {"autoattachPodInterface": False, "disks": [{"name": "disk", "disk": {"bus": "virtio"}}]},
                    },
                    "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": name}}],
                },
            },
        },
    }


def protection_manifest(vm: DemoVm, pool: str, *, namespace: str = NAMESPACE) -> Json:
    """The ProtectedVM that says how far Quorate goes for this VM."""
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "ProtectedVM",
        "metadata": {"name": vm.name, "namespace": namespace},
        "spec": {
            "vmRef": {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": vm.name},
            "pool": pool,
            "protection": vm.protection.value,
            "priority": vm.priority,
        },
    }


def manifests(vms: Sequence[DemoVm], pool: str, *, namespace: str = NAMESPACE) -> list[Json]:
    """Namespace, disks, VMs and protection; unprotected VMs have no ProtectedVM."""
    found: list[Json] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    for vm in vms:
        found += disk_manifests(vm.name, namespace)
        found.append(vm_manifest(vm.name, vm.memory_gib, namespace=namespace))
        if vm.protection is not Protection.UNPROTECTED:
            found.append(protection_manifest(vm, pool, namespace=namespace))
    return found

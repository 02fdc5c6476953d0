"""Memory of pods and of VMs that do not run yet, in bytes, as the scheduler and KubeVirt count it.

A bound launcher pod is taken at its word (`pod_request_bytes`); KubeVirt's own formula (`vm_memory_bytes`) is for VMs without
one, and for how much a VM has grown since its pod was made. This module reads JSON and decides nothing.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from quorate_controller.kube import Json
from quorate_controller.observe import BadInput

MI = 1024**2

COMPONENTS_BYTES = (25 + 100 + 25 + 40 + 50) * MI
"""launcher-monitor, launcher, virtlogd, virtqemud and qemu. KubeVirt 1.7 reserves 20 Mi less for qemu: more is safe."""
PER_VCPU_BYTES = 8 * MI
IO_THREAD_BYTES = 8 * MI
VIDEO_BYTES = 32 * MI
ARM64_FIRMWARE_BYTES = 128 * MI
VFIO_BYTES = 1024 * MI
DOWNWARD_METRICS_BYTES = 1 * MI
PROBE_ONCE_BYTES, PROBE_EACH_BYTES = 100 * MI, 10 * MI
ENCRYPTION_BYTES = 256 * MI
TPM_BYTES = 53 * MI
GUARANTEED_BYTES = 100 * MI


@dataclass(frozen=True, slots=True)
class KubeVirtConfig:
    """What of KubeVirt's configuration changes the memory of a launcher pod. Support containers: (request, limit) in bytes."""

    memory_overcommit_percent: int = 100
    overhead_ratio: float = 1.0
    console_log: bool = True
    architecture: str = "amd64"
    console_log_bytes: tuple[int, int] = (35_000_000, 60_000_000)
    container_disk_bytes: tuple[int, int] = (1_000_000, 40_000_000)
    virtiofs_bytes: tuple[int, int] = (1_000_000, 80_000_000)

    @classmethod
    def of(cls, kubevirts: Iterable[Json]) -> "KubeVirtConfig":
        """From the KubeVirt object, or KubeVirt's defaults where there is none. Raises `BadInput`."""
        kubevirt = next(iter(kubevirts), None)
        if kubevirt is None:
            return cls()
        name = f"KubeVirt {kubevirt['metadata']['name']}"
        configuration = dig(kubevirt, "spec", "configuration")
        overcommit = dig(configuration, "developerConfiguration").get("memoryOvercommit") or 100
        ratio = configuration.get("additionalGuestMemoryOverheadRatio") or "1"
        architectures = dig(configuration, "architectureConfiguration")
        try:
            overhead_ratio = float(ratio)
        except ValueError:
            raise BadInput(name, "spec.configuration.additionalGuestMemoryOverheadRatio", f"{ratio!r} is not a number") from None
        default = cls()
        supports = {item.get("type"): item.get("resources") or {} for item in configuration.get("supportContainerResources") or []}

        def support(type_: str, usual: tuple[int, int]) -> tuple[int, int]:
            resources = supports.get(type_, {})
            request = dig(resources, "requests").get("memory")
            limit = dig(resources, "limits").get("memory")
            where = f"spec.configuration.supportContainerResources[{type_}]"
            return (
                usual[0] if request is None else quantity_bytes(request, name, where),
                usual[1] if limit is None else quantity_bytes(limit, name, where),
            )

        return cls(
            memory_overcommit_percent=int(overcommit) if isinstance(overcommit, int) and overcommit > 0 else 100,
            overhead_ratio=overhead_ratio,
            console_log=dig(configuration, "virtualMachineOptions").get("disableSerialConsoleLog") is None,
            architecture=architectures.get("defaultArchitecture") or default.architecture,
            console_log_bytes=support("guest-console-log", default.console_log_bytes),
            container_disk_bytes=support("container-disk", default.container_disk_bytes),
            virtiofs_bytes=support("virtiofs", default.virtiofs_bytes),
        )


def dig(value: Any, *keys: str) -> Json:
    """The mapping at that path, or an empty one where any part of it is absent or null."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def quantity_bytes(text: Any, object_: str, field: str) -> int:
    """A Kubernetes quantity as whole bytes, rounded up. Raises `BadInput` naming object and field when it is none or negative."""
    try:
        value = _quantity(str(text))
    except ValueError:
        raise BadInput(object_, field, f"{text!r} is not a quantity such as 512Mi") from None
    if value < 0:
        raise BadInput(object_, field, f"{text!r} is negative")
    return value


@functools.lru_cache(maxsize=4096)
def _quantity(text: str) -> int:
    number: Decimal = parse_quantity(text)  # type: ignore[no-untyped-call]  # untyped
    if not number.is_finite():
        raise ValueError(text)
    return math.ceil(number)


def pod_request_bytes(pod: Json, resource: str = "memory") -> int:
    """What the scheduler counts for the pod: the larger of its steady and its starting need, sidecars in both, plus its overhead."""
    metadata, spec = pod["metadata"], dig(pod, "spec")
    name = f"Pod {metadata.get('namespace', 'default')}/{metadata['name']}"
    resized = {status.get("name"): status for status in _containers(dig(pod, "status"), "containerStatuses", "initContainerStatuses")}
    overhead = dig(spec, "overhead").get(resource)
    extra = 0 if overhead is None else quantity_bytes(overhead, name, f"spec.overhead.{resource}")
    whole = dig(spec, "resources", "requests").get(resource)
    if whole is not None:  # pod-level resources replace the sum over containers
        return quantity_bytes(whole, name, f"spec.resources.requests.{resource}") + extra

    def request(container: Json) -> int:
        """An in-place resize counts at the larger of what is asked and what is given, as in the scheduler."""
        where = f"spec.containers[{container.get('name')}].resources.requests.{resource}"
        asked = dig(container, "resources", "requests").get(resource)
        given = dig(resized.get(container.get("name")), "allocatedResources").get(resource)
        return max((quantity_bytes(value, name, where) for value in (asked, given) if value is not None), default=0)

    sidecars = starting = 0
    for container in _containers(spec, "initContainers"):
        if container.get("restartPolicy") == "Always":
            sidecars += request(container)
            starting = max(starting, sidecars)
        else:
            starting = max(starting, sidecars + request(container))
    steady = sidecars + sum(request(container) for container in _containers(spec, "containers"))
    return max(steady, starting) + extra


def vm_memory_bytes(vm: Json, config: KubeVirtConfig | None = None, instancetype: Json | None = None) -> int:
    """What the launcher pod of this VirtualMachine will request. Raises `BadInput` when the VM does not say how large it is."""
    metadata = vm["metadata"]
    name = f"VirtualMachine {metadata.get('namespace', 'default')}/{metadata['name']}"
    spec = dig(vm, "spec", "template", "spec")
    if instancetype is not None:
        spec = expanded(spec, dig(instancetype, "spec"), name)
    return vmi_memory_bytes(spec, name, config or KubeVirtConfig(), "spec.template.spec")


def expanded(spec: Json, instancetype: Json, name: str) -> Json:
    """A VM template's spec with memory and CPU of its instancetype, as KubeVirt applies them."""
    domain = dict(dig(spec, "domain"))
    memory = dig(instancetype, "memory")
    guest = quantity_bytes(memory.get("guest"), name, "instancetype spec.memory.guest")
    domain["memory"] = {**dig(domain, "memory"), "guest": str(guest)} | (
        {"hugepages": memory["hugepages"]} if memory.get("hugepages") else {}
    )
    if percent := memory.get("overcommitPercent"):
        resources = dig(domain, "resources")
        request = guest * (100 - int(percent)) // 100
        domain["resources"] = {**resources, "requests": {**dig(resources, "requests"), "memory": str(request)}}
    if vcpus := dig(instancetype, "cpu").get("guest"):
        domain["cpu"] = {**dig(domain, "cpu"), "sockets": int(vcpus), "cores": 1, "threads": 1}
    if dig(instancetype, "cpu").get("dedicatedCPUPlacement"):
        domain["cpu"] = {**dig(domain, "cpu"), "dedicatedCpuPlacement": True}
    devices = dict(dig(domain, "devices"))
    for field in ("gpus", "hostDevices"):
        if instancetype.get(field):
            devices[field] = instancetype[field]
    domain["devices"] = devices
    return {**spec, "domain": domain}


def vmi_memory_bytes(spec: Json, name: str, config: KubeVirtConfig, path: str = "spec") -> int:
    """What the launcher pod of this VirtualMachineInstance spec will request. Raises `BadInput` naming `name` and the field."""
    domain = dig(spec, "domain")
    resources = dig(domain, "resources")
    guest = _optional(dig(domain, "memory").get("guest"), name, f"{path}.domain.memory.guest")
    request = _optional(dig(resources, "requests").get("memory"), name, f"{path}.domain.resources.requests.memory")
    hugepages = dig(domain, "memory", "hugepages").get("pageSize")
    overhead = _overhead_bytes(spec, name, config, request or 0)
    base = _base_bytes(spec, name, config, path)
    if hugepages is not None:  # guest memory then comes from hugepages, another resource
        launcher = max(0, base - (guest or base)) + overhead
    elif resources.get("overcommitGuestOverhead"):
        launcher = base
    else:
        launcher = base + overhead
    return launcher + _support_bytes(spec, config)


def vmi_hugepages(spec: Json, name: str, config: KubeVirtConfig, path: str = "spec") -> tuple[str, int]:
    """The page size, as written, and the bytes of hugepages that the launcher pod will request; "" and 0 without. Raises `BadInput`."""
    domain = dig(spec, "domain")
    size = dig(domain, "memory", "hugepages").get("pageSize")
    if size is None:
        return "", 0
    quantity_bytes(size, name, f"{path}.domain.memory.hugepages.pageSize")
    guest = _optional(dig(domain, "memory").get("guest"), name, f"{path}.domain.memory.guest")
    base = _base_bytes(spec, name, config, path)
    return str(size), min(base, guest or base)


def _base_bytes(spec: Json, name: str, config: KubeVirtConfig, path: str) -> int:
    """What the VM asks for without what surrounds it: its request, else its limit, else its guest memory."""
    domain = dig(spec, "domain")
    memory, resources = dig(domain, "memory"), dig(domain, "resources")
    guest = _optional(memory.get("guest"), name, f"{path}.domain.memory.guest")
    request = _optional(dig(resources, "requests").get("memory"), name, f"{path}.domain.resources.requests.memory")
    limit = _optional(dig(resources, "limits").get("memory"), name, f"{path}.domain.resources.limits.memory")
    if request or limit:
        return request or limit or 0
    unit = guest or _optional(dig(memory, "hugepages").get("pageSize"), name, f"{path}.domain.memory.hugepages.pageSize")
    if not unit:
        raise BadInput(name, f"{path}.domain.memory.guest", "missing; without it the VM's memory is unknown")
    return unit * 100 // config.memory_overcommit_percent


def _optional(value: Any, name: str, field: str) -> int | None:
    return None if value is None else quantity_bytes(value, name, field)


def _overhead_bytes(spec: Json, name: str, config: KubeVirtConfig, request: int) -> int:
    domain, devices = dig(spec, "domain"), dig(spec, "domain", "devices")
    # Page tables follow the request in whole kilobytes, not the guest's size: that is how KubeVirt computes it.
    total = -(-request // 1000) * 1000 // 512
    total += COMPONENTS_BYTES + IO_THREAD_BYTES + PER_VCPU_BYTES * _vcpus(domain, name)
    if devices.get("autoattachGraphicsDevice") is not False:
        total += VIDEO_BYTES
    if (spec.get("architecture") or config.architecture) == "arm64":
        total += ARM64_FIRMWARE_BYTES
    sriov = any("sriov" in interface for interface in _containers(devices, "interfaces"))
    if sriov or devices.get("hostDevices") or devices.get("gpus"):
        total += VFIO_BYTES
    if any("downwardMetrics" in volume for volume in _containers(spec, "volumes")):
        total += DOWNWARD_METRICS_BYTES
    probes = sum(1 for probe in ("livenessProbe", "readinessProbe") if "exec" in dig(spec, probe))
    if probes:
        total += PROBE_ONCE_BYTES + probes * PROBE_EACH_BYTES
    if any(kind in dig(domain, "launchSecurity") for kind in ("sev", "snp")):
        total += ENCRYPTION_BYTES
    if "tpm" in devices and dig(devices, "tpm").get("enabled") is not False:
        total += TPM_BYTES
    if _guaranteed(domain):
        total += GUARANTEED_BYTES
    if config.overhead_ratio != 1.0:
        total += int(-(-total // 1000) * (Fraction(config.overhead_ratio) - 1)) * 1000
    added = dig(domain, "memory", "reservedOverhead").get("addedOverhead")
    return total + (0 if added is None else quantity_bytes(added, name, "domain.memory.reservedOverhead.addedOverhead"))


def _vcpus(domain: Json, name: str) -> int:
    cpu, resources = dig(domain, "cpu"), dig(domain, "resources")
    topology = [cpu.get(part) for part in ("cores", "sockets", "threads")]
    if any(topology):
        return math.prod(int(part) for part in topology if part)
    for kind in ("limits", "requests"):
        value = dig(resources, kind).get("cpu")
        if value is not None:
            return max(1, quantity_bytes(value, name, f"domain.resources.{kind}.cpu"))
    return 1


def _guaranteed(domain: Json) -> bool:
    """Dedicated CPUs, or requests equal to limits in both memory and CPU."""
    if dig(domain, "cpu").get("dedicatedCpuPlacement"):
        return True
    requests, limits = dig(domain, "resources", "requests"), dig(domain, "resources", "limits")
    return all(requests.get(kind) and requests.get(kind) == limits.get(kind) for kind in ("memory", "cpu"))


def _support_bytes(spec: Json, config: KubeVirtConfig) -> int:
    """Containers beside the launcher: the console's log, one for each container disk, one for each shared file system."""
    devices = dig(spec, "domain", "devices")
    which = 1 if _guaranteed(dig(spec, "domain")) else 0
    logs = devices.get("autoattachSerialConsole") is not False
    logs = logs and (config.console_log if devices.get("logSerialConsole") is None else bool(devices["logSerialConsole"]))
    disks = sum(1 for volume in _containers(spec, "volumes") if "containerDisk" in volume)
    disks += 1 if "container" in dig(spec, "domain", "firmware", "kernelBoot") else 0
    shares = sum(1 for share in _containers(devices, "filesystems") if "virtiofs" in share)
    total = config.console_log_bytes[which] if logs else 0
    return total + disks * config.container_disk_bytes[which] + shares * config.virtiofs_bytes[which]


def _containers(value: Json, *fields: str) -> Iterator[Json]:
    """The objects in those lists."""
    for field in fields:
        for item in value.get(field) or ():
            if isinstance(item, dict):
                yield item

"""Hugepages: a second kind of memory beside the first, of one page size in each pool. Pure.

The planner has one dimension for them. Where a pool's VMs use pages of several sizes, one size is counted: VMs with another
are not agile, for nobody has counted whether another host has theirs.
"""

from collections.abc import Iterable
from dataclasses import replace

from quorate_controller.kube import Json
from quorate_controller.memory import dig, pod_request_bytes
from quorate_core.facts import Protection, Vm

PREFIX = "hugepages-"


def pod_hugepages(pod: Json) -> dict[str, int]:
    """Bytes of hugepages that the scheduler counts for the pod, by page size. Raises `BadInput`."""
    spec = dig(pod, "spec")
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ()), spec]
    asked = {resource for container in containers for resource in dig(container, "resources", "requests")}
    return {resource.removeprefix(PREFIX): pod_request_bytes(pod, resource) for resource in asked if resource.startswith(PREFIX)}


def size_of_pool(vms: Iterable[Vm], nodes: Iterable[Json]) -> str:
    """The page size that is counted: that of which protected VMs use most, else any VMs, else the one size that the Nodes have."""
    bytes_of: dict[str, tuple[int, int]] = {}
    for vm in vms:
        if vm.page_size:
            protected, all_ = bytes_of.get(vm.page_size, (0, 0))
            counts = vm.protection is Protection.PROTECTED and vm.should_run
            bytes_of[vm.page_size] = protected + (vm.hugepages_bytes if counts else 0), all_ + vm.hugepages_bytes
    if bytes_of:
        return min(bytes_of, key=lambda size: (-bytes_of[size][0], -bytes_of[size][1], size))
    offered = {
        resource.removeprefix(PREFIX)
        for node in nodes
        for resource, amount in dig(node, "status", "allocatable").items()
        if resource.startswith(PREFIX) and str(amount) != "0"
    }
    return min(offered) if len(offered) == 1 else ""


def counted(vm: Vm, size: str) -> Vm:
    """The VM in a pool in which hugepages of that size are counted."""
    if not vm.page_size or vm.page_size == size:
        return vm
    reason = f"hugepages of {vm.page_size}: those of {size} are counted in this pool, because its protected VMs use more of them"
    return replace(vm, hugepages_bytes=0, not_agile=(*vm.not_agile, reason), tried_anyway=not vm.not_agile or vm.tried_anyway)

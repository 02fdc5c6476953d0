"""The cluster's objects, indexed for translate.py: whose pods, which Nodes in which pool, what is wished for each VM. Pure."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quorate_controller import agility, layouts
from quorate_controller.apart import Neighbours
from quorate_controller.kube import Json
from quorate_controller.membership import Membership, Wish, key_of, memberships, named_vm, wishes
from quorate_controller.memo import Memo
from quorate_controller.memory import KubeVirtConfig, dig
from quorate_controller.observe import BadInput, Observed
from quorate_core.facts import Vm
from quorate_core.layout import Layout

FINISHED = frozenset({"Succeeded", "Failed"})
"""Phases of pods and VMIs that have ended."""

SCHEDULABLE_LABEL = "kubevirt.io/schedulable"

Grown = tuple[Vm, int]
"""A VM, and the bytes by which it has grown since its launcher pod was made."""
Translated = dict[str, dict[str, tuple[Grown | None, list[str]]]]
"""By pool and VM; None: not of this pool, or not countable, as the remarks say."""


@dataclass(frozen=True)
class World:
    """The cluster's objects indexed once, for the snapshots of all pools."""

    observed: Observed
    strict: bool
    membership: Membership
    wishes: Mapping[str, Wish]
    remarks: tuple[str, ...]
    config: KubeVirtConfig
    vms: Mapping[str, Json]
    vmis: Mapping[str, Json]
    launchers: Mapping[str, tuple[Json, ...]]
    pods_by_node: Mapping[str, tuple[Json, ...]]
    named: Mapping[str, tuple[Json, ...]]
    disks: agility.Disks
    neighbours: Neighbours
    instancetypes: Mapping[tuple[str, str], Json]
    layouts: Mapping[str, Layout]
    memo: Memo | None = None
    page_sizes: Mapping[str, str] = field(default_factory=dict)
    """By pool, the size of the hugepages that are counted, where that is known better than from these objects."""
    translated: Translated = field(default_factory=dict)
    """What translate.py has made of the VMs, for the next time that it is asked."""

    @functools.cached_property
    def labels_schedulable(self) -> bool:
        """Whether KubeVirt says of any Node if it can run VMs."""
        return any(SCHEDULABLE_LABEL in dig(node, "metadata", "labels") for node in self.observed.nodes)

    def bound_pod(self, key: str) -> Json | None:
        """The launcher pod that a VM runs in: bound, not finished; during a migration the one its VMI names."""
        bound = [pod for pod in self.launchers.get(key, ()) if dig(pod, "spec").get("nodeName")]
        on = dig(self.vmis.get(key), "status").get("nodeName")
        return min(bound, key=lambda pod: (pod["spec"]["nodeName"] != on, _age(pod)), default=None)

    def pending_pod(self, key: str) -> Json | None:
        """Its newest launcher pod that has no host yet."""
        pending = [pod for pod in self.launchers.get(key, ()) if not dig(pod, "spec").get("nodeName")]
        return max(pending, key=_age, default=None)


def world_of(observed: Observed, *, strict: bool = False, memo: Memo | None = None) -> World:
    """Index the objects. With `strict`, raises `BadInput` for any object of Quorate's own that cannot be read.

    `memo` is for readers whose unchanged objects are the same from time to time; what was read from them before is taken again.
    """
    wished, remarks = wishes(observed, strict=strict, memo=memo)
    launchers: dict[str, list[Json]] = {}
    by_node: dict[str, list[Json]] = {}
    for pod in observed.pods:
        if finished(pod):
            continue
        if host := dig(pod, "spec").get("nodeName"):
            by_node.setdefault(host, []).append(pod)
        if vm := launched_vm(pod):
            launchers.setdefault(vm, []).append(pod)
    named: dict[str, list[Json]] = {}
    for obj in observed.protectedvms:
        named.setdefault(named_vm(obj), []).append(obj)
    index = Index(
        {key_of(vm): vm for vm in observed.vms},
        {key_of(vmi): vmi for vmi in observed.vmis},
        {key: tuple(pods) for key, pods in launchers.items()},
        {name: tuple(pods) for name, pods in by_node.items()},
        {key: tuple(objects) for key, objects in named.items()},
    )
    return indexed(observed, (wished, remarks), index, layouts.stored(observed), strict=strict, memo=memo)


@dataclass(frozen=True, slots=True)
class Index:
    """VMs and VMIs by key, launcher pods by VM and pods by Node (only those that have not finished), ProtectedVMs by the VM they name."""

    vms: Mapping[str, Json]
    vmis: Mapping[str, Json]
    launchers: Mapping[str, tuple[Json, ...]]
    pods_by_node: Mapping[str, tuple[Json, ...]]
    named: Mapping[str, tuple[Json, ...]]


def indexed(
    observed: Observed,
    wished: tuple[Mapping[str, Wish], Sequence[str]],
    index: Index,
    stored: Mapping[str, Layout],
    *,
    strict: bool = False,
    memo: Memo | None = None,
    translated: Translated | None = None,
    ruled: bool | None = None,
) -> World:
    """The world of objects that are indexed already; `wished` is what `wishes` says, `ruled` as for `Neighbours`."""
    remarks = [*wished[1]]
    try:
        config = KubeVirtConfig.of(observed.kubevirts)
    except BadInput as error:
        if strict:
            raise
        config = KubeVirtConfig()
        remarks.append(str(error))
    membership = memberships(observed, memo)
    return World(
        observed=observed,
        strict=strict,
        membership=membership,
        wishes=wished[0],
        remarks=(*observed.remarks, *membership.problems, *remarks),
        config=config,
        vms=index.vms,
        vmis=index.vmis,
        launchers=index.launchers,
        pods_by_node=index.pods_by_node,
        named=index.named,
        disks=agility.Disks.of(observed.pvcs, observed.pvs),
        neighbours=Neighbours(index.vms, observed.pods, launched_vm, memo, ruled=ruled),
        instancetypes={
            (o.get("kind", ""), o["metadata"]["name"] if "Cluster" in o.get("kind", "") else key_of(o)): o for o in observed.instancetypes
        },
        layouts=stored,
        memo=memo,
        translated={} if translated is None else translated,
    )


def finished(pod: Json) -> bool:
    """Whether the pod has ended and takes no memory any more."""
    return dig(pod, "status").get("phase") in FINISHED


def launched_vm(pod: Json) -> str | None:
    """`namespace/name` of the VM whose launcher pod this is, or None for any other pod."""
    metadata = pod["metadata"]
    if dig(metadata, "labels").get("kubevirt.io") != "virt-launcher":
        return None
    owner = next((o for o in metadata.get("ownerReferences") or () if o.get("kind") == "VirtualMachineInstance"), None)
    name = (owner or {}).get("name") or dig(metadata, "annotations").get("kubevirt.io/domain")
    name = name or dig(metadata, "labels").get("vm.kubevirt.io/name")
    return f"{metadata.get('namespace') or 'default'}/{name}" if name else None


def _age(pod: Json) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")

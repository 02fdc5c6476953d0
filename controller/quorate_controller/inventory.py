"""Which HAHosts and ProtectedVMs ought to exist, with which slots and addresses. Pure: says what to create, change, delete.

An HAHost belongs to its pool, not to its Node: deleting a Node object does not prove that the host is dead, and its slot and
certificate must survive. It goes when its Node is no longer selected and its agent does not (or no longer) hold it armed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quorate_api.hahost import HAHost
from quorate_controller import kube
from quorate_controller.kube import Json, Resource
from quorate_controller.membership import Membership, key_of, label_wish
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput, Observed

SLOTS = 64
FROM_LABEL = "quorate.dev/from-label"
"""Annotation of a ProtectedVM that follows its VM's label: only such are changed or deleted here."""


@dataclass(frozen=True, slots=True)
class Create:
    """An object that is missing."""

    resource: Resource
    body: Json
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """An object of ours whose specification must follow; `current` is what was seen."""

    resource: Resource
    current: Json
    spec: Json
    why: str


@dataclass(frozen=True, slots=True)
class Delete:
    """An object of ours that has lost its reason."""

    resource: Resource
    current: Json
    why: str


Step = Create | Change | Delete


def host_steps(observed: Observed, membership: Membership) -> list[Step]:
    """HAHosts to create for selected Nodes, and to delete."""
    pools = {pool["metadata"]["name"]: pool for pool in observed.hapools}
    current = {hahost["metadata"]["name"]: hahost for hahost in observed.hahosts}
    steps: list[Step] = []
    selected: dict[str, str] = {}
    for pool, nodes in membership.nodes.items():
        for node in nodes:
            name = node["metadata"]["name"]
            selected[name] = pool
            if name not in current and not pools[pool]["metadata"].get("deletionTimestamp"):
                body = {"metadata": {"name": name, "ownerReferences": [_owner(pools[pool])]}, "spec": {"pool": pool}}
                steps.append(Create(kube.HAHOSTS, body, f"Node {name} is selected by pool {pool}"))
    contested = " ".join(text for texts in membership.contested.values() for text in texts)
    for name, obj in current.items():
        hahost = membership.hahosts.get(name)
        if hahost is None or name in selected or f"Node {name} " in contested or obj["metadata"].get("deletionTimestamp"):
            continue
        if hahost.spec.pool in pools and hahost.spec.pool not in membership.nodes:
            continue  # its pool cannot be read at present
        agent = hahost.status.agent
        if agent is None or not (agent.armed or agent.state == "Disarming"):
            steps.append(Delete(kube.HAHOSTS, obj, f"its Node is no longer selected by pool {hahost.spec.pool} and it is not armed"))
    return steps


def vm_steps(observed: Observed) -> tuple[list[Step], list[str]]:
    """ProtectedVMs to create, change and delete so that they follow the VMs' labels, and what is wrong with labels."""
    steps: list[Step] = []
    problems: list[str] = []
    named: dict[str, list[Json]] = {}
    for obj in observed.protectedvms:
        name = dig(obj, "spec", "vmRef").get("name")
        named.setdefault(f"{obj['metadata'].get('namespace') or 'default'}/{name}", []).append(obj)
    for vm in observed.vms:
        key = key_of(vm)
        objects = named.get(key, [])
        ours = next((o for o in objects if FROM_LABEL in dig(o, "metadata", "annotations")), None)
        try:
            wish = label_wish(vm)
        except BadInput as error:
            problems.append(str(error))
            continue
        if wish is None or vm["metadata"].get("deletionTimestamp"):
            if ours is not None and wish is None:
                steps.append(Delete(kube.PROTECTEDVMS, ours, "its VM's label was removed"))
            continue
        if ours is None:
            if not objects:
                steps.append(Create(kube.PROTECTEDVMS, _protected_vm(vm, wish.to_json()), f"label of VirtualMachine {key}"))
            continue
        spec = {"protection": wish.protection.value, "priority": wish.priority}
        present = dig(ours, "spec")
        if any(present.get(field) != value for field, value in spec.items()):
            steps.append(Change(kube.PROTECTEDVMS, ours, spec, f"label of VirtualMachine {key}"))
    return steps, problems


def slots(pool: str, hahosts: Iterable[HAHost]) -> Mapping[str, int | None]:
    """A slot for each HAHost of the pool: what it has, else the lowest free one, else None. Two with the same: the elder keeps it."""
    members = sorted((h for h in hahosts if h.spec.pool == pool), key=_seniority)
    given: dict[str, int | None] = {}
    taken: set[int] = set()
    for hahost in members:
        slot = hahost.status.slot
        if slot is not None and slot not in taken:
            given[hahost.metadata.name] = slot
            taken.add(slot)
    free = (slot for slot in range(SLOTS) if slot not in taken)
    for hahost in members:
        if hahost.metadata.name not in given:
            given[hahost.metadata.name] = next(free, None)
    return given


def address_of(node: Json | None) -> str | None:
    """The Node's InternalIP."""
    addresses = dig(node, "status").get("addresses") or ()
    return next((a.get("address") for a in addresses if a.get("type") == "InternalIP"), None)


def _seniority(hahost: HAHost) -> tuple[str, str]:
    created = hahost.metadata.creation_timestamp
    return created.isoformat() if created is not None else "", hahost.metadata.name


def _owner(obj: Json) -> Json:
    metadata = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _protected_vm(vm: Json, spec: Json) -> Json:
    metadata = vm["metadata"]
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata.get("namespace") or "default",
            "labels": {"app.kubernetes.io/managed-by": "quorate-controller"},
            "annotations": {FROM_LABEL: "true"},
            "ownerReferences": [_owner(vm)],
        },
        "spec": spec,
    }

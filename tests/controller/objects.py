"""Small Kubernetes objects for the controller's tests: valid, with only what a test says differing from the usual."""

from typing import Any

Json = dict[str, Any]
GI = 1024**3
MI = 1024**2


def node(name: str, memory: str | None = "32Gi", *, labels: Json | None = None, taints: list[Json] | None = None, **spec: Any) -> Json:
    """A Ready Node."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"node-{name}", "labels": {"kubernetes.io/hostname": name, "pool": "a", **(labels or {})}},
        "spec": {**spec, **({"taints": taints} if taints else {})},
        "status": {
            "allocatable": {"memory": memory} if memory is not None else {},
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.7"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def pool(name: str = "a", tolerate: int = 1, *, selector: Json | None = None, phase: str | None = None, **spec: Any) -> Json:
    """A pool of the Nodes labelled pool=a."""
    heartbeat = {"storage": {"devicePath": "/dev/disk/by-id/quorum"}}
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": name, "uid": f"pool-{name}", "generation": 3, "resourceVersion": "7"},
        "spec": {
            "hostFailuresToTolerate": tolerate,
            "hostSelector": selector if selector is not None else {"matchLabels": {"pool": "a"}},
            "heartbeat": heartbeat,
            **spec,
        },
        **({"status": {"phase": phase}} if phase else {}),
    }


def hahost(name: str, in_pool: str = "a", *, phase: str | None = "Live", armed: bool = True, slot: int | None = None, **spec: Any) -> Json:
    """An HAHost whose agent reports."""
    status: Json = {"agent": {"armed": armed, "state": "Armed" if armed else "Joining", "incarnation": "0123456789abcdef"}}
    if phase is not None:
        status["phase"] = phase
    if slot is not None:
        status["slot"] = slot
    metadata = {"name": name, "uid": f"hahost-{name}", "generation": 1, "resourceVersion": "9"}
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAHost",
        "metadata": metadata,
        "spec": {"pool": in_pool, **spec},
        "status": status,
    }


def vm(
    name: str,
    guest: str | None = "1Gi",
    *,
    strategy: str | None = "Always",
    labels: Json | None = None,
    template: Json | None = None,
    domain: Json | None = None,
    status: Json | None = None,
    **spec: Any,
) -> Json:
    """A VirtualMachine of namespace ns."""
    memory = {"memory": {"guest": guest}} if guest is not None else {}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "ns", "uid": f"vm-{name}", "labels": labels or {}},
        "spec": {
            **({"runStrategy": strategy} if strategy is not None else {}),
            **spec,
            "template": {"spec": {**(template or {}), "domain": {**memory, **(domain or {})}}},
        },
        "status": status or {},
    }


def vmi(name: str, host: str | None = None, phase: str = "Running", *, guest: str = "1Gi", **status: Any) -> Json:
    """The instance of a VirtualMachine."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "ns", "uid": f"vmi-{name}"},
        "spec": {"domain": {"memory": {"guest": guest}, "cpu": {"sockets": 1, "cores": 1, "threads": 1}}},
        "status": {"phase": phase, **({"nodeName": host} if host else {}), **status},
    }


def launcher(name: str, host: str | None, memory: str = "1300Mi", *, suffix: str = "x", phase: str = "Running", **spec: Any) -> Json:
    """The launcher pod of a VirtualMachine."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"virt-launcher-{name}-{suffix}",
            "namespace": "ns",
            "uid": f"pod-{name}-{suffix}",
            "labels": {"kubevirt.io": "virt-launcher"},
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "uid": f"vmi-{name}"}],
        },
        "spec": {**({"nodeName": host} if host else {}), "containers": [container(memory)], **spec},
        "status": {"phase": phase},
    }


def pod(name: str, host: str, memory: str, *, phase: str = "Running") -> Json:
    """Any other pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "other", "uid": f"pod-{name}"},
        "spec": {"nodeName": host, "containers": [container(memory)]},
        "status": {"phase": phase},
    }


def container(memory: str | None, name: str = "compute", **more: Any) -> Json:
    """A container that requests memory."""
    return {"name": name, "resources": {"requests": {"memory": memory}} if memory is not None else {}, **more}


def protected_vm(name: str, of: str | None = None, protection: str = "Protected", **spec: Any) -> Json:
    """A ProtectedVM of namespace ns."""
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "ProtectedVM",
        "metadata": {"name": name, "namespace": "ns", "uid": f"pvm-{name}", "generation": 2, "resourceVersion": "5"},
        "spec": {"vmRef": {"name": of or name}, "protection": protection, **spec},
    }


def claim(name: str, volume: str | None, mode: str = "ReadWriteOnce") -> Json:
    """A claim of namespace ns, bound if a volume is named."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"accessModes": [mode], **({"volumeName": volume} if volume else {})},
    }


def volume(name: str, mode: str = "ReadWriteOnce", *, on: list[str] | None = None, **source: Any) -> Json:
    """A volume, which only the hosts in `on` can reach if given."""
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": on}]}] if on is not None else None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [mode],
            **(source or {"csi": {"driver": "d"}}),
            **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if terms else {}),
        },
    }

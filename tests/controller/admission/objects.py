"""Cluster objects as JSON, as small as they may be: shared by the admission tests."""

from typing import Any

from quorate_controller.admission.requests import Request, parse
from quorate_controller.observe import Observed

Json = dict[str, Any]


def node(name: str, gib: int = 16, **labels: str) -> Json:
    """A Node that takes VMs."""
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubevirt.io/schedulable": "true", **labels}},
        "status": {"allocatable": {"memory": f"{gib}Gi"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def hapool(name: str = "p", tolerate: int = 1, selector: Json | None = None, phase: str = "Armed", **spec: Any) -> Json:
    """An armed pool of all Nodes."""
    return {
        "kind": "HAPool",
        "metadata": {"name": name},
        "spec": {
            "hostFailuresToTolerate": tolerate,
            "hostSelector": {"matchLabels": selector or {}},
            "heartbeat": {"storage": {"devicePath": "/dev/hb"}},
            **spec,
        },
        "status": {"phase": phase},
    }


def hahost(name: str, pool: str = "p", **spec: Any) -> Json:
    """A live host."""
    return {"kind": "HAHost", "metadata": {"name": name}, "spec": {"pool": pool, **spec}, "status": {"phase": "Live"}}


def vm(name: str, gib: int = 2, strategy: str = "Halted", *, labels: Json | None = None, **spec: Any) -> Json:
    """A VM without disks."""
    template = {"spec": {"domain": {"memory": {"guest": f"{gib}Gi"}, "devices": {}}, **spec}}
    return {
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "d", "labels": labels or {}, "annotations": {}},
        "spec": {"runStrategy": strategy, "template": template},
        "status": {},
    }


def pvm(name: str, protection: str = "Protected", **spec: Any) -> Json:
    """A ProtectedVM for the VM of that name."""
    spec = {"vmRef": {"name": name}, "protection": protection, **spec}
    return {"kind": "ProtectedVM", "metadata": {"name": name, "namespace": "d"}, "spec": spec}


def launcher(name: str, host: str | None, gib: int = 2) -> Json:
    """The launcher pod of a VM."""
    spec: Json = {"containers": [{"name": "compute", "resources": {"requests": {"memory": f"{gib}Gi"}}}]}
    if host:
        spec["nodeName"] = host
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"virt-launcher-{name}-x",
            "namespace": "d",
            "labels": {"kubevirt.io": "virt-launcher"},
            "annotations": {"kubevirt.io/domain": name},
        },
        "spec": spec,
        "status": {"phase": "Running"},
    }


def cluster(**more: Any) -> Observed:
    """Three Nodes of 16 GiB in an armed pool, and what is given."""
    given: dict[str, tuple[Json, ...]] = {
        "nodes": tuple(node(f"n{i}") for i in (1, 2, 3)),
        "hapools": (hapool(),),
        "hahosts": tuple(hahost(f"n{i}") for i in (1, 2, 3)),
    }
    return Observed(**(given | more))


PLURALS = {"VirtualMachine": "virtualmachines", "ProtectedVM": "protectedvms", "HAPool": "hapools", "HAHost": "hahosts", "Pod": "pods"}


def review(
    new: Json | None,
    old: Json | None = None,
    *,
    subresource: str = "",
    user: str = "somebody",
    groups: tuple[str, ...] = (),
    dry_run: bool = False,
) -> Json:
    """The AdmissionReview that the API server would send."""
    obj = new or old or {}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "resource": {"resource": PLURALS[obj["kind"]]},
            "subResource": subresource,
            "operation": "DELETE" if new is None else "CREATE" if old is None else "UPDATE",
            "namespace": obj["metadata"].get("namespace", ""),
            "name": obj["metadata"].get("name", ""),
            "userInfo": {"username": user, "groups": list(groups)},
            "dryRun": dry_run,
            "object": new,
            "oldObject": old,
        },
    }


def request(new: Json | None, old: Json | None = None, **more: Any) -> Request:
    """The same, parsed."""
    return parse(review(new, old, **more))

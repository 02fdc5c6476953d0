"""Keeps a starting VM's launcher pod on the host where its memory is reserved. Pure: a pod in, JSON patch operations out.

Fails open: where anything is in doubt the pod goes its way and the scheduler chooses; only the plan's number may then drop.
Targets of migrations, VMs of a running failover and hosts that no longer take VMs are left alone.
"""

import base64
import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

from quorate_controller.kube import Json
from quorate_controller.memory import dig
from quorate_controller.observe import Observed
from quorate_controller.world import launched_vm
from quorate_core.ledger import Ledger, Reservation, ReservationKind

RESERVED_HOST = "quorate.dev/reserved-host"
"""Annotation that says why a launcher pod is tied to one host."""
_MIGRATION = "kubevirt.io/migrationJobUID"
_CLOSED = frozenset({"Lost", "Evicted", "Fenced", "Maintenance", "Excluded"})


def reservation_for(pod: Json, ledgers: Iterable[Ledger]) -> Reservation | None:
    """The reservation that says where this launcher pod belongs, if there is one."""
    if _MIGRATION in dig(pod, "metadata", "labels"):
        return None
    vm = launched_vm(pod)
    if vm is None:
        return None
    entries = (ledger.find(ReservationKind.START, vm) for ledger in ledgers)
    return next((e for e in entries if e is not None and e.pinned and e.host is not None), None)


def may_pin(reservation: Reservation, hahost: Json | None, recovering: frozenset[str]) -> bool:
    """Whether the reserved host still takes VMs, as far as is known, and no failover is placing this VM."""
    return reservation.subject not in recovering and hahost is not None and not _closed(hahost)


def patch(pod: Json, host: str) -> list[Json]:
    """Operations that add required node affinity to that host, by name: in every term, for terms are alternatives."""
    affinity: dict[str, Any] = copy.deepcopy(dig(pod, "spec", "affinity"))
    node_affinity = affinity.setdefault("nodeAffinity", {})
    required = node_affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    only = {"key": "metadata.name", "operator": "In", "values": [host]}
    required["nodeSelectorTerms"] = [{**term, "matchFields": [*(term.get("matchFields") or ()), only]} for term in terms]
    annotations = {**dig(pod, "metadata", "annotations"), RESERVED_HOST: host}
    return [
        {"op": "add", "path": "/spec/affinity", "value": affinity},
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
    ]


def stranded(observed: Observed) -> tuple[Json, ...]:
    """Launcher pods that wait for a host which was reserved for them and takes no VMs any more: they would wait for ever.

    A pod's affinity cannot be taken back, so such a pod has to be deleted; KubeVirt makes another. It has no host: nothing runs in it.
    """
    open_ = {node["metadata"]["name"] for node in observed.nodes if not dig(node, "spec").get("unschedulable")}
    open_ -= {host["metadata"]["name"] for host in observed.hahosts if _closed(host)}
    return tuple(
        pod
        for pod in observed.pods
        if (reserved := dig(pod, "metadata", "annotations").get(RESERVED_HOST)) is not None
        and reserved not in open_
        and not dig(pod, "spec").get("nodeName")
        and "deletionTimestamp" not in pod["metadata"]
    )


def _closed(hahost: Json) -> bool:
    return bool(dig(hahost, "spec").get("maintenance")) or dig(hahost, "status").get("phase") in _CLOSED


def answer(uid: str, operations: list[Json]) -> Json:
    """The AdmissionReview that lets the pod pass, changed or not."""
    response: Json = {"uid": uid, "allowed": True}
    if operations:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return review(response)


def review(response: Mapping[str, Any]) -> Json:
    """An AdmissionReview around a response."""
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": dict(response)}

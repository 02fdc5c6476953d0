"""The scheduling gate on new launcher pods: is it put on, and how it is lifted.

The gate is put on by an admission policy while a pool is Recovering; this module never puts one on. A gate must never
outlive the recovery, so whoever leads lifts what is left.
"""

import logging

from quorate_controller import kube
from quorate_controller.kube import Json, Kube
from quorate_controller.memory import dig

log = logging.getLogger(__name__)

GATE = "quorate.dev/recovery"


async def probe(api: Kube, namespace: str) -> bool | None:
    """Whether a launcher pod made now would be held, asked of the API server by a dry run. None: it would not say."""
    try:
        answer = await api.create(kube.PODS, _probe_pod(namespace), dry_run=True)
    except kube.KubeError as error:
        log.warning("cannot ask whether new launcher pods are held: %s", error)
        return None
    return is_held(answer)


def is_held(pod: Json) -> bool:
    """Whether the pod carries Quorate's gate."""
    return any(gate.get("name") == GATE for gate in dig(pod, "spec").get("schedulingGates") or ())


def lift_patch(pod: Json, host: str | None) -> list[Json]:
    """One JSON patch: only if the pod is still exactly this one, take the gate off and allow no host but the given one."""
    metadata, spec = pod["metadata"], pod["spec"]
    rest = [gate for gate in spec.get("schedulingGates") or () if gate.get("name") != GATE]
    ops: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "replace", "path": "/spec/schedulingGates", "value": rest} if rest else {"op": "remove", "path": "/spec/schedulingGates"},
    ]
    if host is not None:
        ops.append({"op": "add", "path": "/spec/affinity", "value": _only(host, dig(spec, "affinity"))})
    return ops


async def lift(api: Kube, namespace: str, name: str, uid: str, host: str | None) -> bool:
    """Let a held pod go; False if there is no such pod any more or it is not held. `Conflict`: it changed meanwhile, look again."""
    pod = await api.get(kube.PODS, name, namespace)
    if pod is None or pod["metadata"]["uid"] != uid or not is_held(pod):
        return False
    try:
        await api.json_patch(kube.PODS, name, lift_patch(pod, host), namespace)
    except kube.Missing:
        return False
    return True


def _only(host: str, affinity: Json) -> Json:
    """The pod's affinity, narrowed to one host: every alternative gets the demand, because alternatives are ORed."""
    demand = {"key": "metadata.name", "operator": "In", "values": [host]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    node = dig(affinity, "nodeAffinity")
    terms = dig(node, required).get("nodeSelectorTerms") or [{}]
    narrowed = [{**term, "matchFields": [*(term.get("matchFields") or ()), demand]} for term in terms]
    return {**affinity, "nodeAffinity": {**node, required: {"nodeSelectorTerms": narrowed}}}


def _probe_pod(namespace: str) -> Json:
    """A pod with a launcher's label and nothing else of one; it satisfies the restricted pod security standard and never exists."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"generateName": "quorate-hold-probe-", "namespace": namespace, "labels": {"kubevirt.io": "virt-launcher"}},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "probe", "image": "quorate.dev/never-run", "securityContext": security}],
        },
    }

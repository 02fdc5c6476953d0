"""The JSON that the stand-in writes: Nodes, Leases, pod and VMI status. No decisions."""

import argparse
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from quorate_local.watching import Client, Json, Refused

LEASE_DURATION_SECONDS = 20
_MICRO = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node is. `memory` is a Kubernetes quantity."""

    name: str
    address: str
    memory: str
    boot_id: str
    labels: dict[str, str] = field(default_factory=dict)
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))


def from_options(options: argparse.Namespace) -> list[Facts]:
    """One per `--node`."""
    boot_id = Path(options.boot_id_file).read_text().strip() if options.boot_id_file else str(uuid.uuid4())
    labels = dict(label.split("=", 1) for label in options.label)
    named = [node.partition("=") for node in options.node]
    return [Facts(name, address, options.memory, boot_id, labels) for name, _, address in named]


def now() -> str:
    """RFC 3339, seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_path(pod: Json) -> str:
    """The pod's path in the API."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


async def write(client: Client, facts: Facts) -> None:
    """Create or refresh the Node: labels, heartbeat of virt-handler, capacity, conditions."""
    meta = {
        "labels": {
            "kubernetes.io/hostname": facts.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "kubevirt.io/schedulable": "true",
            "machine-type.node.kubevirt.io/q35": "true",
            **facts.labels,
        },
        "annotations": {"kubevirt.io/heartbeat": now()},
    }
    path = f"/api/v1/nodes/{facts.name}"
    try:
        await client.merge(path, {"metadata": meta})
    except Refused as refused:
        if refused.status != 404:
            raise
        await client.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": facts.name, **meta}})
    await client.merge(f"{path}/status", {"status": _node_status(facts)})


def _node_status(facts: Facts) -> Json:
    capacity = {
        "cpu": "64",  # the plan is about memory; a launcher asks for a tenth of a CPU
        "memory": facts.memory,
        "pods": "250",
        "ephemeral-storage": "1Ti",
        "devices.kubevirt.io/kvm": "1k",
        "devices.kubevirt.io/tun": "1k",
        "devices.kubevirt.io/vhost-net": "1k",
    }
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": facts.address}, {"type": "Hostname", "address": facts.name}],
        "conditions": [
            {
                "type": kind,
                "status": "True" if kind == "Ready" else "False",
                "reason": "StandIn",
                "message": "quorate_local's stand-in for a kubelet",
                "lastHeartbeatTime": now(),
                "lastTransitionTime": now(),
            }
            for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        ],
        "nodeInfo": {
            "bootID": facts.boot_id,
            "machineID": facts.name,
            "systemUUID": facts.name,
            "kernelVersion": "stand-in",
            "osImage": "stand-in",
            "containerRuntimeVersion": "standin://1",
            "kubeletVersion": "v1.37.2-standin",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


async def renew(client: Client, facts: Facts) -> None:
    """The kubelet's Lease."""
    folder = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    spec = {
        "holderIdentity": facts.name,
        "leaseDurationSeconds": LEASE_DURATION_SECONDS,
        "renewTime": datetime.now(UTC).strftime(_MICRO),
    }
    try:
        await client.merge(f"{folder}/{facts.name}", {"spec": spec})
    except Refused as refused:
        if refused.status != 404:
            raise
        await client.call("POST", folder, {"metadata": {"name": facts.name}, "spec": spec})


def pod_status(pod: Json, phase: str, facts: Facts) -> Json:
    """A merge patch of the pod's status: all containers running, or all ended."""
    running = phase == "Running"
    state = {"running": {"startedAt": now()}} if running else {"terminated": {"exitCode": int(phase == "Failed"), "finishedAt": now()}}
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "status": {
            "phase": phase,
            "reason": "HostRestarted" if phase == "Failed" else None,
            "hostIP": facts.address,
            "podIP": facts.address,
            "podIPs": [{"ip": facts.address}],
            "startTime": pod.get("status", {}).get("startTime", now()),
            "conditions": [
                {
                    "type": kind,
                    "status": "True" if running or kind in ("Initialized", "PodScheduled") else "False",
                    "lastTransitionTime": now(),
                }
                for kind in kinds
            ],
            "containerStatuses": [_container(container, pod, running, state) for container in pod["spec"]["containers"]],
            "initContainerStatuses": [
                _container(container, pod, running, state)
                if container.get("restartPolicy") == "Always"
                else _container(container, pod, True, {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now()}})
                for container in pod["spec"].get("initContainers", [])
            ],
        }
    }


def _container(container: Json, pod: Json, ready: bool, state: Json) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "containerID": f"standin://{pod['metadata']['uid']}",
        "state": state,
    }


def vmi_phase(vmi: Json, phase: str) -> Json:
    """A merge patch that moves a VMI on, as virt-handler would."""
    status = vmi.get("status", {})
    transitions = [*status.get("phaseTransitionTimestamps", []), {"phase": phase, "phaseTransitionTimestamp": now()}]
    patch: Json = {"status": {"phase": phase, "phaseTransitionTimestamps": transitions}}
    if phase == "Running":
        others = [c for c in status.get("conditions", []) if c["type"] != "LiveMigratable"]
        # NB: the API server drops nulls inside the lists of a merge patch, and virt-controller's own patches test this list to the letter.
        patch["status"]["conditions"] = [
            {**c, "lastProbeTime": c.get("lastProbeTime") or now()} for c in (*others, _live_migratable(status))
        ]
        patch["metadata"] = {"resourceVersion": vmi["metadata"]["resourceVersion"]}  # the list of conditions has another writer
    return patch


def _live_migratable(status: Json) -> Json:
    claims = [v["persistentVolumeClaimInfo"] for v in status.get("volumeStatus", []) if "persistentVolumeClaimInfo" in v]
    shared = all("ReadWriteMany" in claim.get("accessModes", []) for claim in claims)
    condition: Json = {
        "type": "LiveMigratable",
        "status": "True" if shared else "False",
        "lastTransitionTime": now(),
    }
    return condition if shared else condition | {"reason": "DisksNotLiveMigratable", "message": "a volume is not ReadWriteMany"}


def light_report(facts: Facts, seen: Collection[str]) -> Json:
    """An agent report of a node where no agent runs; says so, and declares the nodes in `seen` seen on both channels."""
    return {
        "status": {
            "agent": {
                "incarnation": facts.incarnation,
                "bootId": facts.boot_id,
                "armed": True,
                "state": "Armed",
                "message": "declared by the local pool's stand-in: no agent and no watchdog run for this node",
                "watchdog": {"device": "declared", "identity": "none: stand-in", "timeoutSeconds": 5, "armed": True},
                "storage": {"ok": True, "sees": sorted(seen)[:64]},
                "network": {"ok": True, "sees": sorted(seen)[:64]},
                "reportedAt": now(),
            }
        }
    }

"""What the workflow sees of a pool in recovery: the turn's objects, and fresh reads of what an irreversible act rests on."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from quorate_api.hahost import HAHost
from quorate_controller import kube
from quorate_controller.failover import gates, nodes
from quorate_controller.failover.certificates import standing
from quorate_controller.kube import Json
from quorate_controller.membership import key_of, parse
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput
from quorate_controller.turn import Turn
from quorate_controller.world import launched_vm
from quorate_core.facts import Snapshot
from quorate_core.failover_facts import Attachment, DeadHost, Failover, LauncherPod, Observation, Stage, VmState

log = logging.getLogger(__name__)

_JOINED = ("Armed", "Disarmed")


async def look(turn: Turn, snapshot: Snapshot, failovers: Sequence[Failover]) -> Observation:
    """One look at the pool.

    HAHosts and Nodes of the dead are read afresh and after the pods: a host that is still dead then held no pod of a newer life before.
    """
    active = [f for f in failovers if f.stage is not Stage.COMPLETED]
    keys = {r.vm for f in active for r in f.restarts}
    hosts = {f.host for f in failovers}
    vmis = {key_of(vmi): vmi for vmi in turn.observed.vmis}
    owned = {vm.key for vm in snapshot.vms}
    elsewhere = {vm.key for other in turn.snapshots.values() for vm in other.vms} - owned
    return Observation(
        now=turn.now,
        snapshot=snapshot,
        hosts={f.host: await _host(turn, f) for f in sorted(failovers, key=lambda f: f.generation)},
        pods=tuple(p for p in launchers(turn) if p.vm in keys or p.host in hosts or (p.gated and p.vm not in elsewhere)),
        vms={key_of(vm): _vm(vm, vmis.get(key_of(vm))) for vm in turn.observed.vms if key_of(vm) in keys and _stays(vm)},
        attachments=tuple(await _attachments(turn, {f.host for f in active}, keys)) if active else (),
        held=await _held(turn, active),
    )


def launchers(turn: Turn) -> list[LauncherPod]:
    """Every launcher pod of the cluster."""
    found = []
    for obj in turn.observed.pods:
        vm = launched_vm(obj)
        if vm is not None:
            found.append(launcher(obj, vm))
    return found


def launcher(obj: Json, vm: str) -> LauncherPod:
    """One launcher pod."""
    metadata, spec, status = obj["metadata"], dig(obj, "spec"), dig(obj, "status")
    scheduled = _condition(status, "PodScheduled")
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return LauncherPod(
        vm=vm,
        name=metadata["name"],
        uid=metadata["uid"],
        host=spec.get("nodeName") or None,
        gated=gates.is_held(obj),
        finished=status.get("phase") in ("Succeeded", "Failed"),
        deleting=bool(metadata.get("deletionTimestamp")),
        unschedulable=str(scheduled.get("message") or "no reason given") if refused else "",
    )


async def _host(turn: Turn, f: Failover) -> DeadHost:
    obj = await turn.kube.get(kube.HAHOSTS, f.host)
    node = await turn.kube.get(kube.NODES, f.host)
    boot_id = nodes.boot_of(node)
    try:
        host = parse(HAHost, obj) if obj is not None else None
    except BadInput:
        host = HAHost.model_validate({"metadata": {"name": f.host}, "spec": {"pool": f.pool}})  # unreadable: in doubt
    agent = host.status.agent if host else None
    taints = [t for t in dig(node, "spec").get("taints") or () if t.get("key") == nodes.TAINT_KEY]
    return DeadHost(
        standing=standing(host, f.incarnation, f.boot_id, node_exists=node is not None, node_boot_id=boot_id),
        node_exists=node is not None,
        node_ready=_condition(dig(node, "status"), "Ready").get("status") == "True",
        node_boot_id=boot_id,
        agent_joined=agent is not None and agent.incarnation not in (None, f.incarnation) and agent.state in _JOINED,
        tainted=bool(taints),
        evicting=any(t.get("effect") == "NoExecute" for t in taints),
    )


async def _held(turn: Turn, active: Sequence[Failover]) -> bool | None:
    if not any(f.stage is Stage.PREPARING for f in active):
        return None
    return await gates.probe(turn.kube, turn.namespace)


async def _attachments(turn: Turn, hosts: set[str], keys: set[str]) -> Iterable[Attachment]:
    try:
        found = await turn.kube.list(kube.VOLUMEATTACHMENTS)
    except kube.KubeError as error:
        log.warning("volume attachments cannot be read, so Kubernetes detaches by itself: %s", error)
        return ()
    here = [a for a in found if dig(a, "spec").get("nodeName") in hosts]
    if not here:
        return ()
    claims = {pv["metadata"]["name"]: dig(pv, "spec", "claimRef") for pv in turn.observed.pvs}
    owners = {claim: key_of(vm) for vm in turn.observed.vms if key_of(vm) in keys for claim in _claims(vm)}
    attachments = []
    for obj in here:
        ref: Any = claims.get(dig(obj, "spec", "source").get("persistentVolumeName") or "") or {}
        vm = owners.get(f"{ref.get('namespace')}/{ref.get('name')}")
        if vm is not None:
            attachments.append(Attachment(obj["metadata"]["name"], obj["metadata"]["uid"], obj["spec"]["nodeName"], vm))
    return attachments


def _claims(vm: Json) -> list[str]:
    """`namespace/name` of the claims of a VM's disks; a data volume's claim has its name."""
    names = []
    for volume in dig(vm, "spec", "template", "spec").get("volumes") or ():
        names += [dig(volume, "persistentVolumeClaim").get("claimName"), dig(volume, "dataVolume").get("name")]
    return [f"{vm['metadata'].get('namespace') or 'default'}/{name}" for name in names if name]


def _stays(vm: Json) -> bool:
    return not vm["metadata"].get("deletionTimestamp")


def _vm(vm: Json, vmi: Json | None) -> VmState:
    spec, status = dig(vm, "spec"), dig(vmi, "status")
    requests = dig(vm, "status").get("stateChangeRequests") or ()
    return VmState(
        strategy=spec.get("runStrategy") or ("Always" if spec.get("running") else "Halted"),
        vmi_phase=(status.get("phase") or "Pending") if vmi is not None else None,
        vmi_host=status.get("nodeName") or None,
        start_asked=any(request.get("action") == "Start" for request in requests),
    )


def _condition(status: Json, type_: str) -> Json:
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), {})

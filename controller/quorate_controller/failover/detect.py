"""From a certificate to a Failover object: accept it, take a generation, write down what is planned. Acts on nothing else."""

import logging
from collections.abc import Mapping, Sequence

from quorate_api.failover import PlannedRestart
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool, PoolPhase
from quorate_controller import kube, statuses
from quorate_controller.failover import certificates, nodes
from quorate_controller.kube import Json
from quorate_controller.membership import key_of, parse
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput
from quorate_controller.turn import Turn
from quorate_controller.world import launched_vm
from quorate_core.facts import Protection, Snapshot, Vm
from quorate_core.failover import restart_order
from quorate_core.failover_facts import Restart

log = logging.getLogger(__name__)

MAX_RESTARTS = 1000
INCARNATION_DIGITS = 8


def failover_name(host: str, incarnation: str) -> str:
    """The name of the failover of one life of a host: a second one for the same death cannot be created."""
    return f"{host[: 253 - INCARNATION_DIGITS - 1]}-{incarnation[:INCARNATION_DIGITS]}"


async def detect(turn: Turn, pool: HAPool, hosts: Sequence[HAHost]) -> list[Json]:
    """Failover objects created in this turn for hosts newly certified dead. Raises `kube.Conflict` when somebody else was faster."""
    known = {obj["metadata"]["name"] for obj in turn.observed.failovers}
    created = []
    for name, verdict in sorted(certificates.verdicts(pool, hosts).items()):
        for words in verdict.rejected:
            log.debug("%s: %s", name, words)
        claim = verdict.certificate
        if claim is None or failover_name(name, claim.incarnation) in known:
            continue
        if not statuses.wanted(pool, turn.now):
            log.info("%s is certified dead, but pool %s is disarmed by its user: nothing is restarted", name, pool.metadata.name)
            continue
        host = await _accept(turn, name, certificates.certificate_of(claim).to_json())
        if host is not None and await _still_down(turn, host):
            created.append(await _create(turn, pool, host))
    return created


async def _accept(turn: Turn, name: str, certificate: Json) -> HAHost | None:
    """Write the certificate to the dead host's HAHost, on a fresh read; None if the host has moved on to another life."""
    obj = await turn.kube.get(kube.HAHOSTS, name)
    if obj is None or dig(obj, "status", "agent").get("incarnation") != certificate["incarnation"]:
        return None
    if dig(obj, "status").get("certificate") != certificate:
        patch = {
            "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]},
            "status": {"certificate": certificate, "phase": "Fenced"},
        }
        obj = await turn.kube.merge(kube.HAHOSTS, name, patch, status=True)
        log.warning("%s is dead (incarnation %s): %s", name, certificate["incarnation"], certificate["evidence"])
    try:
        return parse(HAHost, obj)
    except BadInput as error:
        log.error("%s", error)
        return None


async def _still_down(turn: Turn, host: HAHost) -> bool:
    """Whether the Node shows no other boot than the one that is certified dead.

    A host that rebooted before it was certified runs its kubelet again: that one ends the old pods, KubeVirt restarts their VMs, and
    pods that run there now are none of this death's. To taint it or to delete them by force would start VMs twice.
    """
    agent = host.status.agent
    node = await turn.kube.get(kube.NODES, host.metadata.name)
    if agent is None or agent.boot_id is None:
        log.warning("%s is certified dead, but its boot id was never reported: nothing is restarted", host.metadata.name)
        return False
    if nodes.shows_another_boot(node, agent.boot_id):
        log.info("%s has booted anew before its old life was certified dead: its kubelet ends what is left of that", host.metadata.name)
        return False
    return True


async def _create(turn: Turn, pool: HAPool, host: HAHost) -> Json:
    """Take the pool's next generation and set it Recovering in one compare-and-swap, then create the object.

    A crash in between costs a number; the phase must be there before pods are deleted, because it is what holds their successors.
    """
    certificate, agent = host.status.certificate, host.status.agent
    if certificate is None or agent is None:
        raise kube.Conflict(f"HAHost {host.metadata.name}: its certificate is gone")
    generation = await _next_generation(turn, pool.metadata.name)
    restarts = planned_restarts(turn, pool.metadata.name, host.metadata.name)
    body = {
        "metadata": {"name": failover_name(host.metadata.name, certificate.incarnation)},
        "spec": {
            "pool": pool.metadata.name,
            "host": host.metadata.name,
            "incarnation": certificate.incarnation,
            "generation": generation,
            "certificate": certificate.to_json(),
            "restarts": [restart.to_json() for restart in restarts],
            **({"bootId": agent.boot_id} if agent.boot_id else {}),
        },
    }
    created = await turn.kube.create(kube.FAILOVERS, body)
    log.warning("failover of %s begins: generation %d, %d VMs", host.metadata.name, generation, len(restarts))
    return created


async def _next_generation(turn: Turn, pool: str) -> int:
    obj = await turn.kube.get(kube.HAPOOLS, pool)
    if obj is None:
        raise kube.Conflict(f"HAPool {pool} is gone")
    generation = int(dig(obj, "status").get("failoverGeneration") or 0) + 1
    patch = {
        "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]},
        "status": {"phase": PoolPhase.RECOVERING.value, "failoverGeneration": generation},
    }
    await turn.kube.merge(kube.HAPOOLS, pool, patch, status=True)
    return generation


def planned_restarts(turn: Turn, pool: str, host: str) -> list[PlannedRestart]:
    """The VMs whose live launcher pod is on the host, in restart order, each with where the plan restarts it. Pure."""
    snapshot = turn.snapshots.get(pool)
    known = {vm.key: vm for vm in snapshot.vms} if snapshot else {}
    places = _places(turn, pool, host, snapshot)
    vms = {key_of(vm) for vm in turn.observed.vms}
    runs_on = {key_of(vmi): dig(vmi, "status").get("nodeName") for vmi in turn.observed.vmis}
    found: dict[str, PlannedRestart] = {}
    for pod in turn.observed.pods:
        key = launched_vm(pod)
        here = dig(pod, "spec").get("nodeName") == host and dig(pod, "status").get("phase") not in ("Succeeded", "Failed")
        if key is None or not here or key not in vms:
            continue
        if runs_on.get(key) not in (None, host):
            continue  # the target of a migration: the VM itself runs elsewhere
        vm = known.get(key) or Vm(key, 0)
        found[key] = PlannedRestart(
            vm=key,
            uid=pod["metadata"]["uid"],
            pod=pod["metadata"]["name"],
            protection=vm.protection,
            priority=vm.priority,
            start_delay_seconds=vm.start_delay_seconds,
            size_bytes=vm.size_bytes,
            planned_host=places.get(key) if vm.protection is Protection.PROTECTED else None,
        )
    ordered = sorted(found.values(), key=lambda p: restart_order(Restart(p.vm, protection=p.protection, priority=p.priority)))
    if len(ordered) > MAX_RESTARTS:
        log.error("%s had %d VMs; only the first %d can be recorded and restarted in order", host, len(ordered), MAX_RESTARTS)
    return ordered[:MAX_RESTARTS]


def _places(turn: Turn, pool: str, host: str, snapshot: Snapshot | None) -> Mapping[str, str]:
    """Where the plan restarts the VMs of the host: what was published before the failure, completed by this turn's plan."""
    plan = turn.plans.get(pool)
    now = dict(plan.placements.get(host, {})) if plan is not None and snapshot is not None and snapshot.host(host) else {}
    published = {
        f"{obj['metadata'].get('namespace') or 'default'}/{dig(obj, 'spec', 'vmRef').get('name')}": dig(obj, "status")["plannedHost"]
        for obj in turn.observed.protectedvms
        if dig(obj, "status").get("plannedHost") and dig(obj, "status").get("host") == host
    }
    return {**now, **published}

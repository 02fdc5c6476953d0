"""Performs the actions of the workflow, one by one in their order. Each is safe to repeat and names what it expects.

A conflict means that the cluster has moved on: the action is dropped, and the next turn looks again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import assert_never

from quorate_controller import kube
from quorate_controller.failover import gates, nodes
from quorate_controller.kube import Json, Kube
from quorate_controller.membership import key_of
from quorate_controller.turn import Turn
from quorate_core.failover_facts import Action, DeleteAttachment, DeletePod, DiscardPod, LiftGate, Say, StartVm, Taint, Untaint

log = logging.getLogger(__name__)

USE_BY_SECONDS = 10.0
"""How old the look may be on which an act rests, so that a leader that was stopped in between does nothing on the word of an old one.

It does not say that the host is still down, which may have been booting at the look: what destroys something asks its Node again."""

NO_BOOTS: Mapping[str, str | None] = {}


async def perform(turn: Turn, actions: Sequence[Action], looked_at_seconds: float, dead_boots: Mapping[str, str | None] = NO_BOOTS) -> None:
    """Do them all; one that cannot be done now stops no other. `looked_at_seconds` is the monotonic time of the look they rest on.

    `dead_boots`: by host, the boot that is certified dead. What is not done is asked for again by the next turn.
    """
    for number, action in enumerate(actions):
        age = time.monotonic() - looked_at_seconds
        if age > USE_BY_SECONDS:
            rest = len(actions) - number
            log.warning("%d acts not done: they rest on a look %.0f s ago (limit %.0f s); looking again", rest, age, USE_BY_SECONDS)
            return
        try:
            await _one(turn, action, dead_boots)
        except (kube.Conflict, kube.Missing) as error:
            log.info("%s: the cluster has moved on, looking again: %s", action, error)
        except kube.KubeError as error:
            log.warning("%s: not done, to be tried again: %s", action, error)


async def _one(turn: Turn, action: Action, dead_boots: Mapping[str, str | None]) -> None:
    api = turn.kube
    match action:
        case DeletePod(vm, pod, uid, host, force):
            if force and await _booted_anew(api, host, dead_boots):
                return
            grace = 0 if force else None
            if await api.delete(kube.PODS, pod, _namespace(vm), uid=uid, grace_seconds=grace):
                log.info("%s: old launcher pod %s on the failed host %s deleted", vm, pod, host)
        case DiscardPod(vm, pod, uid):
            await _discard(api, vm, pod, uid)
        case DeleteAttachment(name, uid, vm):
            if await api.delete(kube.VOLUMEATTACHMENTS, name, uid=uid):
                log.info("%s: stale volume attachment %s deleted", vm, name)
        case LiftGate(vm, pod, uid, host):
            if await gates.lift(api, _namespace(vm), pod, uid, host):
                log.info("%s: launcher pod %s let go to %s", vm, pod, host or "wherever the scheduler likes")
        case StartVm(vm):
            namespace, _, name = vm.partition("/")
            await api.put(kube.start_path(namespace, name), {})
            log.info("%s: KubeVirt asked to start it", vm)
        case Taint(host, evict):
            await nodes.set_taint(api, host, "NoExecute" if evict else "NoSchedule", dead_boots.get(host))
        case Untaint(host):
            await nodes.set_taint(api, host, None)
        case Say():
            _say(turn, action)
        case _:
            assert_never(action)


async def _booted_anew(api: Kube, host: str, dead_boots: Mapping[str, str | None]) -> bool:
    """Asked right before a forced deletion: a kubelet that is back may run this very pod, and then only it may say that it ended."""
    boot_id = dead_boots.get(host)
    if boot_id is None or not nodes.shows_another_boot(await api.get(kube.NODES, host), boot_id):
        return False
    log.warning("%s: no pod deleted by force, the host has booted anew since the look", host)
    return True


async def _discard(api: Kube, vm: str, pod: str, uid: str) -> None:
    """NB: without grace 0: should the scheduler bind it at this moment, its kubelet still ends it in order."""
    current = await api.get(kube.PODS, pod, _namespace(vm))
    if current is None or current["metadata"]["uid"] != uid or current["spec"].get("nodeName"):
        return
    if await api.delete(kube.PODS, pod, _namespace(vm), uid=uid):
        log.info("%s: launcher pod %s, which the scheduler could not place, deleted for another try", vm, pod)


def _say(turn: Turn, said: Say) -> None:
    involved: Json | None
    if said.vm is not None:
        involved = next((vm for vm in turn.observed.vms if key_of(vm) == said.vm), None)
    else:
        involved = next((host for host in turn.observed.hahosts if host["metadata"]["name"] == said.host), None)
    log.log(logging.WARNING if said.warning else logging.INFO, "%s", said.message)
    if involved is not None:
        turn.tell(involved, said.reason, said.message, "Warning" if said.warning else "Normal")


def _namespace(vm: str) -> str:
    return vm.partition("/")[0]

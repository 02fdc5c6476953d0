"""Performs the actions of the workflow, one by one in their order. Each is safe to repeat and names what it expects.

A conflict means that the cluster has moved on: the action is dropped, and the next turn looks again.
"""

import logging
import time
from collections.abc import Sequence
from typing import assert_never

from quorate_controller import kube
from quorate_controller.failover import gates
from quorate_controller.failover.sight import TAINT_KEY
from quorate_controller.kube import Json, Kube
from quorate_controller.membership import key_of
from quorate_controller.memory import dig
from quorate_controller.turn import Turn
from quorate_core.failover_facts import Action, DeleteAttachment, DeletePod, DiscardPod, LiftGate, Say, StartVm, Taint, Untaint

log = logging.getLogger(__name__)

TAINT_VALUE = "nodeshutdown"


USE_BY_SECONDS = 10.0
"""How old the look may be on which an act rests. Shorter than any boot, so that a leader that was stopped in between does nothing
to a host that came back meanwhile."""


async def perform(turn: Turn, actions: Sequence[Action], looked_at_seconds: float) -> None:
    """Do them all; one that cannot be done now stops no other. `looked_at_seconds` is the monotonic time of the look they rest on.

    What is not done is asked for again by the next turn.
    """
    for number, action in enumerate(actions):
        age = time.monotonic() - looked_at_seconds
        if age > USE_BY_SECONDS:
            rest = len(actions) - number
            log.warning("%d acts not done: they rest on a look %.0f s ago (limit %.0f s); looking again", rest, age, USE_BY_SECONDS)
            return
        try:
            await _one(turn, action)
        except (kube.Conflict, kube.Missing) as error:
            log.info("%s: the cluster has moved on, looking again: %s", action, error)
        except kube.KubeError as error:
            log.warning("%s: not done, to be tried again: %s", action, error)


async def _one(turn: Turn, action: Action) -> None:
    api = turn.kube
    match action:
        case DeletePod(vm, pod, uid, host, force):
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
            await _set_taint(api, host, "NoExecute" if evict else "NoSchedule")
        case Untaint(host):
            await _set_taint(api, host, None)
        case Say():
            _say(turn, action)
        case _:
            assert_never(action)


async def _discard(api: Kube, vm: str, pod: str, uid: str) -> None:
    """NB: without grace 0: should the scheduler bind it at this moment, its kubelet still ends it in order."""
    current = await api.get(kube.PODS, pod, _namespace(vm))
    if current is None or current["metadata"]["uid"] != uid or current["spec"].get("nodeName"):
        return
    if await api.delete(kube.PODS, pod, _namespace(vm), uid=uid):
        log.info("%s: launcher pod %s, which the scheduler could not place, deleted for another try", vm, pod)


async def _set_taint(api: Kube, host: str, effect: str | None) -> None:
    node = await api.get(kube.NODES, host)
    if node is None:
        return
    before = dig(node, "spec").get("taints") or []
    present = [t for t in before if t.get("key") == TAINT_KEY]
    if effect is None and not present:
        return
    if effect is not None and any(t.get("effect") == effect for t in present):
        return
    taints: list[Json] = [t for t in before if t.get("key") != TAINT_KEY]
    if effect is not None:
        taints.append({"key": TAINT_KEY, "value": TAINT_VALUE, "effect": effect})
    # A merge patch replaces the list as a whole; the resourceVersion makes that a compare-and-swap.
    patch = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": taints or None}}
    await api.merge(kube.NODES, host, patch)
    log.info("%s: %s", host, f"tainted out of service ({effect})" if effect else "out-of-service taint lifted")


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

"""One turn of failover for every pool: detect, look, step, write down, act, in this order.

The state is written, by compare-and-swap, before anything is done on its behalf: a leader that was overtaken finds a conflict
and does nothing. What is done is asked for again by the next turn until it is seen, so a crash at any point loses nothing.
"""

import asyncio
import logging
import time

from quorate_api.failover import Failover
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool, PoolPhase
from quorate_controller import kube
from quorate_controller.failover import actuate, gates, nodes, records, sight
from quorate_controller.failover.detect import detect
from quorate_controller.kube import Json
from quorate_controller.membership import Model, parse, parse_pool
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput
from quorate_controller.turn import FailoverSummary, Turn
from quorate_core import failover as workflow
from quorate_core.failover_facts import Stage
from quorate_planner import restart_targets

log = logging.getLogger(__name__)

KEPT_RECORDS = 20
"""Finished Failover objects kept per pool, for people."""


async def advance(turn: Turn) -> FailoverSummary:
    """Advance every failover by one turn. A pool that cannot be advanced stops no other; it counts as recovering if it was.

    Raises `kube.KubeError` when leftover gates cannot be looked after.
    """
    recovering: set[str] = set()
    unreadable: set[str] = set()
    for obj in turn.observed.hapools:
        name = obj["metadata"]["name"]
        try:
            if await _pool(turn, parse_pool(obj)):
                recovering.add(name)
        except BadInput as error:
            log.error("no failover for pool %s: %s", name, error)
            recovering |= _was_recovering(turn, name)
            unreadable.add(name)
        except kube.Conflict as error:
            log.info("pool %s: somebody else was faster, looking again: %s", name, error)
            recovering |= _was_recovering(turn, name)
        except kube.KubeError as error:
            log.error("pool %s: failover not advanced in this turn: %s", name, error)
            recovering |= _was_recovering(turn, name)
    await nodes.lift_forgotten(turn)
    await _sweep(turn, recovering - unreadable)
    return FailoverSummary(frozenset(recovering))


async def _pool(turn: Turn, pool: HAPool) -> bool:
    """Advance one pool; whether it is still recovering."""
    name = pool.metadata.name
    hosts = [host for host in (_readable(HAHost, obj) for obj in turn.observed.hahosts) if host is not None and host.spec.pool == name]
    created = await detect(turn, pool, hosts)
    objects = {obj["metadata"]["name"]: obj for obj in (*turn.observed.failovers, *created)}
    records_of_pool = ((key, _readable(Failover, obj)) for key, obj in objects.items() if dig(obj, "spec").get("pool") == name)
    every = {key: record for key, record in records_of_pool if record is not None}
    states = tuple(sorted((records.state_of(f) for f in every.values()), key=lambda f: f.generation))
    open_ = tuple(state for state in states if not state.finished)
    if not open_:
        return False
    snapshot = turn.snapshots.get(name)
    if snapshot is None:
        raise BadInput(f"HAPool {name}", "", "its hosts and VMs cannot be read, so its failovers wait")
    looked_at_seconds = time.monotonic()
    seen = await sight.look(turn, snapshot, open_)
    after, actions = await asyncio.to_thread(workflow.step, open_, seen, restart_targets)
    for state in after:
        before = every[state.name]
        status = records.status_of(state, before.status, seen).to_json()
        if status != before.status.to_json():
            await turn.kube.replace_status(kube.FAILOVERS, {**objects[state.name], "status": status})
    await actuate.perform(turn, actions, looked_at_seconds, {state.host: state.boot_id for state in open_})
    await _forget(turn, [objects[state.name] for state in states if state.finished])
    return any(state.stage is not Stage.COMPLETED for state in after)


async def _sweep(turn: Turn, recovering: set[str]) -> None:
    """Lift gates that nobody waits for: of pools that are not being recovered, and all when none is.

    A pool that cannot be read is not being recovered: nobody can say whose turn it is, and order is worth less than its VMs. As in the
    workflow, no VM is let go that has a pod left on a dead host.
    """
    dead = {dig(f, "spec").get("host") for f in turn.observed.failovers if not dig(f, "status").get("hostReturnedAt")}
    left = {pod.vm for pod in sight.launchers(turn) if pod.host in dead and not pod.finished}
    waiting = {vm.key for name in recovering if name in turn.snapshots for vm in turn.snapshots[name].vms}
    known = {vm.key for snapshot in turn.snapshots.values() for vm in snapshot.vms}
    for pod in sight.launchers(turn):
        orphan = not recovering or (pod.vm in known and pod.vm not in waiting)
        if not (pod.gated and orphan) or pod.vm in left or pod.deleting or pod.finished:
            continue
        try:
            if await gates.lift(turn.kube, pod.vm.partition("/")[0], pod.name, pod.uid, None):
                log.info("%s: leftover gate of launcher pod %s lifted", pod.vm, pod.name)
        except (kube.Conflict, kube.Refused) as error:
            log.info("%s: gate of launcher pod %s not lifted, looking again: %s", pod.vm, pod.name, error)


async def _forget(turn: Turn, finished: list[Json]) -> None:
    """Delete the oldest records beyond the number kept; the newest of each host stays, so that no certificate is taken up twice."""
    newest = {obj["spec"]["host"]: obj["metadata"]["name"] for obj in finished}
    for obj in finished[:-KEPT_RECORDS]:
        if newest[obj["spec"]["host"]] != obj["metadata"]["name"]:
            await turn.kube.delete(kube.FAILOVERS, obj["metadata"]["name"], uid=obj["metadata"]["uid"])


def _was_recovering(turn: Turn, pool: str) -> set[str]:
    """The pool, if it was recovering when this turn began: what a turn cannot know, it leaves as it is."""
    active = any(
        dig(f, "spec").get("pool") == pool and dig(f, "status").get("phase") != Stage.COMPLETED.value for f in turn.observed.failovers
    )
    phase = any(
        o["metadata"]["name"] == pool and dig(o, "status").get("phase") == PoolPhase.RECOVERING.value for o in turn.observed.hapools
    )
    return {pool} if active or phase else set()


def _readable(model: type[Model], obj: Json) -> Model | None:
    try:
        return parse(model, obj)
    except BadInput as error:
        log.error("%s", error)
        return None

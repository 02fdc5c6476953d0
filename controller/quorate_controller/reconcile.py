"""The leader's loop: look at everything afresh, decide, let the failover workflow act, say what is so.

Level-triggered: a turn knows nothing of earlier turns but what the API server holds, so a new leader simply takes the next one.
An object that cannot be written stops no other; a turn that fails is logged and counted, and after several in a row the process exits.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from quorate_api.failover import Failover
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_api.protectedvm import ProtectedVM
from quorate_controller import inventory, kube, membership, metrics, statuses, translate
from quorate_controller.events import Events
from quorate_controller.following import Following
from quorate_controller.keeping import Keeper
from quorate_controller.kube import Json, Kube, Resource
from quorate_controller.membership import Model
from quorate_controller.memo import Memo
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput, Observed, observe, unchanged
from quorate_controller.settings import Settings
from quorate_controller.statuses import PoolView, Verdict
from quorate_controller.triggers import Bell
from quorate_controller.turn import FailoverSummary, Turn
from quorate_controller.world import World
from quorate_core.facts import Snapshot, Vm
from quorate_core.ledger import Reservation
from quorate_planner import Plan, plan

log = logging.getLogger(__name__)

FAILURES_BEFORE_EXIT = 10
RECOVERING_TICK_SECONDS = 1.0
"""While VMs are being restarted their start delays and time limits run: the loop looks more often."""

Advance = Callable[[Turn], Awaitable[FailoverSummary]]
Judge = Callable[[HAPool, Sequence[HAHost], Sequence[Failover], datetime], Mapping[str, Verdict]]


class Reaper(Protocol):
    """The admission ledger: drops what has been seen and returns what is still reserved, by pool."""

    async def reap(self, world: World, started: float, /) -> Mapping[str, tuple[Reservation, ...]]: ...


@dataclass(frozen=True, slots=True)
class Decided:
    """What one turn concluded from what it saw."""

    world: World
    pools: Mapping[str, HAPool]
    snapshots: Mapping[str, Snapshot]
    plans: Mapping[str, Plan]
    problems: Mapping[str, str]


def decide(world: World, reservations: Mapping[str, Sequence[Reservation]], keeper: Keeper) -> Decided:
    """Snapshots, each with the layout that its pool keeps, and plans of all pools. A pool that cannot be read has a problem instead.

    A plan is a comfort, a certificate is not: without one failovers still go on, and restarts find their hosts at the time.
    """
    pools: dict[str, HAPool] = {}
    snapshots: dict[str, Snapshot] = {}
    plans: dict[str, Plan] = {}
    problems: dict[str, str] = {}
    for obj in world.observed.hapools:
        name = obj["metadata"]["name"]
        try:
            pools[name] = membership.parse_pool(obj)
            snapshots[name] = translate.snapshot_from(world, name, reservations.get(name, ()))
        except (BadInput, ValueError) as error:
            problems[name] = str(error)
    planned = statuses.planned_hosts(world.observed.protectedvms)
    for name, snapshot in list(snapshots.items()):
        try:
            snapshots[name] = keeper.keep(snapshot)
            found = plan(snapshots[name], planned=planned)
            plans[name] = replace(found, placements=dict(found.placements))  # worked out here, beside the event loop
        except Exception as error:  # the top of each pool's own work: a fault met in one pool must not leave the others unprotected
            log.exception("pool %s cannot be planned", name)
            problems[name] = f"it cannot be planned: {type(error).__name__}: {error}"
    return Decided(world, pools, snapshots, plans, problems)


class Loop:
    """The loop of the leading replica. `progress_at_seconds` is the monotonic time of its last completed step, for /livez."""

    def __init__(self, api: Kube, settings: Settings, bell: Bell, events: Events, reaper: Reaper, advance: Advance, judge: Judge) -> None:
        self._api = api
        self._settings = settings
        self._bell = bell
        self._tell = events
        self._reaper = reaper
        self._advance = advance
        self._judge = judge
        self._keeper = Keeper(bell.ring)
        self._seen = Observed()
        self._models = Memo()
        self._following = Following()
        self._said: dict[str, str] = {}
        self._tick_seconds = settings.tick_seconds
        self.progress_at_seconds = time.monotonic()

    async def run(self) -> None:
        """Take turns until cancelled: soon after a ring, at the latest every tick. Raises the last error after too many in a row."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self.turn()
            except Exception as error:
                failures += 1
                metrics.turns.labels("failed").inc()
                expected = isinstance(error, kube.KubeError)
                log.error("turn failed (%d in a row): %s", failures, error, exc_info=None if expected else error)
                if failures >= FAILURES_BEFORE_EXIT and not expected:
                    raise
            else:
                failures = 0
                metrics.turns.labels("done").inc()
                metrics.turn_seconds.observe(time.monotonic() - began)
            self.progress_at_seconds = time.monotonic()
            if await self._bell.wait(self._tick_seconds):
                await asyncio.sleep(self._settings.debounce_seconds)  # a change seldom comes alone

    async def turn(self) -> None:
        """One turn. Raises `kube.KubeError` when the cluster cannot be read."""
        started = time.monotonic()
        world = await asyncio.to_thread(self._world, await observe(self._api))
        reservations = await self._reap(world, started)
        self.progress_at_seconds = time.monotonic()
        decided = await asyncio.to_thread(decide, world, reservations, self._keeper)
        metrics.plan_seconds.observe(time.monotonic() - self.progress_at_seconds)
        self.progress_at_seconds = time.monotonic()
        now = datetime.now(UTC)
        turn = Turn(self._api, world.observed, decided.snapshots, decided.plans, now, started, self._tell, self._settings.namespace)
        try:
            summary = await self._advance(turn)
        except kube.KubeError as error:
            # What is recovering stays so: its phase may be lifted only by a turn that knows.
            log.error("failover not advanced in this turn: %s", error)
            summary = FailoverSummary(frozenset(name for name, pool in decided.pools.items() if pool.status.phase == "Recovering"))
        self.progress_at_seconds = time.monotonic()
        self._tick_seconds = (
            min(self._settings.tick_seconds, RECOVERING_TICK_SECONDS) if summary.recovering else self._settings.tick_seconds
        )
        await self._inventory(decided)
        await self._statuses(decided, summary, now)
        self._keeper.search(decided.snapshots, decided.plans)
        metrics.publish(decided.snapshots, decided.plans, decided.world.membership.hahosts.values())

    def _world(self, observed: Observed) -> World:
        """What is seen, indexed; what has not changed since the turn before is not translated again."""
        self._seen = unchanged(self._seen, observed)
        self._models.turn()
        return self._following.world(self._seen)

    async def _reap(self, world: World, started: float) -> Mapping[str, tuple[Reservation, ...]]:
        """What admission still holds reserved. Without it a turn goes on: a restart may then take memory that a start was promised."""
        try:
            return await self._reaper.reap(world, started)
        except (kube.KubeError, BadInput, ValueError) as error:
            log.error("the admission ledger cannot be emptied in this turn: %s", error)
            return {}

    async def _inventory(self, decided: Decided) -> None:
        steps, problems = inventory.vm_steps(decided.world.observed)
        for problem in problems:
            self._once(problem, "label ignored: %s", problem, level=logging.WARNING)
        steps = [*inventory.host_steps(decided.world.observed, decided.world.membership), *steps]
        await asyncio.gather(*(self._take(step) for step in steps))

    async def _take(self, step: inventory.Step) -> None:
        match step:
            case inventory.Create(resource, body, why):
                name = body["metadata"]["name"]
                if await self._write(resource, name, self._api.create(resource, body)):
                    log.info("%s %s created: %s", resource.kind, name, why)
            case inventory.Change(resource, current, spec, why):
                metadata = current["metadata"]
                patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": spec}
                write = self._api.merge(resource, metadata["name"], patch, metadata.get("namespace"))
                if await self._write(resource, metadata["name"], write):
                    log.info("%s %s changed to %s: %s", resource.kind, metadata["name"], spec, why)
            case inventory.Delete(resource, current, why):
                metadata = current["metadata"]
                gone = self._api.delete(resource, metadata["name"], metadata.get("namespace"), uid=metadata["uid"])
                if await self._write(resource, metadata["name"], gone):
                    log.info("%s %s deleted: %s", resource.kind, metadata["name"], why)

    async def _statuses(self, decided: Decided, summary: FailoverSummary, now: datetime) -> None:
        observed = decided.world.observed
        failovers = [f for f in (_lenient(Failover, obj) for obj in observed.failovers) if f is not None]
        views = {name: self._view(name, pool, decided, summary, failovers, now) for name, pool in decided.pools.items()}
        writes: list[Awaitable[None]] = []
        for obj in observed.hapools:
            name = obj["metadata"]["name"]
            if name in views:
                status = statuses.pool_status(views[name], now)
                writes.append(self._say(kube.HAPOOLS, obj, status.to_json(), keep=("failoverGeneration",)))
                self._report(name, views[name])
            else:
                writes.append(self._unreadable(obj, decided.problems[name], now))
        nodes = {node["metadata"]["name"]: node for node in observed.nodes}
        hosts = {obj["metadata"]["name"]: obj for obj in observed.hahosts}
        for view in views.values():
            given = inventory.slots(view.pool.metadata.name, view.hosts)
            for host in view.hosts:
                name = host.metadata.name
                address = inventory.address_of(nodes.get(name)) or host.status.address
                status_of_host = statuses.host_status(host, view, given[name], address, now)
                writes.append(self._say(kube.HAHOSTS, hosts[name], status_of_host.to_json(), keep=("agent",)))
        for obj, said in await asyncio.to_thread(self._vm_statuses, decided, views, now):
            writes.append(self._say(kube.PROTECTEDVMS, obj, said))
        await asyncio.gather(*writes)

    def _vm_statuses(self, decided: Decided, views: Mapping[str, PoolView], now: datetime) -> list[tuple[Json, Json]]:
        """The status of every ProtectedVM; there are thousands, so beside the event loop."""
        places = _Places(
            frozenset(map(membership.key_of, decided.world.observed.vms)),
            {node["metadata"]["name"]: pool for pool, nodes in decided.world.membership.nodes.items() for node in nodes},
            {name: {vm.key: vm for vm in snapshot.vms} for name, snapshot in decided.snapshots.items()},
        )
        found = []
        for obj in decided.world.observed.protectedvms:
            pvm = _lenient(ProtectedVM, obj, self._models)
            if pvm is not None:
                view, problem = self._belongs(pvm, decided, views, places)
                vms = places.vms.get(view.pool.metadata.name, {}) if view is not None else {}
                found.append((obj, statuses.vm_status(pvm, view, problem, now, vms).to_json()))
        return found

    def _view(
        self, name: str, pool: HAPool, decided: Decided, summary: FailoverSummary, failovers: Sequence[Failover], now: datetime
    ) -> PoolView:
        hosts = [host for host in decided.world.membership.hahosts.values() if host.spec.pool == name]
        mine = [failover for failover in failovers if failover.spec.pool == name]
        return PoolView(
            pool=pool,
            hosts=hosts,
            verdicts=self._judge(pool, hosts, mine, now),
            snapshot=decided.snapshots.get(name),
            plan=decided.plans.get(name),
            problem=decided.problems.get(name, ""),
            contested=decided.world.membership.contested.get(name, ()),
            recovering=name in summary.recovering,
            failovers=mine,
        )

    def _belongs(self, pvm: ProtectedVM, decided: Decided, views: Mapping[str, PoolView], places: "_Places") -> tuple[PoolView | None, str]:
        """The pool of a ProtectedVM, and what is wrong with it."""
        key = f"{pvm.metadata.namespace or 'default'}/{pvm.spec.vm_ref.name}"
        world = decided.world
        if key not in places.existing:
            return None, f"spec.vmRef.name: there is no VirtualMachine {key}"
        wish = world.wishes.get(key)
        name = f"ProtectedVM {pvm.metadata.namespace or 'default'}/{pvm.metadata.name}"
        if wish is not None and wish.source != name:
            return None, f"spec.vmRef.name: {key} is named by {wish.source} too, which counts"
        host = dig(world.bound_pod(key), "spec").get("nodeName")
        host_pool = places.pool_of_node.get(host or "")
        pool, why = membership.pool_of(wish, host_pool, [*world.membership.nodes])
        view = views.get(pool or "")
        if (
            view is not None
            and view.snapshot is not None
            and key not in places.vms.get(pool or "", {})
            and host is not None
            and host_pool != pool
        ):
            return view, f"it runs on {host}, which is no host of pool {pool}"
        return view, why

    async def _unreadable(self, obj: Json, problem: str, now: datetime) -> None:
        """A pool that cannot be read keeps its status, but for the condition that says so."""
        metadata = obj["metadata"]
        before = [c for c in dig(obj, "status").get("conditions") or () if isinstance(c, dict)]
        was = next((c for c in before if c.get("type") == "Ready"), {})
        since = was.get("lastTransitionTime") if was.get("status") == "False" else now.strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "False", "reason": "BadInput", "message": problem[:4096], "lastTransitionTime": since}
        if metadata.get("generation") is not None:
            ready["observedGeneration"] = metadata["generation"]
        conditions = [ready, *(c for c in before if c.get("type") != "Ready")]
        await self._say(kube.HAPOOLS, obj, {**dig(obj, "status"), "conditions": conditions})

    async def _say(self, resource: Resource, obj: Json, status: Json, keep: Iterable[str] = ()) -> None:
        """Write a status if it differs from what was seen; fields in `keep` belong to other writers."""
        kept = frozenset(keep)
        mine = {key: value for key, value in status.items() if key not in kept}
        seen = {key: value for key, value in dig(obj, "status").items() if key not in kept}
        patch = statuses.merge_patch(seen, mine)
        if not patch:
            return
        metadata = obj["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": patch}
        write = self._api.merge(resource, metadata["name"], body, metadata.get("namespace"), status=True)
        if await self._write(resource, metadata["name"], write):
            self._transitions(obj, status)

    async def _write(self, resource: Resource, name: str, write: Awaitable[object]) -> bool:
        """One write, which may fail alone. A conflict means that somebody was faster: the next turn looks again."""
        try:
            done = await write
        except (kube.Conflict, kube.Missing) as error:
            metrics.writes.labels(resource.kind, "conflict").inc()
            log.debug("%s %s changed meanwhile: %s", resource.kind, name, error)
            self._bell.ring()
            return False
        except kube.KubeError as error:
            metrics.writes.labels(resource.kind, "failed").inc()
            log.warning("%s %s not written: %s", resource.kind, name, error)
            return False
        metrics.writes.labels(resource.kind, "done").inc()
        return done is not False

    def _transitions(self, obj: Json, status: Json) -> None:
        """An Event and a log line for each change of phase and of a condition's truth."""
        before = dig(obj, "status")
        who = membership.described(obj)
        if status.get("phase") != before.get("phase") and status.get("phase"):
            message = f"{who}: {before.get('phase') or 'new'} -> {status['phase']}"
            log.info("%s", message)
            self._tell(obj, f"Phase{status['phase']}", message, "Warning" if status["phase"] in _ALARMING else "Normal")
        disks = dig(status, "heartbeat")
        if disks.get("generation") != dig(before, "heartbeat").get("generation"):
            named = ", ".join(_named(dig(disks, "storage")))
            message = f"{who}: heartbeat disks {named} taken over, generation {disks['generation']}"
            log.info("%s", message)
            self._tell(obj, "HeartbeatDisksTakenOver", message)
        old = {condition.get("type"): condition for condition in before.get("conditions") or ()}
        for condition in status.get("conditions") or ():
            was = old.get(condition["type"], {})
            if was.get("status") == condition["status"]:
                continue
            log.info("%s: %s is %s (%s): %s", who, condition["type"], condition["status"], condition["reason"], condition["message"])
            good = (condition["status"] == "True") != (condition["type"] == "Overcommitted")
            if condition["status"] != "Unknown" and (was or not good):  # that a new object is well is no news
                self._tell(obj, f"{condition['type']}{condition['status']}", condition["message"], "Normal" if good else "Warning")

    def _report(self, name: str, view: PoolView) -> None:
        """One sentence when the plan's numbers or the remarks change."""
        if view.plan is not None:
            p = view.plan
            most = str(p.lower) if p.exact else f"{p.lower} to {p.upper}"
            sentence = (
                f"{p.protected_vms} protected VMs on {p.hosts} hosts; {most} host failures tolerated, {p.host_failures_to_tolerate} wished"
            )
            self._once(f"plan {name}", "pool %s: %s", name, sentence, level=logging.INFO)
        remarks = view.snapshot.remarks if view.snapshot is not None else (view.problem,)
        self._once(f"remarks {name}", "pool %s: %s", name, "; ".join(remarks) or "nothing to remark", level=logging.INFO)

    def _once(self, topic: str, text: str, *values: object, level: int) -> None:
        sentence = text % values
        if self._said.get(topic) != sentence:
            self._said[topic] = sentence
            log.log(level, "%s", sentence)


@dataclass(frozen=True, slots=True)
class _Places:
    """VirtualMachines that exist, the pool of each Node, and the VMs of each pool: indexed once for thousands of ProtectedVMs."""

    existing: frozenset[str]
    pool_of_node: Mapping[str, str]
    vms: Mapping[str, Mapping[str, Vm]]


def _named(storage: Json) -> list[str]:
    """The heartbeat disks by what names them."""
    given = (f"{source} {storage[source]}" for source in ("storageClassName", "claimName", "devicePath") if storage.get(source))
    return [*given, *storage.get("additionalDevicePaths", ())]


_ALARMING = {"Lost", "Evicted", "Fenced", "Recovering", "AtRisk", "Failed"}


def _lenient(model: type[Model], obj: Json, memo: Memo | None = None) -> Model | None:
    """The object as a model, or None; what is wrong with it is among the remarks already."""
    try:
        return membership.parsed(model, obj, memo)
    except BadInput:
        return None

"""What the objects of the API say about themselves: statuses, conditions and phases, from a snapshot, its plan and host verdicts.

Pure. Times are arguments, and a condition keeps its transition time while its status stays, so that nothing is written when
nothing changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from quorate_api.base import Condition
from quorate_api.failover import Failover, FailoverPhase, RestartPhase
from quorate_api.hahost import AgentReport, Certificate, ChannelView, HAHost, HAHostStatus, HostMemory, HostVms
from quorate_api.hapool import HAPool, HAPoolStatus, HeartbeatInForce, PoolPhase, ToleratedFailures, Witness
from quorate_api.protectedvm import Agility, ProtectedVM, ProtectedVMStatus, Restart
from quorate_controller import layouts
from quorate_controller.kube import Json
from quorate_controller.membership import named_vm
from quorate_controller.memory import dig
from quorate_core.facts import Host, HostPhase, Protection, Snapshot, Vm
from quorate_planner import Plan

PvmPhase = Literal["Pending", "Protected", "AtRisk", "BestEffort", "Unprotected", "Restarting", "Stopped", "Failed"]

AWAY = frozenset({HostPhase.LOST, HostPhase.EVICTED, HostPhase.FENCED, HostPhase.MAINTENANCE, HostPhase.EXCLUDED})
"""Phases in which a host takes no part, so that arming does not wait for it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a host stands, if it is certified dead by which certificate, and why, in one sentence."""

    phase: HostPhase
    certificate: Certificate | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PoolView:
    """What is known of a pool in this turn. Without a plan, `problem` says why there is none."""

    pool: HAPool
    hosts: Sequence[HAHost]
    verdicts: Mapping[str, Verdict]
    snapshot: Snapshot | None = None
    plan: Plan | None = None
    problem: str = ""
    contested: Sequence[str] = ()
    recovering: bool = False
    failovers: Sequence[Failover] = field(default=())

    def phase_of(self, host: HAHost) -> HostPhase:
        """The verdict on the host, or Joining as long as there is none."""
        verdict = self.verdicts.get(host.metadata.name)
        return verdict.phase if verdict is not None else HostPhase.JOINING


def wanted(pool: HAPool, now: datetime) -> bool:
    """Whether the user wants the pool armed at this time."""
    paused = pool.spec.paused_until
    return pool.spec.enabled and (paused is None or paused <= now)


def pool_phase(view: PoolView, now: datetime) -> PoolPhase:
    """Armed once every host that takes part is armed; from then on as long as any is, so that a newcomer does not disarm the pool."""
    armed = [host for host in view.hosts if _armed(host)]
    if view.recovering:
        return PoolPhase.RECOVERING
    if not wanted(view.pool, now):
        return PoolPhase.DISARMING if any(view.phase_of(host) not in AWAY for host in armed) else PoolPhase.DISABLED
    taking_part = [host for host in view.hosts if view.phase_of(host) not in AWAY]
    was_armed = view.pool.status.phase in {PoolPhase.ARMED, PoolPhase.RECOVERING}
    still = any(_armed(host) for host in taking_part)
    if taking_part and (all(_armed(host) for host in taking_part) or (was_armed and still)):
        return PoolPhase.ARMED
    return PoolPhase.ARMING


def heartbeat_in_force(pool: HAPool) -> HeartbeatInForce:
    """The heartbeat disks that the spec names, taken over: under the next generation where they are not those in force.

    Only to be written over the object that was read (compare-and-swap): a generation that is given twice is what it must never be.
    """
    wished, present = pool.spec.heartbeat.storage, pool.status.heartbeat
    if present is not None and present.storage == wished:
        return present
    return HeartbeatInForce(storage=wished, generation=present.generation + 1 if present is not None else 1)


def pool_status(view: PoolView, now: datetime) -> HAPoolStatus:
    """The pool's status; `failoverGeneration` belongs to the failover workflow and is left as it is."""
    pool, plan = view.pool, view.plan
    phase = pool_phase(view, now)
    live = sum(1 for host in view.hosts if view.phase_of(host) is HostPhase.LIVE)
    armed = _armed_condition(view, phase, now)
    holds = _plan_condition(view)
    storage = _channel_condition(view, "storage", "StorageHeartbeat")
    network = _channel_condition(view, "network", "NetworkHeartbeat")
    over = _Said("Overcommitted", "Unknown", "NoPlan", holds.message)
    if plan is not None:
        over = _Said("Overcommitted", _truth(plan.overcommitted), "WishNotMet" if plan.overcommitted else "WishMet", holds.message)
    said = (_ready_condition(view, armed, holds), armed, holds, over, storage, network)
    return HAPoolStatus(
        phase=phase,
        observed_generation=pool.metadata.generation,
        hosts=len(view.hosts),
        live_hosts=live,
        plan_exists_for=min(plan.lower, plan.host_failures_to_tolerate) if plan is not None else None,
        max_host_failures_to_tolerate=ToleratedFailures(lower=plan.lower, upper=plan.upper, exact=plan.exact) if plan is not None else None,
        overcommitted=plan.overcommitted if plan is not None else None,
        protected_vms=plan.protected_vms if plan is not None else None,
        witness=_witness(plan),
        zones=layouts.zones_of(view.snapshot.layout) if view.snapshot is not None else pool.status.zones,
        heartbeat=heartbeat_in_force(pool),
        failover_generation=pool.status.failover_generation,
        conditions=_conditions(said, pool.status.conditions, pool.metadata.generation, now),
    )


def host_status(host: HAHost, view: PoolView, slot: int | None, address: str | None, now: datetime) -> HAHostStatus:
    """The host's status; `agent` belongs to its agent and is left as it is."""
    verdict = view.verdicts.get(host.metadata.name)
    phase = view.phase_of(host)
    known = view.snapshot.host(host.metadata.name) if view.snapshot is not None else None
    ready = _Said("Ready", "True", "Live", f"{host.metadata.name} is live and armed, slot {slot}")
    if slot is None:
        ready = _Said("Ready", "False", "NoSlot", "all 64 slots of the heartbeat disk are taken: a pool has at most 64 hosts")
    elif phase is not HostPhase.LIVE:
        ready = _Said("Ready", "False", phase.value, _not_live(host, phase, known, verdict.why if verdict is not None else ""))
    return HAHostStatus(
        phase=phase,
        observed_generation=host.metadata.generation,
        slot=slot,
        address=address,
        certificate=(verdict.certificate if verdict is not None else None) or host.status.certificate,
        memory=_memory(known) if known is not None else host.status.memory,
        vms=_counts(host.metadata.name, view.snapshot) if view.snapshot is not None else host.status.vms,
        zone_bytes=layouts.bytes_of(view.snapshot.layout, host.metadata.name) if view.snapshot is not None else host.status.zone_bytes,
        agent=host.status.agent,
        conditions=_conditions((ready,), host.status.conditions, host.metadata.generation, now),
    )


def planned_hosts(protectedvms: Iterable[Json]) -> dict[str, str]:
    """Where the statuses say that each VM restarts if its host fails."""
    said = ((named_vm(obj), dig(obj, "status").get("plannedHost")) for obj in protectedvms)
    return {vm: host for vm, host in said if isinstance(host, str)}


def vm_status(
    pvm: ProtectedVM, view: PoolView | None, problem: str, now: datetime, vms: Mapping[str, Vm] | None = None
) -> ProtectedVMStatus:
    """The status of a ProtectedVM; `problem` says why its VM is missing or belongs to no pool. `vms` are those of the snapshot, by key."""
    key = f"{pvm.metadata.namespace or 'default'}/{pvm.spec.vm_ref.name}"
    snapshot = view.snapshot if view is not None else None
    vm = None if snapshot is None else snapshot.vm(key) if vms is None else vms.get(key)
    if view is None or snapshot is None or vm is None or problem:
        why = (
            problem or (view.problem if view is not None else "") or f"VirtualMachine {key} cannot be counted; see the remarks of the pool"
        )
        phase: PvmPhase = "Failed" if problem or snapshot is not None else "Pending"
        ready = _Said("Ready", "False", "NotPlanned" if phase == "Failed" else "PoolNotPlanned", why)
        return ProtectedVMStatus(
            phase=phase,
            observed_generation=pvm.metadata.generation,
            pool=view.pool.metadata.name if view is not None else None,
            zone=pvm.status.zone,
            restarts=pvm.status.restarts,
            conditions=_conditions((ready,), pvm.status.conditions, pvm.metadata.generation, now),
        )
    others = frozenset(host.name for host in snapshot.hosts if host.name != vm.host)
    phase, ready = _vm_phase(vm, view, now)
    planned = view.plan.placements.get(vm.host, {}).get(key) if view.plan is not None and vm.host is not None else None
    return ProtectedVMStatus(
        phase=phase,
        observed_generation=pvm.metadata.generation,
        pool=snapshot.pool.name,
        host=vm.host,
        memory_bytes=vm.size_bytes,
        agile=Agility(agile=not vm.not_agile, reasons=[reason[:512] for reason in vm.not_agile[:16]]),
        candidate_hosts=len(others if vm.allowed is None else others & vm.allowed),
        planned_host=planned,
        zone=layouts.zone_of(snapshot.layout, key),
        restart_hosts=layouts.restart_hosts_of(snapshot.layout, key),
        restarts=_restarts(key, pvm.status.restarts, view.failovers),
        conditions=_conditions((ready,), pvm.status.conditions, pvm.metadata.generation, now),
    )


@dataclass(frozen=True, slots=True)
class _Said:
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def _truth(value: bool) -> Literal["True", "False"]:
    return "True" if value else "False"


def _armed(host: HAHost) -> bool:
    return host.status.agent is not None and host.status.agent.armed


def _armed_condition(view: PoolView, phase: PoolPhase, now: datetime) -> _Said:
    armed = sum(1 for host in view.hosts if _armed(host))
    numbers = f"{armed} of {len(view.hosts)} hosts armed"
    match phase:
        case PoolPhase.ARMED | PoolPhase.RECOVERING:
            return _Said("Armed", "True", phase.value, numbers + _behind(view))
        case PoolPhase.DISABLED | PoolPhase.DISARMING:
            until = view.pool.spec.paused_until
            paused = view.pool.spec.enabled and until is not None and until > now
            why = f"paused until {until:%Y-%m-%dT%H:%M:%SZ}" if paused and until is not None else "spec.enabled is false"
            return _Said("Armed", "False", "Paused" if paused else phase.value, f"{why}; {numbers}")
        case PoolPhase.ARMING:
            selected = view.snapshot is not None and view.snapshot.hosts
            nobody = "its HAHosts are being created" if selected else "no Node is selected by spec.hostSelector"
            return _Said("Armed", "False", "Arming", numbers + _behind(view) if view.hosts else nobody)


def _behind(view: PoolView) -> str:
    """The hosts that are not armed and what each is missing, at most four."""
    waiting = [host for host in view.hosts if not _armed(host) and view.phase_of(host) not in AWAY]
    said = [f"{host.metadata.name}: {_missing(host.status.agent)}" for host in waiting[:4]]
    if len(waiting) > 4:
        said.append(f"and {len(waiting) - 4} more")
    return "; waiting for " + "; ".join(said) if said else ""


def _missing(agent: AgentReport | None) -> str:
    return "no report from its agent" if agent is None else agent.message or f"agent is {agent.state}"


def _plan_condition(view: PoolView) -> _Said:
    plan = view.plan
    if plan is None:
        return _Said("PlanHolds", "Unknown", "NoPlan", view.problem or "not planned yet")
    wish = plan.host_failures_to_tolerate
    most = str(plan.lower) if plan.exact else f"{plan.lower} to {plan.upper}"
    numbers = f"{plan.protected_vms} protected VMs on {plan.hosts} hosts; {most} host failures can be tolerated, {wish} wished"
    if plan.plan_exists:
        return _Said("PlanHolds", "True", "PlanExists", numbers)
    reason = f": {plan.witness.reason}" if plan.witness is not None else ""
    return _Said("PlanHolds", "False", "Overcommitted" if plan.upper < wish else "NotProven", numbers + reason)


def _ready_condition(view: PoolView, armed: _Said, holds: _Said) -> _Said:
    if view.problem:
        return _Said("Ready", "False", "BadInput", view.problem)
    if view.contested:
        return _Said("Ready", "False", "HostInTwoPools", "; ".join(view.contested[:4]))
    for needed in (armed, holds):
        if needed.status != "True":
            return _Said("Ready", "False", needed.reason, needed.message)
    return _Said("Ready", "True", "Protecting", holds.message)


def _channel_condition(view: PoolView, channel: Literal["storage", "network"], type_: str) -> _Said:
    reports = {
        host.metadata.name: getattr(host.status.agent, channel)
        for host in view.hosts
        if host.status.agent is not None and view.phase_of(host) not in AWAY
    }
    known: dict[str, ChannelView] = {name: report for name, report in reports.items() if report is not None}
    bad = [f"{name}: {report.message or 'does not work'}" for name, report in known.items() if not report.ok]
    if bad:
        return _Said(type_, "False", "HostsWithout", f"{len(bad)} of {len(known)} hosts are without: {'; '.join(bad[:4])}")
    if not known:
        return _Said(type_, "Unknown", "NoReports", "no agent reports it yet")
    rest = "; the others do not report it or are away" if len(known) < len(view.hosts) else ""
    return _Said(type_, "True", "AllHosts", f"works on {len(known)} of {len(view.hosts)} hosts{rest}")


def _witness(plan: Plan | None) -> Witness | None:
    found = plan.witness if plan is not None else None
    if found is None:
        return None
    return Witness(failed_hosts=list(found.failed_hosts[:64]), unplaceable=list(found.unplaceable[:16]), reason=found.reason[:1024])


def _not_live(host: HAHost, phase: HostPhase, known: Host | None, why: str) -> str:
    if why:
        return why
    match phase:
        case HostPhase.JOINING:
            return f"not armed yet: {_missing(host.status.agent)}"
        case HostPhase.FENCED:
            certificate = host.status.certificate
            return f"certified dead: {certificate.evidence}" if certificate is not None else "certified dead"
        case _:
            return known.why_not if known is not None and known.why_not else f"{host.metadata.name} is {phase.value}"


def _memory(host: Host) -> HostMemory:
    return HostMemory(allocatable_bytes=host.allocatable_bytes, used_bytes=host.used_bytes, free_bytes=host.free_bytes)


def _counts(host: str, snapshot: Snapshot) -> HostVms:
    here = [vm.protection for vm in snapshot.vms if vm.host == host]
    return HostVms(
        protected=here.count(Protection.PROTECTED),
        best_effort=here.count(Protection.BEST_EFFORT),
        unprotected=here.count(Protection.UNPROTECTED),
    )


def _vm_phase(vm: Vm, view: PoolView, now: datetime) -> tuple[PvmPhase, _Said]:
    restarting = any(
        progress.vm == vm.key and progress.phase not in {RestartPhase.RUNNING, RestartPhase.SKIPPED}
        for failover in view.failovers
        if failover.status.phase is not FailoverPhase.COMPLETED
        for progress in failover.status.vms
    )
    where = f"on {vm.host}" if vm.host is not None else "waiting for a host"
    if restarting:
        return "Restarting", _Said("Ready", "False", "Restarting", f"its host failed; {where}")
    if not vm.should_run:
        return "Stopped", _Said("Ready", "True", "Stopped", "it is not meant to run now")
    match vm.protection:
        case Protection.BEST_EFFORT:
            return "BestEffort", _Said("Ready", "True", "BestEffort", f"restarted if there is room after all protected VMs; {where}")
        case Protection.UNPROTECTED:
            return "Unprotected", _Said("Ready", "True", "Unprotected", f"not restarted when its host fails; {where}")
        case Protection.PROTECTED:
            pool, phase = view.pool, pool_phase(view, now)
            wished = f"{pool.spec.host_failures_to_tolerate} host failures"
            if vm.not_agile:
                return "AtRisk", _Said("Ready", "False", "NotAgile", "it cannot be started elsewhere: " + "; ".join(vm.not_agile[:4]))
            if phase not in {PoolPhase.ARMED, PoolPhase.RECOVERING}:
                return "AtRisk", _Said("Ready", "False", "PoolNotArmed", f"pool {pool.metadata.name} is {phase.value}")
            if view.plan is None or not view.plan.plan_exists:
                return "AtRisk", _Said("Ready", "False", "NoPlan", f"pool {pool.metadata.name} has no plan for {wished}; see its PlanHolds")
            # NB: no number that another VM can change: every start would write the status of every VM.
            return "Protected", _Said("Ready", "True", "Protected", f"{where}; pool {pool.metadata.name} has a plan for {wished}")


def _restarts(key: str, before: Sequence[Restart], failovers: Iterable[Failover]) -> list[Restart]:
    """The latest ten: what was recorded before, and what the failovers say now."""
    found = {restart.failover: restart for restart in before}
    for failover in failovers:
        for progress in failover.status.vms:
            if progress.vm == key and progress.running_at is not None:
                name = failover.metadata.name
                found[name] = Restart(failover=name, from_host=failover.spec.host, to_host=progress.host, at=progress.running_at)
    return sorted(found.values(), key=lambda restart: restart.at)[-10:]


def _conditions(said: Iterable[_Said], before: Iterable[Condition], generation: int | None, now: datetime) -> list[Condition]:
    """Conditions as the API wants them; the transition time stays while the status stays. Others' conditions are kept."""
    old = {condition.type: condition for condition in before}
    new = {}
    for s in said:
        was = old.get(s.type)
        since = was.last_transition_time if was is not None and was.status == s.status else now.replace(microsecond=0)
        new[s.type] = Condition(
            type=s.type,
            status=s.status,
            reason=s.reason,
            message=s.message[:4096],
            last_transition_time=since,
            observed_generation=generation,
        )
    return list({**old, **new}.values())


def merge_patch(current: Any, wanted: Any) -> Json:
    """The JSON merge patch that makes `current` into `wanted`; empty if they are the same already."""
    patch: Json = {}
    for key in {**current, **wanted}:
        was, new = current.get(key), wanted.get(key)
        if was == new:
            continue
        patch[key] = merge_patch(was, new) if isinstance(was, dict) and isinstance(new, dict) else new
    return patch

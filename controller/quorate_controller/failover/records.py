"""The Failover object to and from the state of the workflow. The object is the only memory of a failover."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from quorate_api import failover as api
from quorate_api.base import Condition
from quorate_core.failover_facts import Failover, Hold, Observation, Restart, RestartStage, Stage, Standing

_HELD = "RestartsHeld"
_DEAD = "CertificateStands"
_COMPLETED = "Completed"


def state_of(record: api.Failover) -> Failover:
    """The state that a Failover object holds; one that was just created holds none yet and begins."""
    status = record.status
    progress = {p.vm: p for p in status.vms}
    created = record.metadata.creation_timestamp
    return Failover(
        name=record.metadata.name,
        pool=record.spec.pool,
        host=record.spec.host,
        incarnation=record.spec.incarnation,
        generation=record.spec.generation,
        started_at=status.started_at or created or datetime.min.replace(tzinfo=UTC),
        boot_id=record.spec.boot_id,
        restarts=tuple(_restart(planned, progress.get(planned.vm)) for planned in record.spec.restarts),
        stage=Stage(status.phase.value),
        hold=_hold(status.conditions),
        completed_at=status.completed_at,
        host_returned_at=status.host_returned_at,
    )


def status_of(state: Failover, before: api.FailoverStatus, seen: Observation) -> api.FailoverStatus:
    """The status that records a state; conditions keep the time of their last change."""
    return api.FailoverStatus(
        phase=api.FailoverPhase(state.stage.value),
        vms=[_progress(r) for r in state.restarts],
        started_at=state.started_at,
        completed_at=state.completed_at,
        host_returned_at=state.host_returned_at,
        running=sum(r.stage is RestartStage.RUNNING for r in state.restarts),
        blocked=sum(r.stage is RestartStage.BLOCKED for r in state.restarts),
        conditions=_conditions(state, before, seen),
    )


def _restart(planned: api.PlannedRestart, progress: api.VmProgress | None) -> Restart:
    restart = Restart(
        vm=planned.vm,
        uid=planned.uid,
        pod=planned.pod,
        protection=planned.protection,
        priority=planned.priority,
        start_delay_seconds=planned.start_delay_seconds,
        size_bytes=planned.size_bytes,
        planned_host=planned.planned_host,
    )
    if progress is None:
        return restart
    return replace(
        restart,
        stage=RestartStage(progress.phase.value),
        host=progress.host,
        attempts=progress.attempts,
        reason=progress.reason,
        released_at=progress.released_at,
        due_at=progress.due_at,
        retry_at=progress.retry_at,
        placed_at=progress.placed_at,
        running_at=progress.running_at,
    )


def _progress(r: Restart) -> api.VmProgress:
    return api.VmProgress(
        vm=r.vm,
        phase=api.RestartPhase(r.stage.value),
        host=r.host,
        attempts=r.attempts,
        reason=r.reason,
        released_at=r.released_at,
        due_at=r.due_at,
        retry_at=r.retry_at,
        placed_at=r.placed_at,
        running_at=r.running_at,
    )


def _hold(conditions: list[Condition]) -> Hold:
    held = next((c.status for c in conditions if c.type == _HELD), "Unknown")
    return {"True": Hold.HELD, "False": Hold.ABSENT}.get(held, Hold.UNKNOWN)


def _conditions(state: Failover, before: api.FailoverStatus, seen: Observation) -> list[Condition]:
    match state.hold:
        case Hold.HELD:
            held = _condition(_HELD, "True", "GateInPlace", "new launcher pods wait behind a scheduling gate until their turn")
        case Hold.ABSENT:
            why = (
                "a launcher pod made as a test did not get the scheduling gate (is the MutatingAdmissionPolicy quorate-hold-launchers "
                "installed and served?); VMs restart where the scheduler likes, in the order in which their old pods are deleted"
            )
            held = _condition(_HELD, "False", "NoGate", why)
        case Hold.UNKNOWN:
            held = _condition(_HELD, "Unknown", "Waiting", "waiting for a test pod to come back with the scheduling gate")
    host = seen.hosts.get(state.host)
    match host.standing if host else Standing.DOUBT:
        case Standing.DEAD:
            dead = _condition(_DEAD, "True", "Certified", f"incarnation {state.incarnation} of {state.host} is certified dead")
        case Standing.RETURNED:
            dead = _condition(_DEAD, "True", "Rebooted", f"{state.host} has booted anew since; incarnation {state.incarnation} is gone")
        case Standing.DOUBT:
            why = (
                f"{state.host} is neither certified dead in its present incarnation nor back with a new boot; nothing is freed until it is"
            )
            dead = _condition(_DEAD, "Unknown", "Doubt", why)
    blocked = [r.vm for r in state.restarts if r.stage is RestartStage.BLOCKED]
    if state.stage is Stage.COMPLETED:
        done = _condition(_COMPLETED, "True", "AllRestarted", "every protected VM runs again or is wanted no more")
    elif blocked:
        done = _condition(_COMPLETED, "False", "Blocked", f"{len(blocked)} VMs find no place, first {blocked[0]}")
    else:
        done = _condition(
            _COMPLETED, "False", state.stage.value, f"{sum(r.stage is RestartStage.RUNNING for r in state.restarts)} VMs run again"
        )
    was = {c.type: c for c in before.conditions}
    return [_since(condition, was.get(condition.type), seen.now) for condition in (held, dead, done)]


def _condition(type_: str, status: Literal["True", "False", "Unknown"], reason: str, message: str) -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=datetime.min.replace(tzinfo=UTC))


def _since(condition: Condition, before: Condition | None, now: datetime) -> Condition:
    same = before is not None and before.status == condition.status
    return condition.model_copy(update={"last_transition_time": before.last_transition_time if same and before else now})

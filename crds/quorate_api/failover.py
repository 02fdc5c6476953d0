"""Failover: the durable state of one host failure's workflow, and the record people read afterwards.

Created and advanced by the leading controller only, each step by compare-and-swap on resourceVersion.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from quorate_api.base import AGE, API_VERSION, ApiModel, Column, Conditions, ObjectMeta, rule
from quorate_api.hahost import Certificate, Incarnation
from quorate_core.facts import Protection


class FailoverPhase(StrEnum):
    """Where the failover of a host stands."""

    PREPARING = "Preparing"
    RELEASING = "Releasing"
    RESTARTING = "Restarting"
    COMPLETED = "Completed"


class RestartPhase(StrEnum):
    """Where one VM stands in its restart."""

    WAITING = "Waiting"
    RELEASED = "Released"
    PLACED = "Placed"
    RUNNING = "Running"
    BLOCKED = "Blocked"
    SKIPPED = "Skipped"


class PlannedRestart(ApiModel):
    """One VM of the failed host, as planned when the certificate arrived."""

    vm: Annotated[str, Field(max_length=512, description="namespace/name.")]
    uid: Annotated[str | None, Field(max_length=64, description="uid of its old launcher pod; only that pod is deleted.")] = None
    pod: Annotated[str | None, Field(max_length=253, description="Name of its old launcher pod.")] = None
    protection: Annotated[Protection, Field(description="Its protection at that time.")]
    priority: Annotated[int, Field(ge=0, description="Lower starts first.")] = 0
    start_delay_seconds: Annotated[int, Field(ge=0, description="Wait after it runs, in seconds.")] = 0
    size_bytes: Annotated[int, Field(ge=0, description="Memory it needs, in bytes.")] = 0
    planned_host: Annotated[str | None, Field(max_length=253, description="Where the plan restarts it.")] = None


class FailoverSpec(ApiModel):
    """What happened and what was planned; never changed after creation."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.certificate.host == self.host && self.certificate.incarnation == self.incarnation",
            "the certificate must be of the host and incarnation that failed",
            field=".certificate",
        )
    )

    pool: Annotated[str, Field(max_length=253, description="The HAPool.")]
    host: Annotated[str, Field(max_length=253, description="The dead host.")]
    incarnation: Incarnation
    boot_id: Annotated[
        str | None, Field(max_length=64, description="Boot id of the dead host; a different one proves that it was reset.")
    ] = None
    generation: Annotated[int, Field(ge=1, description="Number of this failover in its pool.")]
    certificate: Annotated[Certificate, Field(description="Why the host is known to be dead.")]
    restarts: Annotated[list[PlannedRestart], Field(max_length=1000, description="Its VMs, in restart order.")] = Field(
        default_factory=list
    )


class VmProgress(ApiModel):
    """How far the restart of one VM has come."""

    vm: Annotated[str, Field(max_length=512, description="namespace/name.")]
    phase: Annotated[RestartPhase, Field(description="Waiting, Released, Placed, Running, Blocked or Skipped.")]
    host: Annotated[str | None, Field(max_length=253, description="Host it was placed on.")] = None
    attempts: Annotated[int, Field(ge=0, description="How often a place was tried.")] = 0
    reason: Annotated[str, Field(max_length=1024, description="Why it waits or is blocked, in words.")] = ""
    released_at: Annotated[datetime | None, Field(description="When its old launcher pod was deleted.")] = None
    due_at: Annotated[datetime | None, Field(description="When its turn in the restart order came.")] = None
    retry_at: Annotated[datetime | None, Field(description="When a place is tried again, if it is blocked.")] = None
    placed_at: Annotated[datetime | None, Field(description="When its new launcher pod was let go to its host.")] = None
    running_at: Annotated[datetime | None, Field(description="When it ran again.")] = None


class FailoverStatus(ApiModel):
    """Progress; written by the leading controller only."""

    phase: Annotated[FailoverPhase, Field(description="Preparing, Releasing, Restarting or Completed.")] = FailoverPhase.PREPARING
    vms: Annotated[
        list[VmProgress],
        Field(
            max_length=1000,
            description="Progress of each VM.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["vm"]},
        ),
    ] = Field(default_factory=list)
    started_at: Annotated[datetime | None, Field(description="When the certificate was taken up.")] = None
    completed_at: Annotated[datetime | None, Field(description="When the last protected VM ran again.")] = None
    host_returned_at: Annotated[datetime | None, Field(description="When the host was back and its taint was lifted.")] = None
    running: Annotated[int, Field(ge=0, description="VMs that run again.")] = 0
    blocked: Annotated[int, Field(ge=0, description="VMs that found no place yet.")] = 0
    conditions: Conditions = Field(default_factory=list)


class Failover(ApiModel):
    """One host failure: certificate, plan, progress."""

    KIND: ClassVar[str] = "Failover"
    PLURAL: ClassVar[str] = "failovers"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("hafo",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Pool", "string", ".spec.pool", "The HAPool."),
        Column("Host", "string", ".spec.host", "The host that failed."),
        Column("Phase", "string", ".status.phase", "Where the workflow stands."),
        Column("Running", "integer", ".status.running", "VMs that run again."),
        Column("Blocked", "integer", ".status.blocked", "VMs that found no place yet."),
        Column("Incarnation", "string", ".spec.incarnation", "The life of the host's agent that ended.", wide=True),
        Column("Evidence", "string", ".spec.certificate.evidence", "Why the host is known to be dead.", wide=True),
        AGE,
    )

    model_config = ConfigDict(
        json_schema_extra=rule("self.spec == oldSelf.spec", "a Failover's spec is a record and is never changed", field=".spec")
    )

    api_version: str = API_VERSION
    kind: Literal["Failover"] = "Failover"
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: FailoverSpec
    status: FailoverStatus = Field(default_factory=FailoverStatus)

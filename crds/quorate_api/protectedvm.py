"""ProtectedVM: how far Quorate goes for one VirtualMachine of the same namespace."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quorate_api.base import AGE, API_VERSION, ApiModel, Column, Conditions, ObjectMeta, rule
from quorate_core.facts import Protection


class VmReference(ApiModel):
    """The VirtualMachine, in the namespace of the ProtectedVM."""

    api_version: Annotated[Literal["kubevirt.io/v1"], Field(description="Always kubevirt.io/v1.")] = "kubevirt.io/v1"
    kind: Annotated[Literal["VirtualMachine"], Field(description="Always VirtualMachine.")] = "VirtualMachine"
    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the VirtualMachine.")]


class ProtectedVMSpec(ApiModel):
    """What the user wishes for the VM."""

    vm_ref: Annotated[
        VmReference,
        Field(
            description="Which VirtualMachine. Never changed.",
            json_schema_extra=rule(
                "self == oldSelf", "vmRef is never changed: make another ProtectedVM for another VirtualMachine", field=".name"
            ),
        ),
    ]
    pool: Annotated[
        str | None, Field(min_length=1, max_length=253, description="Name of the HAPool. May be left out if there is only one.")
    ] = None
    protection: Annotated[
        Protection,
        Field(
            description="Protected: restarted with a guarantee. BestEffort: restarted if there is room after all protected ones. Unprotected: never. Default: Protected."
        ),
    ] = Protection.PROTECTED
    priority: Annotated[int, Field(ge=0, le=1000000, description="Lower starts first (XenServer's order). Default: 0.")] = 0
    start_delay_seconds: Annotated[
        int,
        Field(
            ge=0, le=3600, description="How long to wait after this VM runs before VMs of the next priority start, in seconds. Default: 0."
        ),
    ] = 0


class Agility(ApiModel):
    """Whether the VM can be started on another host."""

    agile: Annotated[bool, Field(description="Whether at least one other host could run it.")]
    reasons: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=16, description="Why not.")] = Field(
        default_factory=list
    )


class Restart(ApiModel):
    """One restart by Quorate."""

    failover: Annotated[str, Field(max_length=253, description="Name of the Failover.")]
    from_host: Annotated[str, Field(max_length=253, description="The host that failed.")]
    to_host: Annotated[str | None, Field(max_length=253, description="Where it runs now.")] = None
    at: Annotated[datetime, Field(description="When it ran again.")]


class ProtectedVMStatus(ApiModel):
    """What is achieved for the VM; written by the controller only."""

    phase: Annotated[
        Literal["Pending", "Protected", "AtRisk", "BestEffort", "Unprotected", "Restarting", "Stopped", "Failed"] | None,
        Field(
            description="Pending (not yet seen), Protected (the plan covers it), AtRisk (it does not), BestEffort, Unprotected, Restarting, Stopped, Failed (its VM is missing or wrong)."
        ),
    ] = None
    observed_generation: Annotated[int | None, Field(ge=0, description="Generation of the spec this status was decided on.")] = None
    pool: Annotated[str | None, Field(max_length=253, description="The HAPool it belongs to.")] = None
    host: Annotated[str | None, Field(max_length=253, description="Host it runs on.")] = None
    memory_bytes: Annotated[int | None, Field(ge=0, description="Memory its launcher pod requests, in bytes.")] = None
    agile: Annotated[Agility | None, Field(description="Whether it can be started elsewhere, and why not.")] = None
    candidate_hosts: Annotated[int | None, Field(ge=0, description="How many hosts other than its own may run it.")] = None
    planned_host: Annotated[str | None, Field(max_length=253, description="Where it restarts if its present host fails now.")] = None
    zone: Annotated[int | None, Field(ge=0, le=63, description="The zone of HAPool.status.zones in which it restarts, counted from 0.")] = (
        None
    )
    restart_hosts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=253)]],
        Field(max_length=8, description="Hosts where it restarts, on the first that lives, if its zone is of the kind lists."),
    ] = Field(default_factory=list)
    restarts: Annotated[list[Restart], Field(max_length=10, description="The latest restarts, at most 10.")] = Field(default_factory=list)
    conditions: Conditions = Field(default_factory=list)


class ProtectedVM(ApiModel):
    """How far Quorate goes for one VirtualMachine."""

    KIND: ClassVar[str] = "ProtectedVM"
    PLURAL: ClassVar[str] = "protectedvms"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("pvm",)
    NAMESPACED: ClassVar[bool] = True
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Protection", "string", ".spec.protection", "How far Quorate goes for the VM."),
        Column("Priority", "integer", ".spec.priority", "Lower starts first."),
        Column("Agile", "boolean", ".status.agile.agile", "Whether it can be started on another host."),
        Column("Host", "string", ".status.host", "Where it runs."),
        Column("Planned", "string", ".status.plannedHost", "Where it restarts if its present host fails now."),
        Column("Phase", "string", ".status.phase", "What is achieved."),
        Column("VM", "string", ".spec.vmRef.name", "The VirtualMachine.", wide=True),
        Column("Bytes", "integer", ".status.memoryBytes", "Memory its launcher pod requests.", wide=True),
        AGE,
    )

    api_version: str = API_VERSION
    kind: Literal["ProtectedVM"] = "ProtectedVM"
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: ProtectedVMSpec
    status: ProtectedVMStatus = Field(default_factory=ProtectedVMStatus)

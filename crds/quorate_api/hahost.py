"""HAHost: one host of a pool, named like its Node.

Two writers share the status, each with its own fields: the agent of that host writes what it sees (`AgentReport`, under
`status.agent`), the controller everything else. An agent may write no other host's object.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quorate_api.base import AGE, API_VERSION, ApiModel, Column, Conditions, ObjectMeta, rule
from quorate_core.facts import CertificateKind, HostPhase

Incarnation = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="Random nonce of one life of a host's agent, 16 hex digits.")]


class HAHostSpec(ApiModel):
    """What the user wishes of a host."""

    pool: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="Name of the HAPool this host belongs to. Set at creation, never changed.",
            json_schema_extra=rule(
                "self == oldSelf",
                "a host's pool is never changed: its slot and its certificates belong to one pool; delete the HAHost to move the host",
            ),
        ),
    ]
    maintenance: Annotated[bool, Field(description="Leave the pool without being a failure. Default: false.")] = False
    maintenance_policy: Annotated[
        Literal["Refuse", "LowerTolerance"],
        Field(
            description="When maintenance would break the plan: refuse it, or lower the number tolerated by one while it lasts. Default: Refuse."
        ),
    ] = "Refuse"
    weight: Annotated[
        int, Field(ge=0, le=65535, description="Counts before the number of hosts when a partition decides who lives. Default: 0.")
    ] = 0


class ChannelView(ApiModel):
    """What a host sees on one heartbeat channel."""

    ok: Annotated[bool, Field(description="Whether the channel works for this host.")]
    sees: Annotated[
        list[Annotated[str, Field(max_length=253)]], Field(max_length=64, description="Hosts seen alive on it, itself included.")
    ] = Field(default_factory=list)
    message: Annotated[str, Field(max_length=1024, description="What is wrong, if anything.")] = ""


class WatchdogView(ApiModel):
    """The watchdog as the host found it."""

    device: Annotated[str, Field(max_length=1024, description="Device path.")]
    identity: Annotated[str, Field(max_length=256, description="What the driver calls itself.")] = ""
    timeout_seconds: Annotated[float | None, Field(ge=0, description="Timeout read back from the device, in seconds.")] = None
    armed: Annotated[bool, Field(description="Whether it runs and will reset the host when not petted.")] = False


class Certificate(ApiModel):
    """A statement that one incarnation of a host is dead and its VMs may be restarted."""

    host: Annotated[str, Field(max_length=253, description="The dead host.")]
    incarnation: Incarnation
    issued_by: Annotated[str, Field(max_length=253, description="The host that declared it.")]
    evidence: Annotated[str, Field(max_length=1024, description="On what evidence, with numbers.")]
    silent_seconds: Annotated[
        float, Field(ge=0, description="How long the issuer watched it unchanged, on the issuer's clock, in seconds.")
    ]
    bound_seconds: Annotated[float, Field(ge=0, description="R: how long it had to watch, in seconds.")]
    issued_at: Annotated[datetime, Field(description="Wall-clock time of issue; for people only.")]
    kind: Annotated[
        CertificateKind,
        Field(
            description="Silence: its slot stood still for R_s. Eviction: R_e has passed since it was evicted. Confirmed: evicted, and it says itself that none of its VMs is left. Default: Silence."
        ),
    ] = CertificateKind.SILENCE


class Eviction(ApiModel):
    """A host that this host has put out of the pool on the heartbeat disk, after a network partition."""

    host: Annotated[str, Field(max_length=253, description="The evicted host.")]
    incarnation: Incarnation


class AgentReport(ApiModel):
    """What the agent of this host says; written by it alone, on change and at a slow period, never per heartbeat."""

    incarnation: Annotated[Incarnation | None, Field(description="This life of the agent.")] = None
    boot_id: Annotated[str | None, Field(max_length=64, description="Boot id of the host's kernel.")] = None
    armed: Annotated[bool, Field(description="Whether this host is armed: agreed with the others and under its watchdog.")] = False
    state: Annotated[
        Literal["Starting", "Joining", "Armed", "Fencing", "Disarming", "Disarmed", "Refused"],
        Field(description="Where the agent stands. Disarming: it has said that it leaves, and its watchdog may still reset it."),
    ] = "Starting"
    bound_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            description="R_s: how long others must see this incarnation silent before it is dead, by the timing it has published, in seconds.",
        ),
    ] = None
    eviction_bound_seconds: Annotated[
        float | None,
        Field(ge=0, description="R_e: how long after its eviction this incarnation is dead, by the timing it has published, in seconds."),
    ] = None
    storageless: Annotated[
        bool, Field(description="Whether it lives on the network alone because no host of the pool has storage. Default: false.")
    ] = False
    addresses: Annotated[
        list[Annotated[str, Field(max_length=64)]],
        Field(max_length=8, description="Its addresses on the heartbeat interfaces of the pool."),
    ] = Field(default_factory=list)
    evictions: Annotated[list[Eviction], Field(max_length=64, description="Hosts it has evicted.")] = Field(default_factory=list)
    message: Annotated[str, Field(max_length=2048, description="Why it is not armed, if it is not: exactly what is missing.")] = ""
    config_hash: Annotated[str | None, Field(max_length=64, description="Hash of the pool configuration in use.")] = None
    storage: Annotated[ChannelView | None, Field(description="The shared disk as this host sees it.")] = None
    network: Annotated[ChannelView | None, Field(description="The network as this host sees it.")] = None
    watchdog: Annotated[WatchdogView | None, Field(description="Its watchdog.")] = None
    certificates: Annotated[list[Certificate], Field(max_length=64, description="Certificates this host has issued for others.")] = Field(
        default_factory=list
    )
    reported_at: Annotated[datetime | None, Field(description="When this was written; for people only.")] = None


class HostMemory(ApiModel):
    """Memory of the host as the planner counts it, in bytes."""

    allocatable_bytes: Annotated[int, Field(ge=0, description="What the Node offers to pods.")]
    used_bytes: Annotated[int, Field(ge=0, description="Requests of all pods bound here and reservations.")]
    free_bytes: Annotated[int, Field(ge=0, description="What new VMs may still take.")]


class HostVms(ApiModel):
    """How many VMs run here."""

    protected: Annotated[int, Field(ge=0, description="Protected VMs.")] = 0
    best_effort: Annotated[int, Field(ge=0, description="Best-effort VMs.")] = 0
    unprotected: Annotated[int, Field(ge=0, description="Other VMs.")] = 0


class HAHostStatus(ApiModel):
    """Where the host stands. All but `agent` is written by the controller."""

    phase: Annotated[HostPhase | None, Field(description="Joining, Live, Lost, Evicted, Fenced, Maintenance or Excluded.")] = None
    observed_generation: Annotated[int | None, Field(ge=0, description="Generation of the spec this status was decided on.")] = None
    slot: Annotated[int | None, Field(ge=0, le=63, description="The host's own block of the heartbeat disk.")] = None
    address: Annotated[str | None, Field(max_length=64, description="Address of its network heartbeat (the Node's InternalIP).")] = None
    certificate: Annotated[Certificate | None, Field(description="The certificate of its latest death.")] = None
    memory: Annotated[HostMemory | None, Field(description="Memory as the planner counts it.")] = None
    vms: Annotated[HostVms | None, Field(description="VMs on this host.")] = None
    zone_bytes: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            max_length=64,
            description="Memory set aside here for each zone of HAPool.status.zones, in their order, in bytes, with the VMs of the zone that run here.",
        ),
    ] = Field(default_factory=list)
    agent: Annotated[AgentReport | None, Field(description="What the agent of this host says.")] = None
    conditions: Conditions = Field(default_factory=list)


class HAHost(ApiModel):
    """One host of a pool, named like its Node."""

    KIND: ClassVar[str] = "HAHost"
    PLURAL: ClassVar[str] = "hahosts"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("hah",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Pool", "string", ".spec.pool", "The HAPool."),
        Column("Phase", "string", ".status.phase", "Where the host stands."),
        Column("Armed", "boolean", ".status.agent.armed", "Whether the host is armed."),
        Column("Storage", "boolean", ".status.agent.storage.ok", "Whether its storage heartbeat works."),
        Column("Network", "boolean", ".status.agent.network.ok", "Whether its network heartbeat works."),
        Column("Watchdog", "boolean", ".status.agent.watchdog.armed", "Whether its watchdog runs."),
        Column("Maintenance", "boolean", ".spec.maintenance", "Whether it is asked to leave without being a failure.", wide=True),
        Column("Slot", "integer", ".status.slot", "Its block of the heartbeat disk.", wide=True),
        Column("Incarnation", "string", ".status.agent.incarnation", "This life of its agent.", wide=True),
        Column("Message", "string", ".status.agent.message", "What is missing for arming.", wide=True),
        AGE,
    )

    api_version: str = API_VERSION
    kind: Literal["HAHost"] = "HAHost"
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: HAHostSpec
    status: HAHostStatus = Field(default_factory=HAHostStatus)

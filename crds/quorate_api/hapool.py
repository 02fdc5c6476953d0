"""HAPool: what a pool wishes, and what it has achieved."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from quorate_api.base import AGE, API_VERSION, ApiModel, Column, Conditions, LabelSelector, ObjectMeta, rule, rules
from quorate_core.pool import MAX_DISKS_GENERATION

Name = Annotated[str, Field(min_length=1, max_length=253)]


class PoolPhase(StrEnum):
    """Where a pool stands."""

    DISABLED = "Disabled"
    ARMING = "Arming"
    ARMED = "Armed"
    RECOVERING = "Recovering"
    DISARMING = "Disarming"


class Profile(StrEnum):
    """Named timing; see docs/guarantee.md for the deadlines that follow."""

    STANDARD = "Standard"
    FAST = "Fast"


class StorageHeartbeat(ApiModel):
    """The shared disk that hosts prove themselves on. Exactly one of storageClassName, claimName, devicePath."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.storageClassName), has(self.claimName), has(self.devicePath)].filter(given, given).size() == 1",
                "give exactly one of storageClassName, claimName and devicePath",
            ),
            rule(
                "!has(self.additionalDevicePaths) || self.additionalDevicePaths.all(p, "
                "self.additionalDevicePaths.filter(q, q == p).size() == 1 && (!has(self.devicePath) || self.devicePath != p))",
                "each disk may be named only once: one disk cannot be a majority with itself",
                field=".additionalDevicePaths",
            ),
        )
    )

    storage_class_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            description="Storage class for a Block, ReadWriteMany claim for the heartbeat. No claim is made from it yet: agents refuse it, and say so.",
        ),
    ] = None
    claim_name: Annotated[
        str | None, Field(min_length=1, max_length=253, description="An existing Block, ReadWriteMany claim in Quorate's namespace.")
    ] = None
    device_path: Annotated[
        str | None,
        Field(max_length=1024, pattern="^/", description="Path on every host of one shared block device or file that supports O_DIRECT."),
    ] = None
    additional_device_paths: Annotated[
        list[Annotated[str, Field(max_length=1024, pattern="^/")]],
        Field(
            max_length=2,
            description="Second and third disk, by path; a majority of disks then counts (of two, both are needed). Default: none.",
        ),
    ] = Field(default_factory=list)


class NetworkHeartbeat(ApiModel):
    """Signed packets between all hosts."""

    port: Annotated[int, Field(ge=1, le=65535, description="UDP port of the heartbeat on every host. Default: 6940.")] = 6940
    interfaces: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=15)]],
        Field(
            max_length=4,
            description="Interfaces that carry heartbeats; more than one gives redundant paths. Default: the one that has the Node's InternalIP.",
        ),
    ] = Field(default_factory=list)
    key_secret_name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="Secret in Quorate's namespace whose key `key` signs the packets (at least 16 bytes). Default: quorate-heartbeat.",
        ),
    ] = "quorate-heartbeat"


class TimingInputs(ApiModel):
    """The two inputs from which every deadline is derived."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.watchdogSeconds < self.licenceSeconds",
            "watchdogSeconds must be smaller than licenceSeconds",
            field=".watchdogSeconds",
        )
    )

    licence_seconds: Annotated[
        float,
        Field(
            ge=6, le=300, description="L: how long one proof of life lets a host keep running its VMs, in seconds. Standard: 20, Fast: 12."
        ),
    ]
    watchdog_seconds: Annotated[float, Field(ge=2, le=120, description="W: the watchdog's timeout, in seconds. Standard: 8, Fast: 5.")]


class Heartbeat(ApiModel):
    """Where and how fast hosts prove they are alive."""

    model_config = ConfigDict(
        json_schema_extra=rule("!(has(self.profile) && has(self.timing))", "give profile or timing, not both", field=".timing")
    )

    storage: Annotated[StorageHeartbeat, Field(description="The shared disk.")]
    network: Annotated[NetworkHeartbeat, Field(description="The network heartbeat.")] = Field(default_factory=NetworkHeartbeat)
    profile: Annotated[Profile | None, Field(description="Named timing. Default: Standard. Conflicts with timing.")] = None
    timing: Annotated[TimingInputs | None, Field(description="Timing by its two inputs, instead of a profile.")] = None


class Watchdog(ApiModel):
    """The watchdog that resets a host which cannot prove it is alive."""

    device: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern="^(/|development:/)",
            description="Watchdog device on every host. `development:/path` names the socket of a development watchdog, for machines without one: not for production. Default: /dev/watchdog.",
        ),
    ] = "/dev/watchdog"


class HAPoolSpec(ApiModel):
    """What the user wishes."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "!self.enabled || !oldSelf.enabled || self.heartbeat.storage == oldSelf.heartbeat.storage",
            "the heartbeat disks of an enabled pool are never changed: hosts on the old ones would look dead to hosts on the new ones; "
            "set enabled to false, change them, and enable the pool again",
            field=".heartbeat.storage",
        )
    )

    enabled: Annotated[
        bool, Field(description="Arm the pool. false disarms it: hosts are no longer fenced and VMs no longer restarted. Default: true.")
    ] = True
    paused_until: Annotated[datetime | None, Field(description="Disarm until this time, then arm again by itself.")] = None
    host_failures_to_tolerate: Annotated[
        int, Field(ge=0, le=1000, description="How many host failures the plan shall cover. Never changed by the controller. Default: 1.")
    ] = 1
    failure_domain_key: Annotated[
        str | None,
        Field(min_length=1, max_length=317, description="Node label; hosts with the same value fail together and count as one failure."),
    ] = None
    host_selector: Annotated[LabelSelector, Field(description="Which Nodes belong to the pool. An HAHost is created for each.")] = Field(
        default_factory=LabelSelector
    )
    heartbeat: Annotated[Heartbeat, Field(description="Where and how fast hosts prove they are alive.")]
    watchdog: Annotated[Watchdog, Field(description="The watchdog of every host.")] = Field(default_factory=Watchdog)
    overcommit_policy: Annotated[
        Literal["Refuse", "Warn"], Field(description="What admission does with a change that would leave no plan. Default: Refuse.")
    ] = "Refuse"


class ToleratedFailures(ApiModel):
    """The largest number of host failures that the pool survives, as a bracket."""

    lower: Annotated[int, Field(ge=0, description="Proven: a plan exists for this many.")]
    upper: Annotated[int, Field(ge=0, description="No plan can exist for more than this many.")]
    exact: Annotated[bool, Field(description="Whether lower equals upper.")]


class Witness(ApiModel):
    """The smallest set of failures known to break the plan."""

    failed_hosts: Annotated[list[Name], Field(max_length=64, description="Hosts whose failure breaks the plan.")] = Field(
        default_factory=list
    )
    unplaceable: Annotated[list[Name], Field(max_length=16, description="VMs (namespace/name) that would not fit, at most 16.")] = Field(
        default_factory=list
    )
    reason: Annotated[str, Field(max_length=1024, description="Why, in words.")] = ""


class PlanZone(ApiModel):
    """A part of the pool's memory that is set aside for restarts, under one rule."""

    kind: Annotated[
        Literal["chain", "any", "lists"],
        Field(
            description="chain: memory is handed out in blocks, a VM takes the smallest free one that holds it. any: a VM takes any host with room. lists: a VM takes the first living host of its ProtectedVM.status.restartHosts; the pool then has no other zone."
        ),
    ]
    blocks: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(max_length=64, description="Block sizes in bytes, rising, each a divisor of the next. Empty for kinds any and lists."),
    ] = Field(default_factory=list)
    hugepages: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(
            max_length=64,
            description="Bytes of hugepages beside each of the blocks, in the same ratio for all; empty where the zone is memory only.",
        ),
    ] = Field(default_factory=list)


class HeartbeatInForce(ApiModel):
    """The heartbeat disks that agents use, and how often they were changed: the same disks a second time are other disks."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.generation >= oldSelf.generation",
                "the generation of the heartbeat disks never falls: what was left on them by an earlier one would look like the present",
                field=".generation",
            ),
            rule(
                "self.storage == oldSelf.storage || self.generation > oldSelf.generation",
                "other heartbeat disks need a higher generation",
                field=".generation",
            ),
        )
    )

    storage: Annotated[StorageHeartbeat, Field(description="spec.heartbeat.storage as the controller has last taken it over.")]
    generation: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_DISKS_GENERATION,
            description="Rises each time that storage changes, also back to what it was before; begins with 1.",
        ),
    ]


class HAPoolStatus(ApiModel):
    """What is achieved; written by the controller only."""

    phase: Annotated[PoolPhase | None, Field(description="Disabled, Arming, Armed, Recovering or Disarming.")] = None
    observed_generation: Annotated[int | None, Field(ge=0, description="Generation of the spec this status was decided on.")] = None
    hosts: Annotated[int | None, Field(ge=0, description="Hosts of the pool.")] = None
    live_hosts: Annotated[int | None, Field(ge=0, description="Hosts that are live.")] = None
    plan_exists_for: Annotated[
        int | None, Field(ge=0, description="The achieved number: a plan exists for so many failures, never more than the wish.")
    ] = None
    max_host_failures_to_tolerate: Annotated[
        ToleratedFailures | None, Field(description="The most failures the pool could tolerate now.")
    ] = None
    overcommitted: Annotated[bool | None, Field(description="Whether the wish cannot be met.")] = None
    protected_vms: Annotated[int | None, Field(alias="protectedVMs", ge=0, description="VMs protected with a guarantee.")] = None
    witness: Annotated[Witness | None, Field(description="Failures that break the wish, and the VM that would not fit.")] = None
    zones: Annotated[
        list[PlanZone],
        Field(
            max_length=64,
            description="How memory is set aside for restarts: HAHost.status.zoneBytes has the amounts, ProtectedVM.status.zone says who restarts where. The restart rule reads it.",
        ),
    ] = Field(default_factory=list)
    heartbeat: Annotated[
        HeartbeatInForce | None,
        Field(description="The heartbeat disks in force: agents use these and no others. An armed host keeps those it has armed with."),
    ] = None
    failover_generation: Annotated[
        int | None, Field(ge=0, description="Counts failovers; each takes the next number by compare-and-swap.")
    ] = None
    conditions: Conditions = Field(default_factory=list)


class HAPool(ApiModel):
    """A pool of hosts that keep each other's VMs running."""

    KIND: ClassVar[str] = "HAPool"
    PLURAL: ClassVar[str] = "hapools"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("hap",)
    NAMESPACED: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Armed", "string", '.status.conditions[?(@.type=="Armed")].status', "Whether hosts are fenced and VMs restarted."),
        Column("Hosts", "integer", ".status.hosts", "Hosts of the pool."),
        Column("Live", "integer", ".status.liveHosts", "Hosts that are live."),
        Column("Tolerate", "integer", ".spec.hostFailuresToTolerate", "The wish: host failures that the plan shall cover."),
        Column("PlanFor", "integer", ".status.planExistsFor", "The achieved number of host failures."),
        Column("Max", "integer", ".status.maxHostFailuresToTolerate.lower", "The most that is proven now."),
        Column("Overcommitted", "boolean", ".status.overcommitted", "Whether the wish cannot be met."),
        Column("Phase", "string", ".status.phase", "Where the pool stands.", wide=True),
        Column("ProtectedVMs", "integer", ".status.protectedVMs", "VMs protected with a guarantee.", wide=True),
        AGE,
    )

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("size(self.metadata.name) <= 63", "a pool's name has at most 63 characters: it becomes a label value"),
            # Here and not in the status, which could be taken away as a whole.
            rule(
                "!has(oldSelf.status) || !has(oldSelf.status.heartbeat) || (has(self.status) && has(self.status.heartbeat))",
                "the heartbeat disks in force are never forgotten: their generation would begin anew",
                field=".status.heartbeat",
            ),
        )
    )

    api_version: str = API_VERSION
    kind: Literal["HAPool"] = "HAPool"
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: HAPoolSpec
    status: HAPoolStatus = Field(default_factory=HAPoolStatus)

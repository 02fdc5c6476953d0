"""What pulse is to be told, from the API's objects: pure translation, with a sentence for whatever is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from quorate_agent import wire
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool, Profile, TimingInputs
from quorate_core.facts import HostPhase
from quorate_core.timing import FAST, STANDARD

_CLAIM_DEVICE = "/dev/quorate-heartbeat-{}"
"""Where the agent's pod maps the heartbeat claim of that name: a pod that maps another one finds no disk there, rather than a wrong one."""
_SHORTEST_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Unready:
    """There is no usable configuration yet; why, naming the object and the field."""

    why: str


def configuration(
    host: str, pool: HAPool, hosts: Sequence[HAHost], key: bytes | None, now: datetime, own: Sequence[str] = ()
) -> wire.PulseConfig | Unready:
    """The configuration of this host's pulse at that wall-clock time (which only matters for `pausedUntil`).

    `own` are this host's addresses on the pool's interfaces, in their order; "" where it has none.
    """
    spec, name = pool.spec, pool.metadata.name
    if not pool.metadata.uid:
        return Unready(f"HAPool {name}: it has no uid")
    disks = pool.status.heartbeat
    if disks is None:
        # Never those of the spec: only the controller counts how often they were changed.
        return Unready(f"HAPool {name}: status.heartbeat: the controller has not yet taken over the pool's heartbeat disks")
    network = spec.heartbeat.network
    if key is None or len(key) < _SHORTEST_KEY_BYTES:
        have = "it is missing" if key is None else f"its field `key` has {len(key)} bytes"
        return Unready(f"Secret {network.key_secret_name}: {have}; at least {_SHORTEST_KEY_BYTES} bytes are needed to sign packets")
    if network.interfaces and not any(own):
        return Unready(
            f"HAPool {name}: spec.heartbeat.network.interfaces: host {host} has no address on any of {', '.join(network.interfaces)}"
        )
    members = tuple(
        wire.MemberAddress(
            h.metadata.name,
            h.status.slot,
            _addresses(h, h.status.address, own if h.metadata.name == host else None, len(network.interfaces)),
            h.status.phase in (HostPhase.MAINTENANCE, HostPhase.EXCLUDED),
            h.spec.weight,
        )
        for h in sorted(hosts, key=lambda h: h.metadata.name)
        if h.spec.pool == name and h.status.slot is not None and h.status.address
    )
    if all(m.host != host for m in members):
        return Unready(f"HAHost {host}: the controller has not yet given it a slot and an address")
    claim = disks.storage.claim_name
    first_disk = _CLAIM_DEVICE.format(claim) if claim else disks.storage.device_path
    if first_disk is None:
        return Unready(
            f"HAPool {name}: spec.heartbeat.storage.storageClassName: no claim is made from it; make one, and name it in claimName"
        )
    enabled, reason = _wish(pool, now)
    timing = _timing(pool)
    config = wire.PulseConfig(
        pool=name,
        pool_id=pool.metadata.uid.replace("-", "").lower(),
        enabled=enabled,
        disabled_reason=reason,
        licence_seconds=timing.licence_seconds,
        watchdog_seconds=timing.watchdog_seconds,
        watchdog_device=spec.watchdog.device,
        disks=(first_disk, *disks.storage.additional_device_paths),
        disks_generation=disks.generation,
        port=network.port,
        key=key,
        members=members,
        interfaces=tuple(network.interfaces),
    )
    try:
        config.core()
    except wire.BadMessage as error:
        return Unready(f"HAPool {name}: {error}")
    return config


def binding(wanted: wire.PulseConfig, present: wire.PulseConfig | None, *, armed: bool) -> tuple[wire.PulseConfig, str]:
    """What to hand over now, and a sentence about what has to wait.

    An armed host keeps the key that it armed with: one that cannot reach the API for the new one would hear nobody, and be evicted.
    """
    if not armed or present is None or present.pool_id != wanted.pool_id or present.key == wanted.key:
        return wanted, ""
    return replace(wanted, key=present.key), (
        "the key of the heartbeat packets has changed in its Secret; it takes effect when the pool has been disarmed and armed again"
    )


def _addresses(host: HAHost, internal: str, own: Sequence[str] | None, paths: int) -> tuple[str, ...]:
    """A host's address on each path. Where the pool names no interfaces, and until a host has reported addresses: its Node's InternalIP."""
    reported = own if own is not None else host.status.agent.addresses if host.status.agent is not None else ()
    if paths == 0 or not any(reported):
        return (internal,)
    return (*reported[:paths], *[""] * (paths - len(reported)))


def _wish(pool: HAPool, now: datetime) -> tuple[bool, str]:
    if not pool.spec.enabled:
        return False, f"HAPool {pool.metadata.name}: spec.enabled is false"
    until = pool.spec.paused_until
    if until is not None and until > now:
        return False, f"HAPool {pool.metadata.name}: paused until {until.isoformat()}"
    return True, ""


def _timing(pool: HAPool) -> TimingInputs:
    heartbeat = pool.spec.heartbeat
    if heartbeat.timing is not None:
        return heartbeat.timing
    profile = FAST if heartbeat.profile is Profile.FAST else STANDARD
    return TimingInputs(licence_seconds=profile.licence_seconds, watchdog_seconds=profile.watchdog_seconds)

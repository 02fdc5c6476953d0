"""Quorate's objects to and from the facts on which a host's death is judged. Reads nothing, writes nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from quorate_api.failover import Failover
from quorate_api.hahost import AgentReport, Certificate, ChannelView, HAHost
from quorate_api.hapool import HAPool, Profile
from quorate_controller import statuses
from quorate_core import hostphase
from quorate_core.failover_facts import Standing
from quorate_core.hostphase import Claim, HostFacts
from quorate_core.timing import Timing

_PROFILES = {Profile.STANDARD: (20.0, 8.0), Profile.FAST: (12.0, 5.0)}


def judge(pool: HAPool, hosts: Sequence[HAHost], failovers: Sequence[Failover], now: datetime) -> Mapping[str, statuses.Verdict]:
    """Phase and certificate of every host of the pool. The certificate of its latest death is kept after its return, as a record."""
    found = verdicts(pool, hosts)
    before = {host.metadata.name: host.status.certificate for host in hosts}
    return {
        name: statuses.Verdict(verdict.phase, certificate_of(verdict.certificate) if verdict.certificate else before[name], verdict.why)
        for name, verdict in found.items()
    }


def verdicts(pool: HAPool, hosts: Sequence[HAHost]) -> Mapping[str, hostphase.Verdict]:
    """The same, with the reasons and with what was rejected."""
    timing = timing_of(pool)
    return hostphase.judge([facts_of(host, timing) for host in hosts], timing.values if timing else None)


def timing_of(pool: HAPool) -> Timing | None:
    """The pool's timing, or None where its inputs cannot work: then no silence proves anything."""
    inputs = pool.spec.heartbeat.timing
    licence, watchdog = (
        (inputs.licence_seconds, inputs.watchdog_seconds) if inputs else _PROFILES[pool.spec.heartbeat.profile or Profile.STANDARD]
    )
    try:
        return Timing(licence, watchdog)
    except ValueError:
        return None


def facts_of(host: HAHost, timing: Timing | None) -> HostFacts:
    """What an HAHost says, as facts.

    The bound is the one that the host says it is bound by: an armed host keeps its timing when the pool's changes, and its survivors
    watch for as long as that demands. An agent that says none is judged by the pool's timing and its own watchdog.
    """
    agent = host.status.agent or AgentReport()
    accepted = claim_of(host.status.certificate) if host.status.certificate else None
    bound: float | None = agent.bound_seconds or None
    eviction_bound: float | None = agent.eviction_bound_seconds or None
    if timing and agent.watchdog and agent.watchdog.timeout_seconds:
        values = timing.values_with_watchdog(agent.watchdog.timeout_seconds)
        bound = bound or values.release_after_silence_seconds
        eviction_bound = eviction_bound or values.release_after_eviction_seconds
    return HostFacts(
        name=host.metadata.name,
        maintenance=host.spec.maintenance and (not agent.armed or _emptied(host)),
        incarnation=agent.incarnation,
        boot_id=agent.boot_id,
        state=agent.state if host.status.agent else "",
        armed=agent.armed,
        watchdog_armed=agent.watchdog is not None and agent.watchdog.armed,
        message=agent.message,
        sees_storage=_sees(agent.storage),
        sees_network=_sees(agent.network),
        issued=tuple(claim_of(certificate) for certificate in agent.certificates),
        accepted=accepted,
        bound_seconds=bound,
        eviction_bound_seconds=eviction_bound,
        evicted=tuple((e.host, e.incarnation) for e in agent.evictions),
    )


def _emptied(host: HAHost) -> bool:
    """Whether no VM is left on it. A host in maintenance disarms itself: with VMs on it, it stays under its watchdog."""
    vms = host.status.vms
    return vms is not None and vms.protected + vms.best_effort + vms.unprotected == 0


def claim_of(certificate: Certificate) -> Claim:
    """The certificate as a fact."""
    return Claim(
        host=certificate.host,
        incarnation=certificate.incarnation,
        issued_by=certificate.issued_by,
        silent_seconds=certificate.silent_seconds,
        bound_seconds=certificate.bound_seconds,
        evidence=certificate.evidence,
        issued_at=certificate.issued_at.isoformat(),
        kind=certificate.kind,
    )


def certificate_of(claim: Claim) -> Certificate:
    """The fact as a certificate."""
    return Certificate(
        host=claim.host,
        incarnation=claim.incarnation,
        issued_by=claim.issued_by,
        evidence=claim.evidence,
        silent_seconds=claim.silent_seconds,
        bound_seconds=claim.bound_seconds,
        issued_at=datetime.fromisoformat(claim.issued_at),
        kind=claim.kind,
    )


def standing(host: HAHost | None, incarnation: str, boot_id: str | None, *, node_exists: bool, node_boot_id: str | None) -> Standing:
    """Whether that incarnation is dead, back with another boot, or in doubt. Doubt restarts nothing and frees nothing.

    The HAHost says only what the agent reported last. A kubelet may be back, and run VMs, before the agent reports its new life:
    so a host whose Node shows another boot than the certified one is never dead. Kubelets write the id of the kernel's boot, as agents
    do. A Node that shows none leaves the certificate standing: a kubelet names its boot with the status that makes the Node Ready.
    """
    if boot_id is None:
        return Standing.DOUBT
    if node_exists and node_boot_id is not None and node_boot_id != boot_id:
        return Standing.RETURNED
    if host is None:
        # Host and Node were both removed: the certificate in the Failover is all there is, and nothing can have come back.
        return Standing.DOUBT if node_exists else Standing.DEAD
    agent, certificate = host.status.agent, host.status.certificate
    if agent is None or agent.incarnation is None:
        return Standing.DOUBT
    if agent.incarnation == incarnation:
        stands = certificate is not None and certificate.host == host.metadata.name and certificate.incarnation == incarnation
        return Standing.DEAD if stands else Standing.DOUBT
    rebooted = agent.boot_id is not None and agent.boot_id != boot_id
    return Standing.RETURNED if rebooted else Standing.DOUBT


def _sees(view: ChannelView | None) -> frozenset[str] | None:
    return frozenset(view.sees) if view is not None and view.ok else None

"""Where each host of a pool stands, and which statement of its death is believed.

Facts in, verdicts out. A certificate that is not believed is answered in words, because nothing restarts without one.
This module never infers death from silence: an absent report, a NotReady Node or a missing peer is doubt, and doubt is
resolved toward not starting a VM twice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from quorate_core.facts import CertificateKind, HostPhase
from quorate_core.timing import TimingValues

_SINCE = {
    CertificateKind.SILENCE: "silent for",
    CertificateKind.EVICTION: "evicted for",
    CertificateKind.CONFIRMED: "evicted, and without VMs by its own word, for",
}
ROUNDING_SECONDS = 0.01
"""Durations travel in slots and JSON; the drain time in every bound is hundreds of times larger."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A certificate as issued: one incarnation of a host is said to be dead. Durations in seconds on the issuer's clock."""

    host: str
    incarnation: str
    issued_by: str
    silent_seconds: float
    bound_seconds: float
    evidence: str = ""
    issued_at: str = ""
    kind: CertificateKind = CertificateKind.SILENCE


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known about one host: its own last report, the user's wish, and the certificate accepted before.

    `sees_storage` and `sees_network` are None when the host says nothing about that channel (unknown, not empty).
    `state` is the agent's own word: Starting, Joining, Armed, Fencing, Disarming, Disarmed, Refused; empty when it never reported.
    `evicted` are the (host, incarnation) that it says it has put out of the pool.
    `bound_seconds` is R_s and `eviction_bound_seconds` R_e with the timeout that its watchdog really has; None where not known to differ
    from the pool's.
    """

    name: str
    maintenance: bool = False
    incarnation: str | None = None
    boot_id: str | None = None
    state: str = ""
    armed: bool = False
    watchdog_armed: bool = False
    message: str = ""
    sees_storage: frozenset[str] | None = None
    sees_network: frozenset[str] | None = None
    issued: tuple[Claim, ...] = ()
    accepted: Claim | None = None
    evicted: tuple[tuple[str, str], ...] = ()
    bound_seconds: float | None = None
    eviction_bound_seconds: float | None = None

    @property
    def under_watchdog(self) -> bool:
        """Whether its last report says that a watchdog resets it when it goes silent."""
        return self.armed or self.watchdog_armed or self.state in ("Armed", "Fencing")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is concluded about one host, and why, in one sentence. `rejected` says why other certificates were not believed."""

    phase: HostPhase
    why: str
    certificate: Claim | None = None
    rejected: tuple[str, ...] = field(default=())


def judge(hosts: Sequence[HostFacts], timing: TimingValues | None) -> dict[str, Verdict]:
    """The verdict on every host of one pool. `timing` is the pool's: no shorter silence than its R_s proves a death; None where
    it has none that can work: then nothing proves one."""
    known = {h.name: h for h in hosts}
    standing = {h.name: h.accepted for h in hosts if h.accepted is not None and h.accepted.incarnation == h.incarnation}
    claims = [(issuer, claim) for issuer in hosts for claim in issuer.issued if claim.host in known]
    # A host that anyone soundly says is dead may not condemn others: of two that condemn each other, neither is believed.
    accused = {
        claim.host for issuer, claim in claims if issuer.name not in standing and not _flaw(claim, issuer, known[claim.host], timing)
    } | set(standing)
    accepted: dict[str, Claim] = dict(standing)
    rejected: dict[str, list[str]] = {}
    for issuer, claim in sorted(claims, key=lambda pair: (pair[1].host, pair[0].name)):
        if claim.host in accepted:
            continue
        flaw = _flaw(claim, issuer, known[claim.host], timing)
        if not flaw and issuer.name in accused:
            flaw = f"its issuer {issuer.name} is itself certified dead"
        if flaw:
            rejected.setdefault(claim.host, []).append(f"certificate by {issuer.name} for {claim.incarnation}: {flaw}")
        else:
            accepted[claim.host] = claim
    seen_by = _sightings(h for h in hosts if h.armed and h.name not in accepted)
    return {h.name: _verdict(h, hosts, accepted, seen_by, tuple(rejected.get(h.name, ()))) for h in hosts}


def _flaw(claim: Claim, issuer: HostFacts, victim: HostFacts, timing: TimingValues | None) -> str:
    """Why a certificate proves nothing, in words; empty when it is sound in itself."""
    if claim.issued_by != issuer.name:
        return f"it names {claim.issued_by} as issuer but was reported by {issuer.name}"
    if issuer.name == victim.name:
        return "a host cannot certify its own death"
    if victim.incarnation is None:
        return "the host has never reported an incarnation"
    if claim.incarnation != victim.incarnation:
        return f"stale: the host's present incarnation is {victim.incarnation}"
    if not issuer.armed:
        return f"its issuer {issuer.name} is not armed"
    if not victim.under_watchdog:
        return "the host was not under its watchdog, so its silence proves nothing"
    bound = _bound(claim.kind, victim, timing)
    if not claim.bound_seconds >= bound - ROUNDING_SECONDS:
        return f"its bound of {claim.bound_seconds:g} s is below the {bound:g} s that the pool's timing demands"
    if not claim.silent_seconds >= claim.bound_seconds:
        return f"watched silent for {claim.silent_seconds:g} s only, {claim.bound_seconds:g} s are needed"
    return ""


def _bound(kind: CertificateKind, victim: HostFacts, timing: TimingValues | None) -> float:
    """How long must have been waited for a certificate of that kind."""
    if timing is None:
        return math.inf
    match kind:
        case CertificateKind.SILENCE:
            return timing.release_after_silence_seconds if victim.bound_seconds is None else victim.bound_seconds
        case CertificateKind.EVICTION:
            known = victim.eviction_bound_seconds
            return timing.release_after_eviction_seconds if known is None else known
        case CertificateKind.CONFIRMED:
            return timing.drain_seconds


def _sightings(witnesses: Iterable[HostFacts]) -> dict[str, list[str]]:
    """Who is seen alive, on either channel, by which armed host; a host's sight of itself does not count."""
    seen: dict[str, list[str]] = {}
    for witness in witnesses:
        for name in sorted((witness.sees_storage or frozenset()) | (witness.sees_network or frozenset())):
            if name != witness.name:
                seen.setdefault(name, []).append(witness.name)
    return seen


def _verdict(
    host: HostFacts, hosts: Sequence[HostFacts], accepted: Mapping[str, Claim], seen_by: Mapping[str, list[str]], rejected: tuple[str, ...]
) -> Verdict:
    claim = accepted.get(host.name)
    if claim is not None:
        why = f"certified dead by {claim.issued_by}: {_SINCE[claim.kind]} {claim.silent_seconds:g} s, {claim.bound_seconds:g} s were needed"
        return Verdict(HostPhase.FENCED, why, claim, rejected)
    if host.maintenance:
        return Verdict(HostPhase.MAINTENANCE, "in maintenance by the user's wish", None, rejected)
    if host.state == "Refused":
        return Verdict(HostPhase.EXCLUDED, host.message or "its agent refuses to arm", None, rejected)
    evictors = [h.name for h in hosts if h.armed and h.name not in accepted and (host.name, host.incarnation) in h.evicted]
    if evictors:
        return Verdict(HostPhase.EVICTED, f"evicted by {', '.join(evictors[:3])}; not yet certified dead", None, rejected)
    if host.state == "Fencing":
        return Verdict(HostPhase.LOST, host.message or "it cannot prove that it is alive and fences itself", None, rejected)
    if not host.armed:
        why = host.message or ("its agent has not reported yet" if host.incarnation is None else "its agent is not armed yet")
        return Verdict(HostPhase.JOINING, why, None, rejected)
    witnesses = seen_by.get(host.name, [])
    if witnesses:
        return Verdict(HostPhase.LIVE, f"armed and seen by {', '.join(witnesses[:3])}", None, rejected)
    peers = [h.name for h in hosts if h.name != host.name and h.armed and h.name not in accepted]
    if not peers:
        return Verdict(HostPhase.LIVE, "armed by its own report; no other armed host could confirm it", None, rejected)
    why = f"none of the armed hosts ({', '.join(peers[:3])}) sees it on either channel, and none has certified its death yet"
    return Verdict(HostPhase.LOST, why, None, rejected)

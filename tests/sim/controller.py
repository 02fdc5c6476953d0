"""What the controller would say to a certificate: the very function that it judges with, on the facts that the two hosts report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate_core import hostphase, publish
from quorate_core.facts import CertificateKind, HostPhase
from quorate_core.slot import Issued
from quorate_core.statement import Phase
from quorate_core.timing import Timing

if TYPE_CHECKING:
    from .host import Host


def refusal(issuer: Host, victim: Host, issued: Issued, timing: Timing | None) -> str:
    """Why the controller would not believe a certificate that it ought to believe; "" if it does, or rightly waits.

    It rightly waits while the issuer is not armed, and where the victim has long been another incarnation.
    """
    if issuer.heart.phase is not Phase.ARMED or victim.heart.incarnation != issued.incarnation or timing is None:
        return ""
    claim = hostphase.Claim(
        victim.name,
        f"{issued.incarnation:016x}",
        issuer.name,
        issued.silent_seconds,
        issued.bound_seconds,
        kind=CertificateKind[issued.evidence.name],
    )
    judged = hostphase.judge([_facts(issuer, (claim,)), _facts(victim, ())], timing.values)[victim.name]
    if judged.phase is HostPhase.FENCED:
        return ""
    wrong = [why for why in judged.rejected if "bound of" in why or "watched silent" in why]
    return wrong[0] if wrong else ""


def _facts(host: Host, issued: tuple[hostphase.Claim, ...]) -> hostphase.HostFacts:
    heart = host.heart
    values = publish.timing_values(heart, heart.config) if heart.config is not None else None
    return hostphase.HostFacts(
        host.name,
        incarnation=f"{heart.incarnation:016x}",
        boot_id=host.boot_name,
        state=heart.phase.name.capitalize(),
        armed=heart.phase is Phase.ARMED,
        watchdog_armed=heart.licensed,
        issued=issued,
        bound_seconds=values.release_after_silence_seconds if values is not None else None,
        eviction_bound_seconds=values.release_after_eviction_seconds if values is not None else None,
    )

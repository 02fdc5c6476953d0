"""Puts the machine's state into words and numbers for report: the fields of `HAHost.status.agent`, as JSON. Pure."""

from collections.abc import Mapping
from typing import Any

from quorate_core import publish
from quorate_core.heart import Heart
from quorate_core.keeping import Mode
from quorate_core.statement import Phase


def state(heart: Heart, now: float, network_problem: str, issued_at: Mapping[tuple[int, int], str], boot_id: str) -> dict[str, Any]:
    """The state as report passes it on. `issued_at` holds wall-clock times of certificates, for people only.

    An incarnation that has not yet taken its slot is not named: until then the former one is still to be certified, under its own name.
    """
    config, member = heart.config, heart.member
    names = {m.slot: m.host for m in config.members} if config else {}
    seen = publish.statement(heart, config, member, now).views if config and member else None
    fresh = (
        bool(config)
        and heart.evidence_at is not None
        and config is not None
        and now - heart.evidence_at <= config.timing.licence_seconds / 2
    )
    storage_ok = fresh and not heart.disk_problem
    keeper = heart.keeper
    return {
        "incarnation": f"{heart.incarnation:016x}" if heart.claimed else None,
        "bootId": boot_id if heart.claimed else None,
        "armed": heart.phase is Phase.ARMED and heart.confirmed,
        "state": heart.phase.name.capitalize(),
        "boundSeconds": publish.timing_values(heart, config).release_after_silence_seconds if heart.claimed and config else None,
        "message": heart.message,
        "configHash": config.hash.hex() if config else None,
        "storage": {
            "ok": storage_ok,
            "sees": _named(seen.storage, names) if seen else [],
            "message": "" if storage_ok else heart.disk_problem or heart.no_evidence,
        },
        "network": {"ok": not network_problem, "sees": _named(seen.network, names) if seen else [], "message": network_problem},
        "watchdog": {
            "device": keeper.device if keeper else "",
            "identity": keeper.identity if keeper else "",
            "timeoutSeconds": keeper.timeout_seconds if keeper and keeper.timeout_seconds else None,
            "armed": bool(keeper) and keeper is not None and keeper.mode in (Mode.OPEN, Mode.LICENSED, Mode.EXPIRED),
        },
        "certificates": [
            {
                "host": names.get(c.slot, ""),
                "incarnation": f"{c.incarnation:016x}",
                "issuedBy": heart.host,
                "evidence": f"slot {c.slot} did not change for {c.silent_seconds:.1f} s (R_s {c.bound_seconds:g} s); no packet either",
                "silentSeconds": c.silent_seconds,
                "boundSeconds": c.bound_seconds,
                "issuedAt": issued_at.get((c.slot, c.incarnation)),
            }
            for c in heart.issued
            if c.slot in names
        ],
    }


def _named(slots: int, names: Mapping[int, str]) -> list[str]:
    return [names[index] for index in sorted(names) if slots >> index & 1]

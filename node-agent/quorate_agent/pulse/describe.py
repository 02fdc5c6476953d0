"""Puts the machine's state into words and numbers for report: the fields of `HAHost.status.agent` and the metrics, as JSON. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quorate_agent.histogram import Histogram
from quorate_core import publish
from quorate_core.heart import Heart
from quorate_core.keeping import Mode
from quorate_core.slot import Evidence, Issued
from quorate_core.statement import Phase

_LONGEST_MESSAGE = 1000
_EVIDENCE = {
    Evidence.SILENCE: "slot {slot} did not change for {waited:.1f} s (R_s {bound:g} s); no packet either",
    Evidence.EVICTION: "evicted {waited:.1f} s ago (R_e {bound:g} s), by a record on the heartbeat disk",
    Evidence.CONFIRMED: "evicted, and its slot says that none of its VMs is left ({waited:.1f} s ago, {bound:g} s needed)",
}


@dataclass(frozen=True, slots=True)
class Troubles:
    """What the shell knows and the machine does not: a sentence for each network path ("": it works), dropped packets, single disks;
    `complaints`: what it could not read of the configuration or of the keeper."""

    paths: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    disks: str = ""
    complaints: tuple[str, ...] = ()


def state(heart: Heart, now: float, troubles: Troubles, issued_at: Mapping[tuple[int, int], str], boot_id: str) -> dict[str, Any]:
    """The state as report passes it on. `issued_at` holds wall-clock times of certificates, for people only.

    An incarnation that has not yet taken its slot is not named: until then the former one is still to be certified, under its own name.
    """
    config, member = heart.config, heart.member
    names = {m.slot: m.host for m in config.members} if config else {}
    said = publish.statement(heart, config, member, now) if config and member else None
    published = publish.timing_values(heart, config) if heart.claimed and config else None
    fresh = config is not None and heart.evidence_at is not None and now - heart.evidence_at <= config.timing.licence_seconds / 2
    storage_ok = fresh and not heart.disk_problem
    storage = [] if storage_ok else [heart.disk_problem or heart.no_evidence or "no storage cycle has come back of late"]
    network = [*filter(None, troubles.paths), *troubles.dropped]
    armed = heart.phase is Phase.ARMED and heart.confirmed
    message = [heart.message, *troubles.complaints, *_cares(heart, names), *(() if armed else troubles.dropped)]
    keeper = heart.keeper
    return {
        "incarnation": f"{heart.incarnation:016x}" if heart.claimed else None,
        "bootId": boot_id if heart.claimed else None,
        "armed": armed,
        # Until its keeper has let go of the licence, other disks would be taken from under it.
        "state": "Disarming" if heart.phase is Phase.DISARMED and heart.deadline is not None else publish.phase(heart).name.capitalize(),
        "boundSeconds": published.release_after_silence_seconds if published else None,
        "evictionBoundSeconds": published.release_after_eviction_seconds if published else None,
        "storageless": heart.storageless and heart.deadline is not None,
        "message": "; ".join(filter(None, message)),
        "configHash": config.hash.hex() if config else None,
        "storage": _channel(storage_ok, said.views.storage if said else 0, names, [*storage, troubles.disks]),
        # One path that works is a network; what is wrong with another is said all the same.
        "network": _channel("" in troubles.paths, said.views.network if said else 0, names, network),
        "watchdog": {
            "device": keeper.device if keeper else "",
            "identity": keeper.identity if keeper else "",
            "timeoutSeconds": keeper.timeout_seconds if keeper and keeper.timeout_seconds else None,
            "armed": keeper is not None and keeper.mode in (Mode.OPEN, Mode.LICENSED, Mode.EXPIRED),
        },
        # Of its own former life it has nothing to report any more once it has been let in.
        "certificates": [
            _certificate(c, names, heart.host, issued_at)
            for c in heart.issued
            if c.slot in names and not (heart.confirmed and names[c.slot] == heart.host)
        ],
        "evictions": [
            {"host": names[e.slot], "incarnation": f"{e.incarnation:016x}"}
            for e in heart.evictions
            if e.slot in names and e.incarnation not in heart.dead.get(e.slot, frozenset())
        ],
    }  # fmt: skip


def metrics(
    heart: Heart,
    now: float,
    cycles: Histogram,
    failed_cycles: int,
    warnings: Mapping[str, int],
    lateness: Mapping[str, Any],
    lines_lost: Mapping[str, int],
) -> dict[str, Any]:
    """The numbers for report's metrics. Ages and what is left in seconds. `lines_lost` are lines of the log, by process."""
    names = {m.slot: m.host for m in heart.config.members} if heart.config else {}
    return {
        "peers": {
            names[index]: {"storage": _age(peer.changed_at, now), "network": _age(peer.heard_at, now)}
            for index, peer in heart.peers.items()
            if index in names
        },
        "cycles": {**cycles.to_json(), "failed": failed_cycles},
        "petLateness": lateness,
        "warnings": dict(warnings),
        "logLinesLost": dict(lines_lost),
        "evidenceAge": _age(heart.evidence_at, now),
        "alarms": len(heart.alarms),
        "licenceLeft": round(heart.deadline - now, 3) if heart.deadline is not None else None,
    }


def _cares(heart: Heart, names: Mapping[int, str]) -> list[str]:
    """What an armed host has to say beside being armed, or why others cannot know yet that it is."""
    alarms = [alarm.sentence(names[alarm.slot]) for alarm in heart.alarms if alarm.slot in names]
    alone = (
        "it has no storage and lives on the word of all others: any further loss fences it"
        if heart.storageless and heart.deadline is not None
        else ""
    )
    why = (
        "its keeper has not taken the licence" if not heart.licensed else "an older write of this host may still land on the heartbeat disk"
    )
    unsaid = f"not yet said to be armed: {why}" if publish.phase(heart) is not heart.phase else ""
    return [*alarms, unsaid, alone, f"a partition is undecided: {heart.undecided}" if heart.undecided else ""]


def _age(at: float | None, now: float) -> float | None:
    return round(now - at, 3) if at is not None else None


def _channel(ok: bool, seen: int, names: Mapping[int, str], problems: list[str]) -> dict[str, Any]:
    said = "; ".join(filter(None, problems))
    return {"ok": ok, "sees": [names[i] for i in sorted(names) if seen >> i & 1], "message": said[:_LONGEST_MESSAGE]}


def _certificate(issued: Issued, names: Mapping[int, str], issuer: str, issued_at: Mapping[tuple[int, int], str]) -> dict[str, Any]:
    evidence = _EVIDENCE[issued.evidence].format(slot=issued.slot, waited=issued.silent_seconds, bound=issued.bound_seconds)
    return {
        "host": names[issued.slot],
        "incarnation": f"{issued.incarnation:016x}",
        "issuedBy": issuer,
        "kind": issued.evidence.name.capitalize(),
        "evidence": evidence,
        "silentSeconds": issued.silent_seconds,
        "boundSeconds": issued.bound_seconds,
        "issuedAt": issued_at.get((issued.slot, issued.incarnation)),
    }

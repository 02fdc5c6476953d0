"""A heartbeat disk in words: what every block says, and why a block says nothing. Pure; no age is ever made up, as no two clocks agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorate_agent.statefile import document
from quorate_agent.statefile.document import Entry
from quorate_core import slot
from quorate_core.backup import Backup
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Malformed

_EVIDENCE = {
    Evidence.SILENCE: "its slot did not change",
    Evidence.EVICTION: "it was evicted and its time ran out",
    Evidence.CONFIRMED: "it was evicted and says that no VM is left on it",
}


@dataclass(frozen=True, slots=True)
class Read:
    """A disk as it was read at one moment. `copies`: of the backup, or why there is none."""

    path: str
    size_bytes: int
    cached: bool
    header: bytes
    slots: Sequence[bytes]
    copies: Sequence[Backup | Malformed]


def pool_of(header: bytes) -> bytes | str:
    """The pool id of the header, or why it has none."""
    try:
        return slot.decode_header(header)
    except Malformed as why:
        return str(why)


def decoded(blocks: Sequence[bytes]) -> dict[int, Slot | str]:
    """Every slot that was ever written: what it says, or why it cannot be read."""
    found: dict[int, Slot | str] = {}
    for index, block in enumerate(blocks):
        if not slot.is_empty(block):
            try:
                found[index] = slot.decode(block)
            except Malformed as why:
                found[index] = str(why)
    return found


def to_json(read: Read) -> dict[str, Any]:
    """The disk as JSON."""
    owner = pool_of(read.header)
    found = decoded(read.slots)
    return {
        "path": read.path,
        "sizeBytes": read.size_bytes,
        "cached": read.cached,
        "header": {"poolId": owner.hex()} if isinstance(owner, bytes) else {"error": owner},
        "slots": [{"slot": i, "error": one} if isinstance(one, str) else _slot(i, one, _names(found)) for i, one in found.items()],
        "backup": [{"error": str(one)} if isinstance(one, Malformed) else _backup(one) for one in read.copies],
    }


def to_text(read: Read) -> str:
    """The disk for people."""
    said = to_json(read)
    header = said["header"]
    lines = [f"{read.path}: {read.size_bytes} bytes" + (", read through this host's cache" if read.cached else "")]
    lines.append(f"header: pool {header['poolId']}" if "poolId" in header else f"header: {header['error']}")
    rows: list[Sequence[str]] = [("SLOT", "HOST", "PHASE", "INCARNATION", "SEQUENCE", "NETWORK", "STORAGE", "PROPOSES", "WEIGHT", "NOTES")]
    for one in said["slots"]:
        if "error" in one:
            rows.append((str(one["slot"]), "-", "unreadable", "-", "-", "-", "-", "-", "-", one["error"]))
        else:
            sets = (" ".join(map(str, one["views"][name])) or "-" for name in ("network", "storage", "proposal"))
            texts = (one["host"], one["phase"], one["incarnation"], one["sequence"], *sets, one["weight"], _notes(one))
            rows.append((str(one["slot"]), *map(str, texts)))
    lines += ["", *table(rows)] if len(rows) > 1 else ["", "no slot was ever written"]
    for one in said["slots"]:
        lines += [f"slot {one['slot']}: {sentence}" for sentence in one.get("says", [])]
    lines.append("")
    for number, one in enumerate(said["backup"]):
        lines.append(f"backup copy {number}: {one['error'] if 'error' in one else _backup_words(one)}")
    return printable(lines)


def printable(lines: Sequence[str]) -> str:
    """Lines as one text. What lies on a disk may hold anything, also what moves a terminal's cursor."""
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _names(found: Mapping[int, Slot | str]) -> dict[int, str]:
    return {index: one.statement.host for index, one in found.items() if isinstance(one, Slot)}


def _slot(index: int, found: Slot, names: Mapping[int, str]) -> dict[str, Any]:
    said, timing = found.statement, found.timing
    return {
        "slot": index,
        "host": said.host,
        "statedSlot": said.slot,
        "poolId": found.pool_id.hex(),
        "bootId": found.boot_id.hex(),
        "incarnation": f"{said.incarnation:016x}",
        "sequence": said.sequence,
        "configHash": said.config_hash.hex(),
        "phase": said.phase.name.capitalize(),
        "storageless": said.storageless,
        "watchdogArmed": found.watchdog_armed,
        "stopped": found.stopped,
        "weight": found.weight,
        "views": {
            "network": _members(said.views.network),
            "storage": _members(said.views.storage),
            "proposal": _members(said.views.proposal),
        },
        "knows": [{"slot": k.slot, "incarnation": f"{k.incarnation:016x}", "answersPacket": k.echo or None} for k in said.known],
        "required": _members(found.required),
        "intent": _members(found.intent),
        "evictions": [{"slot": v, "incarnation": f"{life:016x}"} for v, life in found.evictions],
        "certificates": [_certificate(c) for c in found.certificates],
        "timing": {
            "licenceSeconds": timing.licence_seconds,
            "watchdogSeconds": timing.watchdog_seconds,
            "cycleLimitSeconds": timing.cycle_limit_seconds,
            "granularitySeconds": timing.granularity_seconds,
            "clockRateBound": timing.clock_rate_bound,
            "drainSeconds": timing.drain_seconds,
            "kappa": timing.kappa,
            "releaseAfterEvictionSeconds": timing.release_after_eviction_seconds,
            "releaseAfterSilenceSeconds": timing.release_after_silence_seconds,
        },
        "says": _sentences(found, names),
    }  # fmt: skip


def _certificate(issued: Issued) -> dict[str, Any]:
    return {
        "slot": issued.slot,
        "incarnation": f"{issued.incarnation:016x}",
        "evidence": issued.evidence.name.capitalize(),
        "silentSeconds": issued.silent_seconds,
        "boundSeconds": issued.bound_seconds,
    }


def _sentences(found: Slot, names: Mapping[int, str]) -> list[str]:
    def whom(index: int) -> str:
        return f"slot {index} ({names[index]})" if index in names else f"slot {index}"

    sentences = []
    if found.intent:
        sentences.append(f"proposes that only {', '.join(whom(i) for i in _members(found.intent))} live on")
    sentences += [f"has evicted {whom(victim)}, incarnation {life:016x}" for victim, life in found.evictions]
    sentences += [
        f"certifies {whom(c.slot)}, incarnation {c.incarnation:016x}, dead: {_EVIDENCE[c.evidence]}; "
        f"{c.silent_seconds:.1f} s, {c.bound_seconds:g} s needed"
        for c in found.certificates
    ]
    return sentences


def _notes(one: Mapping[str, Any]) -> str:
    notes = ["watchdog runs" if one["watchdogArmed"] else "no watchdog"]
    notes += [word for word, given in (("storageless", one["storageless"]), ("stopped", one["stopped"])) if given]
    if one["statedSlot"] != one["slot"]:
        notes.append(f"it says that it is slot {one['statedSlot']}")
    return ", ".join(notes)


def _backup(found: Backup) -> dict[str, Any]:
    said: dict[str, Any] = {"poolId": found.pool_id.hex(), "generation": found.generation, "bytes": len(found.payload)}
    try:
        entry = Entry.from_bytes(found.payload)
        read = document.read(entry.text)
    except document.Unreadable as why:
        return said | {"unusable": str(why)}
    kinds = [str(one["kind"]) for one in read.manifests]
    said |= {"pool": read.pool, "writtenBy": entry.written_by, "writtenAt": entry.written_at}
    return said | {"objects": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}


def _backup_words(one: Mapping[str, Any]) -> str:
    head = f"generation {one['generation']}, {one['bytes']} bytes"
    if "unusable" in one:
        return f"{head}, of no use: {one['unusable']}"
    objects = ", ".join(f"{count} {kind}" for kind, count in one["objects"].items())
    return f"{head}, of pool {one['pool']}, written by {one['writtenBy']} at {one['writtenAt']}: {objects}"


def _members(mask: int) -> list[int]:
    return [index for index in range(mask.bit_length()) if mask >> index & 1]

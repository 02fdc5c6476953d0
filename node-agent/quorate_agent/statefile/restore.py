"""Reads the newest backup: its manifests as YAML that `kubectl apply -f -` takes, its plan as a table. Writes nothing anywhere."""

from typing import Any

from quorate_agent.statefile import describe, document
from quorate_agent.statefile.device import Device, Unusable
from quorate_agent.statefile.document import Document, Entry
from quorate_core import backup
from quorate_core.backup import Backup


def newest(path: str) -> tuple[Backup, Entry, Document]:
    """The newest usable backup of any pool on that disk: a disk that was given to another pool still holds the old one. Raises Unusable."""
    with Device(path) as device:
        copies = [device.copy(number) for number in range(backup.COPIES)]
    why = "; ".join(f"copy {number}: {copy}" for number, copy in enumerate(copies) if not isinstance(copy, Backup))
    for found in sorted((copy for copy in copies if isinstance(copy, Backup)), key=lambda one: one.generation, reverse=True):
        try:
            entry = Entry.from_bytes(found.payload)
            return found, entry, document.read(entry.text)
        except document.Unreadable as error:
            why = "; ".join(filter(None, (why, f"generation {found.generation}: {error}")))
    raise Unusable(f"{path}: no usable backup: {why}")


def to_table(found: Backup, entry: Entry, read: Document) -> str:
    """What was planned when the backup was made: which slot was whose, where each VM ran and would have restarted."""
    wish = read.plan.get("planExistsFor")
    lines = [
        f"pool {read.pool} (id {found.pool_id.hex()}), generation {found.generation}, written by {entry.written_by} at {entry.written_at}",
        f"a plan existed for {wish if wish is not None else 'an unknown number of'} host failures",
        "",
    ]
    hosts = [(name, *_words(one, "slot")) for name, one in _rows(read, "hosts")]
    vms = [(name, *_words(one, "host", "plannedHost", "zone")) for name, one in _rows(read, "vms")]
    lines += [*describe.table([("HOST", "SLOT"), *hosts]), "", *describe.table([("VM", "HOST", "PLANNED", "ZONE"), *vms])]
    return describe.printable(lines)


def _rows(read: Document, name: str) -> list[tuple[str, dict[str, Any]]]:
    found = read.plan.get(name)
    return [(key, one) for key, one in found.items() if isinstance(one, dict)] if isinstance(found, dict) else []


def _words(one: dict[str, Any], *names: str) -> list[str]:
    return ["-" if one.get(name) is None else str(one[name]) for name in names]


def to_yaml(found: Backup, entry: Entry, read: Document) -> str:
    """The manifests, with a comment that says what they are."""
    import yaml  # which a host may lack; the table needs none

    head = (
        f"# Pool {read.pool} (id {found.pool_id.hex()}), backup of generation {found.generation},\n"
        f"# written by {entry.written_by} at {entry.written_at}.\n"
    )
    return head + yaml.safe_dump_all(read.manifests, sort_keys=False, explicit_start=True, allow_unicode=True)

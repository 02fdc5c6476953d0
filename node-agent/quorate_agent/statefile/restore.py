"""Prints the manifests of the newest backup as YAML that `kubectl apply -f -` takes. Writes nothing anywhere."""

import yaml

from quorate_agent.statefile import document
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


def to_yaml(found: Backup, entry: Entry, read: Document) -> str:
    """The manifests, with a comment that says what they are."""
    head = (
        f"# Pool {read.pool} (id {found.pool_id.hex()}), backup of generation {found.generation},\n"
        f"# written by {entry.written_by} at {entry.written_at}.\n"
    )
    return head + yaml.safe_dump_all(read.manifests, sort_keys=False, explicit_start=True, allow_unicode=True)

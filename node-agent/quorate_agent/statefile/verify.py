"""What is wrong with a heartbeat disk, one sentence each. Pure. A slot that was never written is no fault, nor is a disk with no backup."""

from quorate_agent.statefile import describe, document
from quorate_agent.statefile.describe import Read
from quorate_agent.statefile.document import Entry
from quorate_core import backup, slot
from quorate_core.backup import Backup
from quorate_core.statement import Malformed

_NEVER = "never written"


def faults(read: Read) -> list[str]:
    """Everything that a live pool would stumble over, the header first; empty: the disk is sound."""
    owner = describe.pool_of(read.header)
    found = [f"header: {owner}"] if isinstance(owner, str) else []
    hosts: dict[str, int] = {}
    for index, one in describe.decoded(read.slots).items():
        if isinstance(one, str):
            found.append(f"slot {index}: {one}")
            continue
        said = one.statement
        if isinstance(owner, bytes) and one.pool_id != owner:
            found.append(f"slot {index}: {said.host} wrote it for pool {one.pool_id.hex()}; the disk belongs to pool {owner.hex()}")
        if said.slot != index:
            found.append(f"slot {index}: {said.host} wrote here, but says that its slot is {said.slot}")
        if said.host in hosts:
            found.append(f"slot {index}: host {said.host} is also in slot {hosts[said.host]}")
        hosts.setdefault(said.host, index)
        for condemned, word in [(c, "evicts") for c, _ in one.evictions] + [(c.slot, "certifies") for c in one.certificates]:
            if condemned == said.slot:
                found.append(f"slot {index}: {said.host} {word} itself")
    return found + [sentence for number, copy in enumerate(read.copies) for sentence in _of_copy(number, copy, owner)]


def _of_copy(number: int, copy: Backup | Malformed, owner: bytes | str) -> list[str]:
    if isinstance(copy, Malformed):
        return [] if str(copy) == _NEVER else [f"backup copy {number}: {copy}"]
    if isinstance(owner, bytes) and copy.pool_id != owner:
        return [f"backup copy {number}: it belongs to pool {copy.pool_id.hex()}; the disk to pool {owner.hex()}"]
    try:
        document.read(Entry.from_bytes(copy.payload).text)
    except document.Unreadable as why:
        return [f"backup copy {number}: {why}"]
    return []


def summary(read: Read) -> str:
    """One sentence about a sound disk."""
    owner = describe.pool_of(read.header)
    written = sum(not slot.is_empty(block) for block in read.slots)
    known = [copy for copy in read.copies if isinstance(copy, Backup)]
    best = backup.newest(known, owner) if isinstance(owner, bytes) else None
    kept = f"backup of generation {best.generation}" if best else "no backup"
    return f"{read.path}: sound: pool {owner.hex() if isinstance(owner, bytes) else owner}, {written} slots written, {kept}"

"""The heartbeat disks that a licence belongs to, for the pulse that may come after this one. On the host's tmpfs; gone with the boot.

The members watch this host on those disks: evidence from others, copies of them perhaps, would renew a licence that they see ending.
"""

import json
from pathlib import Path

from quorate_agent import wire


def save(boot_id: str, paths: tuple[str, ...]) -> None:
    """Put it in place, whole or not at all. Raises OSError."""
    fresh = Path(wire.DISK_FILE + ".new")
    fresh.write_text(json.dumps({"version": wire.VERSION, "bootId": boot_id, "disks": paths}))
    fresh.replace(wire.DISK_FILE)


def load(boot_id: str) -> tuple[str, ...]:
    """The disks' paths; none if none were saved in this boot. Raises BadMessage for what cannot be read, OSError."""
    try:
        fields = wire.parse(Path(wire.DISK_FILE).read_text(), wire.DISK_FILE)
    except FileNotFoundError:
        return ()
    if fields.get("bootId") != boot_id:
        return ()
    found = fields.get("disks", [fields.get("disk")])
    if not isinstance(found, list) or not found or not all(isinstance(path, str) for path in found):
        raise wire.BadMessage(f"{wire.DISK_FILE}: disks: {found!r} is not a list of paths")
    return tuple(found)

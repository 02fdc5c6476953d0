"""The heartbeat disk that a licence belongs to, for the pulse that may come after this one. On the host's tmpfs; gone with the boot.

The members watch this host on that disk: evidence from another one, a copy of it perhaps, would renew a licence that they see ending.
"""

import json
from pathlib import Path

from quorate_agent import wire


def save(boot_id: str, path: str) -> None:
    """Put it in place, whole or not at all. Raises OSError."""
    fresh = Path(wire.DISK_FILE + ".new")
    fresh.write_text(json.dumps({"version": wire.VERSION, "bootId": boot_id, "disk": path}))
    fresh.replace(wire.DISK_FILE)


def load(boot_id: str) -> str:
    """The disk's path; "" if none was saved in this boot. Raises BadMessage for one that cannot be read, OSError."""
    try:
        fields = wire.parse(Path(wire.DISK_FILE).read_text(), wire.DISK_FILE)
    except FileNotFoundError:
        return ""
    return str(fields.get("disk", "")) if fields.get("bootId") == boot_id else ""

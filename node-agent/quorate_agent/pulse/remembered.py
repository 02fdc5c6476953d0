"""The configuration that a licence belongs to, for the pulse that may come after this one. On the host's tmpfs; gone with the boot.

The members watch this host in its slot and on its disks: evidence from others, copies of them perhaps, would renew a licence that they see
ending. And a host whose entry has left the pool's configuration has to go on under the old one until its licence is given back.
"""

import json
import os
from pathlib import Path

from quorate_agent import wire


def save(boot_id: str, config: wire.PulseConfig) -> None:
    """Put it in place, whole or not at all; it holds the pool's key. Raises OSError."""
    fresh = Path(wire.LICENCE_FILE + ".new")
    text = json.dumps({"version": wire.VERSION, "bootId": boot_id, "config": json.loads(config.to_json())})
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(wire.LICENCE_FILE)


def load(boot_id: str) -> wire.PulseConfig | None:
    """The configuration; None if none was saved in this boot. Raises BadMessage for what cannot be read, OSError."""
    try:
        fields = wire.parse(Path(wire.LICENCE_FILE).read_text(), wire.LICENCE_FILE)
    except FileNotFoundError:
        return None
    if fields.get("bootId") != boot_id:
        return None
    try:
        return wire.PulseConfig.from_json(json.dumps(fields.get("config")))
    except wire.BadMessage as error:
        raise wire.BadMessage(f"{wire.LICENCE_FILE}: config: {error}") from error

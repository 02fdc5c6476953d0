"""The marker on the host's tmpfs: what the keeper is bound to, for the keeper that may come after it. Gone with the boot, as it must be."""

import json
from dataclasses import asdict
from pathlib import Path

from quorate_agent import messages
from quorate_core.keeping import Marker, Mode


def save(folder: Path, marker: Marker) -> None:
    """Put the marker in place, whole or not at all. Raises OSError."""
    fresh = folder / (messages.MARKER_FILE + ".new")
    fresh.write_text(json.dumps({"version": messages.VERSION, **asdict(marker)}))
    fresh.replace(folder / messages.MARKER_FILE)


def load(folder: Path) -> Marker | None:
    """The marker, or None if there is none. Raises BadMessage for one that cannot be read: doubt about a licence is not freedom from it."""
    try:
        text = (folder / messages.MARKER_FILE).read_text()
    except FileNotFoundError:
        return None
    fields = messages.parse(text, messages.MARKER_FILE)
    try:
        return Marker(
            boot_id=str(fields["boot_id"]),
            device=str(fields["device"]),
            mode=Mode(fields["mode"]),
            incarnation=str(fields["incarnation"]),
            deadline=float(fields["deadline"]),
            asked_timeout_seconds=float(fields["asked_timeout_seconds"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise messages.BadMessage(f"{messages.MARKER_FILE}: {error}") from error

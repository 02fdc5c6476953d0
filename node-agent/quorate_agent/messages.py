"""What the agent's three processes say to each other: versioned JSON over Unix sockets, and the names of sockets and files.

A message of another version is refused, never guessed at. The keeper imports this: it must stay small in memory.
"""

import json
from typing import Any

VERSION = 1
CONFIG_FILE = "config.json"
KEEPER_SOCKET = "keeper.sock"
PULSE_SOCKET = "pulse.sock"
MARKER_FILE = "marker.json"
LICENCE_FILE = "licence.json"
KEEPER_LOCK = "keeper.lock"
PULSE_LOCK = "pulse.lock"
MAX_MESSAGE_BYTES = 64 * 1024


class BadMessage(Exception):
    """A message or file that cannot be used; the message names the field."""


def message(kind: str, **fields: Any) -> bytes:
    """A message for one of the sockets."""
    return json.dumps({"version": VERSION, "kind": kind, **fields}, separators=(",", ":")).encode()


def parse(text: str | bytes, what: str) -> dict[str, Any]:
    """The fields of a message or file. Raises BadMessage."""
    try:
        fields = json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadMessage(f"{what}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadMessage(f"{what}: not a JSON object")
    if fields.get("version") != VERSION:
        raise BadMessage(f"{what}: version {fields.get('version')!r}; this agent speaks version {VERSION}")
    return fields

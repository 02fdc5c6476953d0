"""What the agent's three processes say to each other: versioned JSON over Unix sockets, and the configuration file that pulse reads.

Standard library and the core only: keeper and pulse import this. A message of another version is refused, never guessed at.

`config.json` in the run directory is all that pulse needs; report writes it, tests and people may (see PulseConfig for the fields):

    {"version": 1, "pool": "demo", "poolId": "5f0c...32 hex digits", "enabled": true, "disabledReason": "",
     "licenceSeconds": 20, "watchdogSeconds": 8, "watchdogDevice": "/dev/watchdog", "disk": "/dev/disk/by-id/...",
     "port": 6940, "keyHex": "at least 32 hex digits",
     "members": [{"host": "node-1", "slot": 0, "address": "10.0.0.1", "excluded": false}]}
"""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from quorate_core.pool import Member, PoolConfig
from quorate_core.timing import Timing

VERSION = 1
CONFIG_FILE = "config.json"
KEEPER_SOCKET = "keeper.sock"
PULSE_SOCKET = "pulse.sock"
MARKER_FILE = "marker.json"
DISK_FILE = "disk.json"
KEEPER_LOCK = "keeper.lock"
PULSE_LOCK = "pulse.lock"
MAX_MESSAGE_BYTES = 64 * 1024


class BadMessage(Exception):
    """A message or file that cannot be used; the message names the field."""


@dataclass(frozen=True, slots=True)
class MemberAddress:
    """A member of the pool and where its packets come from and go to."""

    host: str
    slot: int
    address: str
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class PulseConfig:
    """Everything pulse is told. Times in seconds; `key` signs the packets and never appears in a log."""

    pool: str
    pool_id: str
    enabled: bool
    disabled_reason: str
    licence_seconds: float
    watchdog_seconds: float
    watchdog_device: str
    disk: str
    port: int
    key: bytes
    members: tuple[MemberAddress, ...]

    def core(self) -> PoolConfig:
        """The part that decides. Raises BadMessage for values that contradict each other."""
        try:
            members = tuple(Member(m.slot, m.host, m.excluded) for m in self.members)
            derived = Timing(self.licence_seconds, self.watchdog_seconds)
            return PoolConfig(bytes.fromhex(self.pool_id), members, derived, self.enabled, self.disabled_reason)
        except ValueError as error:
            raise BadMessage(f"{CONFIG_FILE}: {error}") from error

    def to_json(self) -> str:
        """The text of the file."""
        members = [{"host": m.host, "slot": m.slot, "address": m.address, "excluded": m.excluded} for m in self.members]
        fields = {
            "version": VERSION,
            "pool": self.pool,
            "poolId": self.pool_id,
            "enabled": self.enabled,
            "disabledReason": self.disabled_reason,
            "licenceSeconds": self.licence_seconds,
            "watchdogSeconds": self.watchdog_seconds,
            "watchdogDevice": self.watchdog_device,
            "disk": self.disk,
            "port": self.port,
            "keyHex": self.key.hex(),
            "members": members,
        }
        return json.dumps(fields, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "PulseConfig":
        """The configuration in that text. Raises BadMessage, naming the field."""
        fields = parse(text, CONFIG_FILE)
        members = tuple(_member(one, number) for number, one in enumerate(_field(fields, "members", list)))
        config = cls(
            pool=_field(fields, "pool", str),
            pool_id=_hex(fields, "poolId", 16, exact=True).hex(),
            enabled=_field(fields, "enabled", bool),
            disabled_reason=_field(fields, "disabledReason", str, ""),
            licence_seconds=_number(fields, "licenceSeconds"),
            watchdog_seconds=_number(fields, "watchdogSeconds"),
            watchdog_device=_field(fields, "watchdogDevice", str),
            disk=_field(fields, "disk", str),
            port=_field(fields, "port", int),
            key=_hex(fields, "keyHex", 16),
            members=members,
        )
        if not 0 < config.port < 65536:
            raise BadMessage(f"{CONFIG_FILE}: port: {config.port} is not within 1..65535")
        config.core()
        return config


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


def _member(fields: Any, number: int) -> MemberAddress:
    where = f"members[{number}]"
    if not isinstance(fields, dict):
        raise BadMessage(f"{CONFIG_FILE}: {where}: not an object")
    address = _field(fields, "address", str, where=where)
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise BadMessage(f"{CONFIG_FILE}: {where}.address: {error}") from error
    excluded = _field(fields, "excluded", bool, False, where=where)
    return MemberAddress(_field(fields, "host", str, where=where), _field(fields, "slot", int, where=where), address, excluded)


def _field(fields: dict[str, Any], name: str, kind: type, default: Any = None, *, where: str = "") -> Any:
    value = fields.get(name, default)
    # bool is an int in Python; a port of True is still a mistake.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadMessage(f"{CONFIG_FILE}: {where + '.' if where else ''}{name}: {value!r} is not a {kind.__name__}")
    return value


def _number(fields: dict[str, Any], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMessage(f"{CONFIG_FILE}: {name}: {value!r} is not a number")
    return float(value)


def _hex(fields: dict[str, Any], name: str, size: int, *, exact: bool = False) -> bytes:
    try:
        value = bytes.fromhex(_field(fields, name, str))
    except ValueError as error:
        raise BadMessage(f"{CONFIG_FILE}: {name}: not hex digits") from error
    if len(value) < size or (exact and len(value) != size):
        raise BadMessage(f"{CONFIG_FILE}: {name}: {len(value)} bytes; {'exactly' if exact else 'at least'} {size} are needed")
    return value

"""The configuration file that pulse reads, `config.json` in the run directory; and, for those who need both, the messages of `messages.py`.

It is all that pulse needs; report writes it, tests and people may (see PulseConfig for the fields):

    {"version": 1, "pool": "demo", "poolId": "5f0c...32 hex digits", "enabled": true, "disabledReason": "",
     "licenceSeconds": 20, "watchdogSeconds": 8, "watchdogDevice": "/dev/watchdog", "disks": ["/dev/disk/by-id/..."],
     "disksGeneration": 1, "port": 6940, "keyHex": "at least 32 hex digits", "interfaces": ["eth0", "eth1"],
     "members": [{"host": "node-1", "slot": 0, "addresses": ["10.0.0.1", "10.1.0.1"], "excluded": false, "weight": 0}]}

`interfaces` may be left out: then each member has one address and its path has no name. One `disk` and one `address` are read as well.
Without `disksGeneration` it is 0: a release that did not count how often the disks were changed wrote the file, or the licence.
Standard library and the core only: pulse imports this.
"""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from quorate_agent.messages import (
    CONFIG_FILE,
    KEEPER_LOCK,
    KEEPER_SOCKET,
    LICENCE_FILE,
    MARKER_FILE,
    MAX_MESSAGE_BYTES,
    PULSE_LOCK,
    PULSE_SOCKET,
    VERSION,
    BadMessage,
    message,
    parse,
)
from quorate_core.pool import Member, PoolConfig
from quorate_core.timing import Timing

__all__ = [
    "CONFIG_FILE",
    "KEEPER_LOCK",
    "KEEPER_SOCKET",
    "LICENCE_FILE",
    "MARKER_FILE",
    "MAX_MESSAGE_BYTES",
    "PULSE_LOCK",
    "PULSE_SOCKET",
    "VERSION",
    "BadMessage",
    "MemberAddress",
    "PulseConfig",
    "message",
    "parse",
]


@dataclass(frozen=True, slots=True)
class MemberAddress:
    """A member of the pool and where its packets come from and go to: one address per path, "" where it has none on that path."""

    host: str
    slot: int
    addresses: tuple[str, ...]
    excluded: bool = False
    weight: int = 0


@dataclass(frozen=True, slots=True)
class PulseConfig:
    """Everything pulse is told. Times in seconds; `key` signs the packets and never appears in a log.

    `disks`: the heartbeat disks, of which a majority counts; `disks_generation`: how often the pool's were changed, for the same disks a
    second time are other disks. `interfaces`: the names of the network paths, in the order of the addresses.
    """

    pool: str
    pool_id: str
    enabled: bool
    disabled_reason: str
    licence_seconds: float
    watchdog_seconds: float
    watchdog_device: str
    disks: tuple[str, ...]
    port: int
    key: bytes
    members: tuple[MemberAddress, ...]
    interfaces: tuple[str, ...] = ()
    disks_generation: int = 0

    def core(self) -> PoolConfig:
        """The part that decides. Raises BadMessage for values that contradict each other."""
        if len(set(self.disks)) != len(self.disks):
            raise BadMessage(f"{CONFIG_FILE}: disks: one is named twice; a disk is no majority with itself")
        try:
            members = tuple(Member(m.slot, m.host, m.excluded, m.weight) for m in self.members)
            derived = Timing(self.licence_seconds, self.watchdog_seconds)
            pool_id, generation = bytes.fromhex(self.pool_id), self.disks_generation
            return PoolConfig(pool_id, members, derived, self.enabled, self.disabled_reason, self.disks, generation)
        except ValueError as error:
            raise BadMessage(f"{CONFIG_FILE}: {error}") from error

    def path_name(self, path: int) -> str:
        """The path of that number, for people."""
        return self.interfaces[path] if path < len(self.interfaces) else f"path {path + 1}"

    def to_json(self) -> str:
        """The text of the file."""
        members = [
            {"host": m.host, "slot": m.slot, "addresses": list(m.addresses), "excluded": m.excluded, "weight": m.weight}
            for m in self.members
        ]
        fields = {
            "version": VERSION,
            "pool": self.pool,
            "poolId": self.pool_id,
            "enabled": self.enabled,
            "disabledReason": self.disabled_reason,
            "licenceSeconds": self.licence_seconds,
            "watchdogSeconds": self.watchdog_seconds,
            "watchdogDevice": self.watchdog_device,
            "disks": list(self.disks),
            "disksGeneration": self.disks_generation,
            "port": self.port,
            "keyHex": self.key.hex(),
            "interfaces": list(self.interfaces),
            "members": members,
        }
        return json.dumps(fields, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "PulseConfig":
        """The configuration in that text. Raises BadMessage, naming the field."""
        fields = parse(text, CONFIG_FILE)
        interfaces = _texts(fields, "interfaces", None)
        members = tuple(_member(one, number, max(1, len(interfaces))) for number, one in enumerate(_field(fields, "members", list)))
        config = cls(
            pool=_field(fields, "pool", str),
            pool_id=_hex(fields, "poolId", 16, exact=True).hex(),
            enabled=_field(fields, "enabled", bool),
            disabled_reason=_field(fields, "disabledReason", str, ""),
            licence_seconds=_number(fields, "licenceSeconds"),
            watchdog_seconds=_number(fields, "watchdogSeconds"),
            watchdog_device=_field(fields, "watchdogDevice", str),
            disks=_texts(fields, "disks", "disk"),
            port=_field(fields, "port", int),
            key=_hex(fields, "keyHex", 16),
            members=members,
            interfaces=interfaces,
            disks_generation=_field(fields, "disksGeneration", int, 0),
        )
        if not 0 < config.port < 65536:
            raise BadMessage(f"{CONFIG_FILE}: port: {config.port} is not within 1..65535")
        if config.disks_generation < 0:
            raise BadMessage(f"{CONFIG_FILE}: disksGeneration: {config.disks_generation} is negative")
        config.core()
        return config


def _member(fields: Any, number: int, paths: int) -> MemberAddress:
    where = f"members[{number}]"
    if not isinstance(fields, dict):
        raise BadMessage(f"{CONFIG_FILE}: {where}: not an object")
    addresses = _texts(fields, "addresses", "address", where=where)
    if len(addresses) > paths:
        raise BadMessage(f"{CONFIG_FILE}: {where}.addresses: {len(addresses)} addresses for {paths} paths; interfaces names the paths")
    for address in addresses:
        try:
            if address:
                ipaddress.ip_address(address)
        except ValueError as error:
            raise BadMessage(f"{CONFIG_FILE}: {where}.addresses: {error}") from error
    excluded = _field(fields, "excluded", bool, False, where=where)
    weight = _field(fields, "weight", int, 0, where=where)
    return MemberAddress(_field(fields, "host", str, where=where), _field(fields, "slot", int, where=where), addresses, excluded, weight)


def _texts(fields: dict[str, Any], name: str, single: str | None, *, where: str = "") -> tuple[str, ...]:
    """A list of texts; where a single one has a name of its own, that is read too, and one is needed."""
    if single is not None and name not in fields:
        return (_field(fields, single, str, where=where),)
    found = _field(fields, name, list, [], where=where)
    full = f"{where + '.' if where else ''}{name}"
    if not all(isinstance(one, str) for one in found):
        raise BadMessage(f"{CONFIG_FILE}: {full}: {found!r} is not a list of texts")
    if single is not None and not any(found):
        raise BadMessage(f"{CONFIG_FILE}: {full}: it is empty")
    return tuple(found)


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

"""The UDP sockets of the heartbeat, one for each path: every packet goes to every member on every path. It checks sizes and nothing else.

A path is an interface of the pool: this host's address on it, and every other member's. One packet that arrives is enough; what is wrong
with a path is said by its name, for a second path is of use only as long as somebody repairs the first.
"""

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from quorate_agent import wire
from quorate_core import packet

_MOST_PER_TURN = 256
"""So that a flood cannot keep the decision loop from the disk."""


@dataclass(slots=True)
class Path:
    """One path. `address` is this host's own on it; `heard_at` tells when each host was last heard on it, `since` when it was opened."""

    name: str
    address: str = ""
    port: int = 0
    link: socket.socket | None = None
    problem: str = "no address yet"
    unsent: dict[str, str] = field(default_factory=dict)
    heard_at: dict[str, float] = field(default_factory=dict)
    since: float = 0.0

    def fileno(self) -> int:
        """For select; -1 while there is no socket."""
        return self.link.fileno() if self.link is not None else -1


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that came, on which path and from whose address; too long ones cut but recognisably too long."""

    data: bytes
    path: int
    sender: str


class Network:
    """All paths of this host."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def bind(self, config: wire.PulseConfig, host: str, now: float) -> None:
        """Listen on this host's addresses. Repeated calls try again what has failed: an address may come up after the agent."""
        mine = next((m.addresses for m in config.members if m.host == host), ())
        wanted = [(config.path_name(i), address, config.port) for i, address in enumerate(mine)]
        for path, want in zip(self._paths, wanted, strict=False):
            if (path.name, path.address, path.port) != want:
                _close(path)
                path.name, path.address, path.port = want
        for path in self._paths[len(wanted) :]:
            _close(path)
        self._paths = self._paths[: len(wanted)] + [Path(*want) for want in wanted[len(self._paths) :]]
        for path in self._paths:
            if path.link is None:
                _open(path, now)

    def send(self, data: bytes, members: Sequence[wire.MemberAddress], port: int) -> None:
        """Send to each of these members on every path that both ends have; what could not be sent is kept, by host."""
        for index, path in enumerate(self._paths):
            path.unsent = {}
            if path.link is None:
                continue
            for member in members:
                address = member.addresses[index] if index < len(member.addresses) else ""
                try:
                    if address:
                        path.link.sendto(data, (address, port))
                except OSError as error:
                    path.unsent[member.host] = error.strerror or str(error)

    def receive(self) -> list[Received]:
        """The packets that have arrived."""
        found: list[Received] = []
        for index, path in enumerate(self._paths):
            most = len(found) + _MOST_PER_TURN // len(self._paths)
            while path.link is not None and len(found) < most:
                try:
                    data, sender = path.link.recvfrom(packet.MAX_BYTES + 1)
                    found.append(Received(data, index, sender[0]))
                except BlockingIOError:
                    break
                except OSError as error:
                    # An ICMP answer to something sent before says nothing about this packet.
                    if error.errno not in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
                        _close(path, f"UDP {path.address} port {path.port}: {error.strerror}")
        return found

    def heard(self, path: int, host: str, now: float) -> None:
        """A packet of that host with a good signature came on that path."""
        self._paths[path].heard_at[host] = now

    def sources(self) -> list[Path]:
        """For select."""
        return [path for path in self._paths if path.link is not None]

    def problems(self, members: Sequence[wire.MemberAddress], host: str, now: float, silence_seconds: float) -> list[str]:
        """What is wrong, a sentence for each path; "" for one that works. Silence counts on a path only where another path hears that
        host: a host that is heard nowhere is no path's problem."""
        others = [m for m in members if m.host != host and not m.excluded]
        audible = {h for path in self._paths for h, at in path.heard_at.items() if now - at <= silence_seconds}
        return [
            _problem(path, index, others, audible, now, silence_seconds, named=len(self._paths) > 1)
            for index, path in enumerate(self._paths)
        ]


def _problem(
    path: Path, index: int, others: Sequence[wire.MemberAddress], audible: set[str], now: float, silence_seconds: float, *, named: bool
) -> str:
    found = [path.problem] if path.problem else [f"{host}: {why}" for host, why in sorted(path.unsent.items())]
    if not path.problem:
        for member in others:
            there = index < len(member.addresses) and bool(member.addresses[index])
            if there and member.host in audible and now - path.heard_at.get(member.host, path.since) > silence_seconds:
                found.append(f"{member.host} is not heard here, but on another path")
    return f"{path.name + ': ' if named else ''}{'; '.join(found)}" if found else ""


def _open(path: Path, now: float) -> None:
    if not path.address:
        path.problem = f"this host has no address on {path.name}"
        return
    family = socket.AF_INET6 if ":" in path.address else socket.AF_INET
    fresh = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        fresh.bind((path.address, path.port))
    except OSError as error:
        fresh.close()
        path.problem = f"UDP {path.address} port {path.port}: {error.strerror}"
        return
    path.link, path.problem, path.since = fresh, "", now
    path.heard_at = {}


def _close(path: Path, problem: str = "") -> None:
    if path.link is not None:
        path.link.close()
    path.link, path.problem, path.unsent = None, problem, {}

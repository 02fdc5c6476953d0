"""The UDP socket of the heartbeat: sends one packet to every member, hands over what arrives. It checks sizes and nothing else."""

import socket
from contextlib import suppress

from quorate_core import packet

_MOST_PER_TURN = 256
"""So that a flood cannot keep the decision loop from the disk."""


class Network:
    """One socket, bound to this host's own address. `problem` says why it is not."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._bound: tuple[str, int] | None = None
        self.problem = "no address yet"
        self.unsent: dict[str, str] = {}

    def bind(self, address: str, port: int) -> None:
        """Listen on that address; a repeated call with the same one does nothing."""
        if self._bound == (address, port):
            return
        self.close()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        fresh = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            fresh.bind((address, port))
        except OSError as error:
            fresh.close()
            self.problem = f"UDP {address} port {port}: {error.strerror}"
            return
        self._socket, self._bound, self.problem = fresh, (address, port), ""

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._bound = None, None

    def send(self, data: bytes, addresses: dict[str, str], port: int) -> None:
        """Send to every host of `addresses`; what could not be sent is kept in `unsent`, by host."""
        if self._socket is None:
            return
        self.unsent = {}
        for host, address in addresses.items():
            try:
                self._socket.sendto(data, (address, port))
            except OSError as error:
                self.unsent[host] = error.strerror or str(error)

    def receive(self) -> list[bytes]:
        """The packets that have arrived, too long ones cut but recognisably too long."""
        found: list[bytes] = []
        if self._socket is None:
            return found
        with suppress(BlockingIOError):
            while len(found) < _MOST_PER_TURN:
                try:
                    found.append(self._socket.recv(packet.MAX_BYTES + 1))
                except ConnectionRefusedError:
                    continue  # an ICMP answer to something sent before; says nothing about this packet
        return found

    def fileno(self) -> int:
        """For select; -1 while there is no socket."""
        return self._socket.fileno() if self._socket is not None else -1

"""Pulse's local sockets: to the keeper, which it asks and tells; and to report, which it only tells. None of them can make it wait."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from quorate_agent import wire
from quorate_core.heart import Keeper
from quorate_core.keeping import Mode

_RETRY_SECONDS = 0.5


class KeeperLink:
    """The connection to the keeper; made anew when it is lost."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._next_try_at = 0.0
        self.lateness: dict[str, Any] = {}
        """How late the keeper's pets came, as it counts them."""
        self.lines_lost = 0
        """How many lines the keeper's log did not take."""

    def connect(self, now: float) -> None:
        """Try to connect, if there is no connection and it is time."""
        if self._socket is not None or now < self._next_try_at:
            return
        self._next_try_at = now + _RETRY_SECONDS
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            fresh.connect(wire.KEEPER_SOCKET)
        except OSError:
            fresh.close()
            return
        self._socket = fresh

    def tell(self, message: bytes) -> None:
        """Send it, or lose it: the keeper describes itself again when it is back, and everything said is said again each cycle."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(message)

    def hear(self) -> tuple[list[Keeper], bool]:
        """What the keeper said, and whether the connection is lost. Raises BadMessage."""
        found: list[Keeper] = []
        try:
            while self._socket is not None:
                data = self._socket.recv(wire.MAX_MESSAGE_BYTES)
                if not data:
                    raise ConnectionResetError
                fields = wire.parse(data, "message from the keeper")
                self.lateness, self.lines_lost = fields.get("petLateness", {}), fields.get("logLinesLost", 0)
                found.append(_keeper(fields))
        except BlockingIOError:
            return found, False
        except OSError:
            assert self._socket is not None
            self._socket.close()
            self._socket = None
            return found, True
        return found, False

    def fileno(self) -> int:
        """For select; -1 while there is no connection."""
        return self._socket.fileno() if self._socket is not None else -1


class Audience:
    """Those who listen to this host's state (report, and people with a debugger)."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        Path(wire.PULSE_SOCKET).unlink(missing_ok=True)
        self._listener.bind(wire.PULSE_SOCKET)
        Path(wire.PULSE_SOCKET).chmod(0o600)
        self._listener.listen(4)
        self._clients: list[socket.socket] = []
        self._last = b""

    def welcome(self) -> None:
        """Let in whoever waits, and tell them the state of now."""
        with suppress(BlockingIOError):
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients.append(client)
                self._send(client, self._last)

    def tell(self, state: bytes) -> None:
        """Send the state to all, also if it is as before: who hears nothing for some seconds takes pulse for hung."""
        self._last = state
        for client in list(self._clients):
            self._send(client, state)

    def fileno(self) -> int:
        """For select."""
        return self._listener.fileno()

    def _send(self, client: socket.socket, state: bytes) -> None:
        try:
            if state:
                client.send(state)
        except BlockingIOError:
            pass  # it does not keep up; the next one reaches it
        except OSError:
            client.close()
            self._clients.remove(client)


def _keeper(fields: dict[str, Any]) -> Keeper:
    try:
        return Keeper(
            mode=Mode(fields["mode"]),
            incarnation=int(fields["incarnation"] or "0", 16),
            deadline=float(fields["deadline"]),
            device=str(fields["device"]),
            identity=str(fields["identity"]),
            timeout_seconds=float(fields["timeoutSeconds"]),
            problem=str(fields["problem"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise wire.BadMessage(f"message from the keeper: {error!r}") from error

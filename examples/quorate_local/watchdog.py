"""The development watchdog: "hardware" that sits outside the hosts and resets one that is no longer petted.

One socket serves all hosts of a pool; which host a connection comes from is told by the kernel (peer pid) and that process's
environment mark, so no host can pet another's. The line protocol is the one that the agent's keeper speaks:
`settimeout SECONDS` -> `timeout SECONDS`; `pet`; closing the connection pets once more and never disarms.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quorate_local import runs

LEAST_SECONDS, MOST_SECONDS = 1, 120


@dataclass(slots=True)
class Timer:
    """One host's watchdog. `deadline` is on this process's monotonic clock; None while it has never been started."""

    timeout_seconds: float = 60
    deadline: float | None = None
    connection: socket.socket | None = None
    unread: bytes = b""

    def pet(self, now: float) -> None:
        """Start the time anew, if it runs."""
        if self.deadline is not None:
            self.deadline = now + self.timeout_seconds


class Watchdog:
    """Serves the socket in a thread that lives as long as the pool; calls `reset(host)` in it when a host's time is over."""

    def __init__(self, run: str, path: Path, reset: Callable[[str], None], tick: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._run = run
        self._reset = reset
        self._tick = tick
        self._timers: dict[str, Timer] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="watchdog", daemon=True)

    @property
    def device(self) -> str:
        """What to write into `HAPool.spec.watchdog.device`."""
        return f"development:{self.path}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """No host is reset after this returns."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def power_cycle(self, host: str) -> None:
        """The host has lost its power: its watchdog starts disarmed."""
        self._timers.pop(host, None)

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.05):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            now = time.monotonic()  # after all pets that had arrived: our own delay must not reset anybody
            for host, timer in list(self._timers.items()):
                if timer.deadline is not None and now >= timer.deadline:
                    self._close(host)
                    self._timers.pop(host, None)
                    self._reset(host)
            self._tick()
        self._selector.close()
        self._listener.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        host = host_of(connection, self._run)
        if host is None:
            connection.close()
            return
        timer = self._timers.setdefault(host, Timer())
        if timer.connection is not None:
            with contextlib.suppress(OSError):
                connection.sendall(b"busy\n")
            connection.close()
            return
        connection.setblocking(False)
        timer.connection, timer.unread = connection, b""
        self._selector.register(connection, selectors.EVENT_READ, host)
        self._send(timer, f"identity Quorate development watchdog of {host}")

    def _read(self, host: str) -> None:
        timer = self._timers.get(host)
        if timer is None or timer.connection is None:
            return
        try:
            data = timer.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            timer.pet(time.monotonic())
            self._close(host)
            return
        *lines, timer.unread = (timer.unread + data).split(b"\n")
        for line in lines:
            self._obey(timer, line.decode(errors="replace").split())

    def _obey(self, timer: Timer, words: list[str]) -> None:
        match words:
            case ["pet"]:
                timer.pet(time.monotonic())
            case ["settimeout", seconds]:
                with contextlib.suppress(ValueError):
                    timer.timeout_seconds = min(MOST_SECONDS, max(LEAST_SECONDS, float(seconds)))
                    timer.deadline = time.monotonic() + timer.timeout_seconds
                self._send(timer, f"timeout {timer.timeout_seconds:g}")
            case _:
                self._send(timer, "unknown")

    def _send(self, timer: Timer, line: str) -> None:
        with contextlib.suppress(OSError):
            if timer.connection is not None:
                timer.connection.send(line.encode() + b"\n")

    def _close(self, host: str) -> None:
        timer = self._timers.get(host)
        if timer and timer.connection is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(timer.connection)
            timer.connection.close()
            timer.connection = None


def host_of(connection: socket.socket, run: str) -> str | None:
    """The host from which a process of this machine connected over a Unix socket; None if from none of that run."""
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    mark = f"{runs.HOST_MARK}={run}.".encode()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(mark):
                return entry.removeprefix(mark).decode()
    return None

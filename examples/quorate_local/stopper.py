"""The development stopper: what an agent asks to stop every VM of its host and to make sure that none can start there again.

On a real host the agent does this itself, to KubeVirt's cgroups and the kubelet. Here a socket outside of the hosts does, for all of
them; which one asks is told by the kernel, so none can stop another's VMs. One request a connection: `stop` -> `left N`, or
`doubt WHY` where it cannot be told; `resume` -> `resumed`. `left 0` is said only of what was looked at: it lets VMs start elsewhere.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from quorate_local import watchdog

_DIES_WITHIN_SECONDS = 0.3


class Stopper:
    """Serves the socket in a thread that lives as long as the pool; calls `answer(host, question)` in it."""

    def __init__(self, run: str, path: Path, answer: Callable[[str, str], str]) -> None:
        self.path = path
        self._run = run
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._listener.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="stopper", daemon=True)

    @property
    def option(self) -> str:
        """What pulse is started with."""
        return f"development:{self.path}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Nothing is stopped after this returns."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):  # nobody asks, or who asked is gone
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(1)
                    connection.sendall(f"{self._answer_to(connection)}\n".encode())

    def _answer_to(self, connection: socket.socket) -> str:
        asked = connection.recv(64)
        host = watchdog.host_of(connection, self._run)
        if host is None:
            return "doubt no host of this pool asks"
        return self._answer(host, asked.decode().strip()) if asked in (b"stop\n", b"resume\n") else f"doubt {asked!r} is no question"


def stop_vms(starters: Callable[[], list[int]], guests: Callable[[], list[int]]) -> str:
    """Freeze what starts VMs, kill the VMs, and count what is left; safe to repeat. Both arguments look for processes when called.

    Doubt is resolved toward not saying 0: a starter that is absent may be about to be started, one that is not yet frozen may start a VM.
    """
    end = time.monotonic() + _DIES_WITHIN_SECONDS
    while True:
        found = starters()
        if not found:
            return "doubt the stand-in for the kubelet does not run, so it cannot be frozen"
        _send(found, signal.SIGSTOP)
        awake = [pid for pid in found if not _frozen(pid)]  # before the guests: what a starter started while awake is among them
        running = guests()
        _send(running, signal.SIGKILL)
        left = len(awake) + len(running)
        if not left or time.monotonic() >= end:
            return f"left {left}"
        time.sleep(0.02)


def resume(starters: Callable[[], list[int]]) -> str:
    """Let what starts VMs go on: the host has lost its VMs, but not its place in the pool."""
    _send(starters(), signal.SIGCONT)
    return "resumed"


def _frozen(pid: int) -> bool:
    """Whether the process is stopped by a signal. One that has ended is not: another may take its place."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

"""Stops the VMs of a host that is being fenced and counts what is left, in a thread that may hang without taking the decision loop with it.

What is counted lets VMs start elsewhere before R has passed, so whatever cannot be told for certain is no count at all. A host that is
fenced ends by a reset, so nothing here lets VMs start again. `--stopper` chooses who does it: `none` (the default: nobody; VMs end with the
reset), `kubevirt` (see kubevirt.py), or `development:/path`, a Unix socket that is asked `stop` and answers `left N` or `doubt WHY`.
"""

import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from quorate_agent import unixpath

DEVELOPMENT_PREFIX = "development:"
_ANSWER_SECONDS = 10.0
_LONGEST_ANSWER_BYTES = 512


class Doubt(Exception):
    """It cannot be told whether VMs are left; the message says why."""


class Stopper(Protocol):
    """Whoever stops the VMs of this host."""

    def stop(self) -> int:
        """Kill all VMs, let none start any more; how many processes of VMs are left. 0 only if that was verified. Raises Doubt."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An answer: `left` is None where there is a doubt."""

    left: int | None
    doubt: str = ""


class Worker:
    """The thread and its queues. `fileno` becomes readable when there is an answer."""

    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Counted] = queue.SimpleQueue()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._waiting = False
        threading.Thread(target=self._work, name="stopper", daemon=True).start()

    def stop(self) -> None:
        """Ask for the VMs to be stopped, unless it is still busy with that; returns at once."""
        if not self._waiting:
            self._waiting = True
            self._requests.put(None)

    def answers(self) -> list[Counted]:
        """The answers since the last call."""
        with suppress(BlockingIOError):
            self._bell.recv(64)
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._answers.get_nowait())
        self._waiting = self._waiting and not found
        return found

    def fileno(self) -> int:
        """For select."""
        return self._bell.fileno()

    def _work(self) -> None:
        while True:
            self._requests.get()
            try:
                answer = Counted(self._stopper.stop())
            except (Doubt, OSError) as error:
                answer = Counted(None, str(error))
            self._answers.put(answer)
            with suppress(BlockingIOError):
                self._button.send(b"!")


class DevelopmentStopper:
    """Asks a socket: the local pool's machines have no cgroups of their own."""

    def __init__(self, path: str) -> None:
        self._path = path

    def stop(self) -> int:
        """Ask it; its answer."""
        answer = self._asked()
        word, _, value = answer.partition(" ")
        if word == "left" and value.isascii() and value.isdigit():
            return int(value)
        raise Doubt(value if word == "doubt" and value else f"development stopper {self._path} answers {answer!r}")

    def _asked(self) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as link:
            link.settimeout(_ANSWER_SECONDS)
            try:
                unixpath.connect(link, self._path)
                link.sendall(b"stop\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    part = link.recv(_LONGEST_ANSWER_BYTES)
                    if not part or len(answer) > _LONGEST_ANSWER_BYTES:
                        raise Doubt(f"development stopper {self._path} ended in the middle of {answer[:40]!r}")
                    answer += part
            except OSError as error:
                raise Doubt(f"development stopper {self._path}: {error}") from error
        return answer.decode(errors="replace").rstrip("\n")

"""Starts, watches and stops the processes of a run. Each dies with the thread that started it, whatever kills that.

Knows nothing of what the processes are.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from quorate_local import runs
from quorate_local.problem import Problem

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that forked it ends. Runs between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Processes:
    """The processes of one run, by name, with one log file each."""

    def __init__(self, run: runs.Run) -> None:
        self.run = run
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Iterable[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a process; a later one of the same name continues its log."""
        with (self.run.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=self.run.folder,
                env={**os.environ, runs.MARK: self.run.name, **(env or {})},
                start_new_session=True,  # Ctrl-C is for the owner alone, who then stops all in order
                preexec_fn=die_with_parent,
                pass_fds=tuple(pass_fds),
            )
        self._running[name] = process
        return process

    def get(self, name: str) -> subprocess.Popen[bytes] | None:
        """The process of that name, running or ended."""
        return self._running.get(name)

    def kill(self, name: str) -> None:
        """SIGKILL one process and wait for it; nothing happens if there is none."""
        if process := self._running.pop(name, None):
            process.kill()
            process.wait()

    def stop(self, name: str, *, grace_seconds: float = 5) -> None:
        """SIGTERM one process, SIGKILL it after the grace time."""
        if process := self._running.get(name):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
            self.kill(name)

    def stop_all(self, *, grace_seconds: float = 3) -> None:
        """Stop everything, what was started last first; leave nothing."""
        for process in reversed(self._running.values()):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        end = time.monotonic() + grace_seconds
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        for name in list(self._running):
            self.kill(name)

    def log_tail(self, name: str, lines: int = 3) -> str:
        """The last lines of a process's log."""
        try:
            return "\n".join((self.run.logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def wait_until(self, ready: Callable[[], bool], what: str, *, needs: Sequence[str] = (), deadline_seconds: float = 90) -> None:
        """Poll until `ready()`.

        Raises Problem when one of the processes in `needs` has ended or the deadline is over.
        """
        end = time.monotonic() + deadline_seconds
        while not ready():
            for name in needs:
                process = self._running.get(name)
                if process is None or process.poll() is not None:
                    raise Problem(
                        f"{name} has ended before {what}: see {self.run.logs / name}.log; its last line: {self.log_tail(name, 1)}"
                    )
            if time.monotonic() > end:
                raise Problem(f"waited {deadline_seconds:.0f} s for {what} in vain: see the logs in {self.run.logs}.")
            time.sleep(0.1)


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def claim_port(port: int | None) -> int:
    """The wanted port if it is free, any free one if none is wanted.

    Raises Problem when the wanted port is taken.
    """
    if port is None:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Problem(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): choose another with --port, or leave it out."
            ) from None
    return port

"""A run: one folder that holds everything of one local pool, and the promise that nothing of it outlives its owner.

The owner holds a lock on the folder for as long as it lives; every process it starts carries the run's mark in its environment.
Whoever starts next finds folders without an owner, kills what still carries their mark, and deletes them. No pid is remembered
anywhere, so none can be mistaken for another's.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quorate_local.problem import Problem

MARK = "QUORATE_LOCAL_RUN"
HOST_MARK = "QUORATE_LOCAL_HOST"


@dataclass(frozen=True, slots=True)
class Run:
    """One local pool's folder. `lock` is the open lock file: closing it gives the run up."""

    name: str
    folder: Path
    lock: int

    @property
    def logs(self) -> Path:
        """Folder of one log file per process."""
        return self.folder / "logs"

    def give_up(self) -> None:
        """Kill whatever is left of the run and delete its folder."""
        _clear(self.folder)
        os.close(self.lock)


def home() -> Path:
    """The folder of all runs of this user. Short, because socket paths must be."""
    folder = Path(tempfile.gettempdir()) / f"quorate-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise Problem(f"{folder} belongs to somebody else: set TMPDIR to a folder of your own.")
    except OSError as error:
        raise Problem(f"cannot make {folder} ({error.strerror}): set TMPDIR to a folder that you may write.") from None
    return folder


def claim() -> Run:
    """A new run; leftovers of dead runs are cleared away first."""
    with _registry():
        _clear_dead()
        name = secrets.token_hex(3)
        folder = home() / name
        folder.mkdir()
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    run = Run(name, folder, lock)
    run.logs.mkdir()
    return run


def alive() -> list[Path]:
    """Folders of the runs that have an owner now, oldest first."""
    with _registry():
        return [folder for folder in _folders() if _has_owner(folder)]


def clear_dead() -> None:
    """Clear away what dead runs left."""
    with _registry():
        _clear_dead()


def _clear_dead() -> None:
    for folder in _folders():
        if not _has_owner(folder):
            _clear(folder)


@contextlib.contextmanager
def _registry() -> Iterator[None]:
    fd = os.open(home() / "registry", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _folders() -> list[Path]:
    return sorted((p for p in home().iterdir() if p.is_dir()), key=lambda p: p.stat().st_ctime)


def _has_owner(folder: Path) -> bool:
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # claim() makes the lock under the registry's lock, which we hold
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _clear(folder: Path) -> None:
    kill_marked(MARK, folder.name)
    shutil.rmtree(folder, ignore_errors=True)


def marked(mark: str, value: str) -> list[int]:
    """Pids of this user's processes whose environment says `mark=value`, this one excepted."""
    wanted = f"{mark}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def kill_marked(mark: str, value: str, *, deadline_seconds: float = 10) -> None:
    """SIGKILL every process with that mark until none is left (a tree may still be forking)."""
    end = time.monotonic() + deadline_seconds
    while (pids := marked(mark, value)) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)

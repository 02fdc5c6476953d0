"""The launcher processes of one host: started, adopted after a crash of the stand-in, stopped. Knows no Kubernetes.

Pid files in the host's run folder (emptied at boot) say which incarnation is which process, so that a restarted stand-in
neither starts a VM twice nor forgets one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


class Guests:
    """The running launchers by pod uid. With `disks` None nothing is really run: every guest merely counts as running."""

    def __init__(self, host: str, run_dir: Path | None, disks: Path | None) -> None:
        self._host = host
        self._folder = run_dir / "launchers" if run_dir else None
        self._disks = disks
        self._light: set[str] = set()
        self._ours: dict[str, subprocess.Popen[bytes]] = {}
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)

    def start(self, uid: str, disk: str) -> None:
        """Run the launcher of that pod on that disk (a file name), unless it runs."""
        if self._folder is None or self._disks is None:
            self._light.add(uid)
            return
        if self.runs(uid):
            return
        self._disks.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", "-S", str(LAUNCHER), str(self._disks / disk), self._host, uid]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._ours[uid] = process
        (self._folder / uid).write_text(str(process.pid))

    def known(self, uid: str) -> bool:
        """Whether this boot has ever started that pod."""
        return uid in self._light or bool(self._folder and (self._folder / uid).exists())

    def runs(self, uid: str) -> bool:
        """Whether its process lives."""
        return uid in self._light or self._pid(uid) is not None

    def stop(self, uid: str, grace_seconds: float) -> bool:
        """SIGTERM, then SIGKILL; called again and again until it returns True: the process is gone.

        `grace_seconds` is what is left of its grace time.
        """
        self._light.discard(uid)
        pid = self._pid(uid)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if grace_seconds > 0 else signal.SIGKILL)
            end = time.monotonic() + 0.05
            while self._pid(uid) is not None and time.monotonic() < end:
                time.sleep(0.005)
        return self._pid(uid) is None

    def forget(self, uid: str) -> None:
        """The pod object is gone."""
        self._ours.pop(uid, None)
        if self._folder:
            (self._folder / uid).unlink(missing_ok=True)

    def uids(self) -> set[str]:
        """Pods that this boot has started and not forgotten."""
        return self._light | ({path.name for path in self._folder.iterdir()} if self._folder else set())

    def _pid(self, uid: str) -> int | None:
        if self._folder is None:
            return None
        if process := self._ours.get(uid):
            return None if process.poll() is not None else process.pid
        try:
            pid = int((self._folder / uid).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if uid.encode() in command else None

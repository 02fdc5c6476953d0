"""Real keepers and pulses on one real file, and a watchdog that kills a whole host from outside. Fixtures are in conftest.py.

A machine here is a run folder, its processes and its watchdog; what a namespace adds is in namespaces.py.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import wire
from quorate_core import slot
from quorate_core.timing import Timing

TIMING = Timing(licence_seconds=6, watchdog_seconds=2)
GENERATION = 1
"""Of the heartbeat disks, as in a new pool."""
"""The shortest there is: R_s = 23 s, R_e = 21 s."""


class Dog:
    """The hardware: one client at a time, never disarmed, `on_bite` when it is not petted. Its own clock decides."""

    def __init__(self, path: Path, on_bite: Callable[[], None]) -> None:
        self.path, self._on_bite = path, on_bite
        self.pets = 0
        self.petted_at: list[float] = []
        self.bitten_at: float | None = None
        self._due: float | None = None
        self._timeout = 0.0
        self._failed = False
        self._client: socket.socket | None = None
        self._busy = threading.Lock()
        self._stop = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        self._listener.close()

    def power_cycle(self) -> None:
        """The machine is off: its watchdog does not run. Waits for the last ping of the processes that were killed."""
        with self._busy:
            self._due = self.bitten_at = None

    def fail(self) -> None:
        """It takes no pets any more, and does not bite either."""
        self._failed, self._due = True, None
        if self._client is not None:
            self._client.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """It can be opened again."""
        self._failed = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._failed:
            client.close()
            return
        if not self._busy.acquire(blocking=False):
            client.sendall(b"busy\n")
            client.close()
            return
        self._client = client
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            client.sendall(b"identity test watchdog\n")
            for line in lines:
                word, *rest = line.split()
                if word == b"settimeout":
                    self._timeout = float(rest[0])
                    client.sendall(b"timeout %g\n" % self._timeout)
                self.pets += 1
                now = time.monotonic()
                self.petted_at.append(now)
                self._due = now + self._timeout
        self._client = None
        if self._due is not None and not self._failed:
            self._due = time.monotonic() + self._timeout  # the last close pings once more
        self._busy.release()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            due = self._due
            if due is not None and time.monotonic() > due and self.bitten_at is None:
                self.bitten_at = time.monotonic()
                self._on_bite()


@dataclass
class Machine:
    """One host: its run folder, its processes, its watchdog."""

    name: str
    folder: Path
    boot_id_file: Path
    dog: Dog
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _link: socket.socket | None = None
    _said: dict[str, Any] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        for name in names or ("keeper", "pulse"):
            self._run(name, [sys.executable, "-m", f"quorate_agent.{name}", *self.arguments(name)])

    def arguments(self, name: str) -> list[str]:
        """The command line of keeper or pulse, without the program."""
        common = ["--run-dir", str(self.folder), "--boot-id-file", str(self.boot_id_file)]
        return [*common, "--node", self.name] if name == "pulse" else common

    def _run(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stderr=log)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def kill(self) -> None:
        """Cut the power: nothing of it runs when this returns."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in self.processes.values():
            process.wait()

    def reborn(self) -> None:
        """What a boot changes: another boot id, an empty tmpfs, a watchdog that does not run. The machine must be off."""
        self.dog.power_cycle()
        self.boot_id_file.write_text(str(uuid.uuid4()))
        for name in (wire.MARKER_FILE, wire.LICENCE_FILE):
            (self.folder / name).unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """What pulse last said of itself; {} if it does not answer."""
        return dict(self._hear().get("agent", {}))

    def metrics(self) -> dict[str, Any]:
        """What pulse last counted; {} if it does not answer."""
        return dict(self._hear().get("metrics", {}))

    def _hear(self) -> dict[str, Any]:
        try:
            if self._link is None:
                self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
                self._link.connect(f"/proc/self/fd/{self._folder_fd}/{wire.PULSE_SOCKET}")
            while data := self._link.recv(wire.MAX_MESSAGE_BYTES):
                self._said = json.loads(data)
            raise ConnectionResetError
        except BlockingIOError:
            return self._said
        except OSError:
            if self._link is not None:
                self._link.close()
            self._link = None
            self._said = {}
            return {}

    @property
    def armed(self) -> bool:
        """Whether pulse says so."""
        return bool(self.state().get("armed"))

    @property
    def _folder_fd(self) -> int:
        if not hasattr(self, "_fd"):
            self._fd = os.open(self.folder, os.O_PATH)
        return self._fd

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""


class Rig:
    """A pool of machines on one disk. Times are those of L = 6 s, W = 2 s."""

    def __init__(self, folder: Path, count: int, **defaults: Any) -> None:
        self.folder = folder
        self.disk = folder / "disk"
        with self.disk.open("wb") as file:
            file.truncate(slot.DISK_BYTES)
        self.port = random.randrange(20000, 32000)
        self.pool_id = uuid.uuid4().hex
        self.key = os.urandom(32)
        self._defaults = defaults
        self.members = self._members(count)
        self.machines = [self._machine(m.host) for m in self.members]
        self.configure()

    def _members(self, count: int) -> tuple[wire.MemberAddress, ...]:
        net = random.randrange(1, 250)
        return tuple(wire.MemberAddress(f"h{i}", i, (f"127.{net}.{os.getpid() % 250}.{i + 1}",)) for i in range(count))

    def _machine(self, name: str) -> Machine:
        folder = self.folder / name
        folder.mkdir()
        boot = folder / "boot_id"
        boot.write_text(str(uuid.uuid4()))
        holder: list[Machine] = []
        dog = Dog(folder / "dog", lambda: holder[0].kill())
        holder.append(self._make(name, folder, boot, dog))
        return holder[0]

    def _make(self, name: str, folder: Path, boot: Path, dog: Dog) -> Machine:
        return Machine(name, folder, boot, dog)

    def configure(self, *, only: tuple[str, ...] = (), **changes: Any) -> None:
        """Write every machine's config.json, with these fields changed."""
        for machine in self.machines:
            if only and machine.name not in only:
                continue
            fields: dict[str, Any] = {
                "pool": "test",
                "pool_id": self.pool_id,
                "enabled": True,
                "disabled_reason": "",
                "licence_seconds": TIMING.licence_seconds,
                "watchdog_seconds": TIMING.watchdog_seconds,
                "watchdog_device": f"development:{machine.dog.path}",
                "disks": (str(self.disk),),
                "disks_generation": GENERATION,
                "port": self.port,
                "key": self.key,
                "members": self.members,
            }
            config = wire.PulseConfig(**{**fields, **self._defaults, **changes})
            fresh = machine.folder / "config.new"
            fresh.write_text(config.to_json())
            fresh.replace(machine.folder / wire.CONFIG_FILE)

    def slot(self, index: int) -> slot.Slot | None:
        """What stands in that slot now."""
        with self.disk.open("rb") as file:
            file.seek(slot.offset_of(index))
            block = file.read(slot.BLOCK_BYTES)
        return None if slot.is_empty(block) else slot.decode(block)

    def close(self) -> None:
        for machine in self.machines:
            machine.dog.close()
            machine.kill()


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60) -> float:
    """Poll until it holds; returns the monotonic time when it was first seen to. Fails with the words in `what`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s it is still not so: {what}")
        time.sleep(0.05)
    return time.monotonic()

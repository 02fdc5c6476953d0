"""Runs inside a guest with an emulated hardware watchdog: speaks to the real keeper as pulse would, and tells the console what it sees.

Standard library and the agent's clock only. One scenario per boot, named on the kernel's command line.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from quorate_agent.clock import now

RUN = Path("/run/quorate")
DEVICE = "/dev/watchdog"
TIMEOUT_SECONDS = 10
INCARNATION = "00000000000000aa"
LICENCE_SECONDS = 4.0
WHEN_TOLD = "import sys; from quorate_agent.keeper.__main__ import main; print(flush=True); sys.stdin.readline(); sys.exit(main())"
"""A keeper that has loaded and waits for its turn: an emulated processor loads Python for longer than a licence lasts."""


def tell(*words: object) -> None:
    print("RIG", *words, flush=True)


class Keeper:
    """The keeper's process and the connection to it."""

    def __init__(self) -> None:
        self.log = RUN / "keeper.log"
        command = [sys.executable, "-c", WHEN_TOLD, "--run-dir", str(RUN)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def start(self) -> "Keeper":
        """Its turn has come."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        while True:
            try:
                self._socket.connect(str(RUN / "keeper.sock"))
                break
            except OSError:
                if self.process.poll() is not None:
                    tell("FAILED the keeper ended:", self.log.read_text().strip())
                    raise
                time.sleep(0.1)
        self._socket.settimeout(10)
        return self

    def send(self, kind: str, **fields: object) -> None:
        self._socket.send(json.dumps({"version": 1, "kind": kind, **fields}).encode())

    def hear(self) -> dict[str, object]:
        """What it says next of itself."""
        return dict(json.loads(self._socket.recv(65536)))

    def open(self) -> dict[str, object]:
        """Ask it to open the watchdog; what it says then."""
        self.send("open", device=DEVICE, timeoutSeconds=TIMEOUT_SECONDS)
        said = self.hear()
        while said["mode"] == "closed" and not said["problem"]:
            said = self.hear()
        return said

    def license(self, seconds: float) -> float:
        """Renew the licence every half second for so long; the last deadline."""
        end = now() + seconds
        while True:
            deadline = now() + LICENCE_SECONDS
            self.send("deadline", incarnation=INCARNATION, deadline=deadline)
            if now() > end:
                return deadline
            time.sleep(0.5)


def wait_for(deadline: float, word: str) -> None:
    time.sleep(max(0.0, deadline - now()))
    tell(word)


def opened(keeper: Keeper) -> None:
    said = keeper.open()
    tell("OPEN", said["mode"], said["timeoutSeconds"], said["identity"], said["problem"] or "-")


def licence() -> None:
    """Petted for longer than the watchdog's timeout, deaf to SIGTERM, and silent once the licence has ended."""
    keeper = Keeper().start()
    opened(keeper)
    keeper.license(2 * TIMEOUT_SECONDS)
    tell("PETTED")
    keeper.process.send_signal(signal.SIGTERM)
    deadline = keeper.license(1)
    tell("IGNORES-SIGTERM", keeper.process.poll() is None and "SIGTERM ignored" in keeper.log.read_text())
    wait_for(deadline, "DEADLINE")


def killed() -> None:
    """Killed and back in time: the same watchdog is petted on. Killed for good: it is not disarmed by that."""
    keeper, successor = Keeper().start(), Keeper()
    opened(keeper)
    keeper.license(1)
    keeper.process.kill()
    keeper.process.wait()
    keeper = successor.start()
    said = keeper.hear()
    tell("REOPENED", said["mode"], said["timeoutSeconds"], said["identity"])
    keeper.license(2 * TIMEOUT_SECONDS)
    tell("PETTED")
    keeper.process.kill()
    keeper.process.wait()
    tell("KILLED")


def disarmed() -> None:
    """Without a licence and with a device that can be stopped, SIGTERM stops both. What somebody else holds is refused."""
    keeper = Keeper().start()
    opened(keeper)
    keeper.process.send_signal(signal.SIGTERM)
    tell("ENDED", keeper.process.wait(20))
    time.sleep(2 * TIMEOUT_SECONDS)
    tell("ALIVE")
    with Path(DEVICE).open("wb", buffering=0) as other:
        threading.Thread(target=pet, args=(other,), daemon=True).start()
        tell("BUSY", Keeper().start().open()["problem"])
        time.sleep(3600)


def pet(device: BinaryIO) -> None:
    """As another program would; only the last word stops the device."""
    while True:
        device.write(b"\0")
        time.sleep(1)


if __name__ == "__main__":
    RUN.mkdir(parents=True)
    found = re.search(r"\bscenario=(\w+)", Path("/proc/cmdline").read_text())
    {"licence": licence, "killed": killed, "disarmed": disarmed}[found.group(1) if found else ""]()
    time.sleep(3600)

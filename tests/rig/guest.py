"""Boots a QEMU guest with an emulated hardware watchdog (i6300esb) and this repository's keeper in it; no disk, no network.

The initial RAM file system holds busybox, two modules, Python with the modules that the keeper imports, and inside.py. QEMU emulates the
processor too (TCG), so nothing depends on this machine's. The kernel is Debian's; what is missing is named, never fetched by a test.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_INSIDE = Path(__file__).with_name("inside.py")
_MODULES = ("kernel/drivers/watchdog/watchdog.ko", "kernel/drivers/watchdog/i6300esb.ko")
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /run
/bin/busybox mount -t tmpfs run /run
nowayout=$(/bin/busybox sed -n 's/.*nowayout=\\([01]\\).*/\\1/p' /proc/cmdline)
/bin/busybox insmod /modules/watchdog.ko
/bin/busybox insmod /modules/i6300esb.ko nowayout=$nowayout
export PYTHONHOME=/usr PYTHONPATH=/quorate LD_LIBRARY_PATH=/lib PYTHONDONTWRITEBYTECODE=1
/bin/busybox ip link set lo up
/usr/bin/python3 /quorate/inside.py || echo "RIG FAILED inside.py ended"
/bin/busybox poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the kernel is, and the tree of its modules."""

    image: Path
    modules: Path


def parts() -> Parts:
    """The kernel of this machine's packages, or of the tree that $QUORATE_RIG_KERNEL names. Skips, naming what is missing."""
    for command, package in (("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static")):
        if shutil.which(command) is None:
            pytest.skip(f"no {command} here: apt-get install {package}")
    root = Path(os.environ.get("QUORATE_RIG_KERNEL", "/"))
    for modules in sorted(root.glob("lib/modules/*")):
        image = root / "boot" / f"vmlinuz-{modules.name}"
        if image.exists() and all((modules / one).exists() for one in _MODULES):
            return Parts(image, modules)
    pytest.skip(
        f"no kernel with the module i6300esb below {root}: apt-get download linux-image-VERSION-amd64, dpkg-deb -x it into a folder, "
        "and name that folder in QUORATE_RIG_KERNEL"
    )


def build(found: Parts, folder: Path) -> Path:
    """The initial RAM file system."""
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "modules", "lib", "lib64", "usr/bin", "quorate"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for one in _MODULES:
        shutil.copy(found.modules / one, root / "modules")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    shutil.copy(_INSIDE, root / "quorate")
    _copy_python(root)
    archive = folder / "initramfs"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with archive.open("wb") as out:
        subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, check=True
        )
    return archive


def _copy_python(root: Path) -> None:
    """The interpreter, its libraries, and every module that inside.py and the keeper import."""
    listing = (
        "import sys, json, re, signal, socket, subprocess, time, encodings.ascii, encodings.latin_1, pathlib, runpy\n"
        "import argparse, quorate_agent.keeper.__main__\n"
        "argparse.ArgumentParser('x').parse_args([])\n"  # it imports more when it is used
        "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]))"
    )
    files = json.loads(subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout)
    standard = Path(os.__file__).parent
    repository = {name: Path(next(iter(__import__(name).__path__))).parent for name in ("quorate_agent", "quorate_core")}
    binaries = [Path(sys.executable).resolve()]
    shutil.copy(binaries[0], root / "usr/bin/python3")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for file in map(Path, files):
        ours = next((top for name, top in repository.items() if top / name in file.parents), None)
        if ours is None and (standard not in file.parents or "site-packages" in file.parts):
            continue
        target = root / "quorate" / file.relative_to(ours) if ours else root / "usr/lib" / version / file.relative_to(standard)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        if file.suffix == ".so":
            binaries.append(file)
    (root / "usr/lib" / version / "lib-dynload").mkdir(exist_ok=True)
    for binary in binaries:
        for line in subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout.splitlines():
            for path in (Path(word) for word in line.split() if word.startswith("/")):
                shutil.copy(path, root / ("lib64" if path.name.startswith("ld-") else "lib") / path.name)


class Guest:
    """A running guest: what it has said, and what QEMU has seen happen to it, each with this machine's monotonic time."""

    def __init__(self, found: Parts, initramfs: Path, folder: Path, scenario: str, *, nowayout: bool) -> None:
        self.said: list[tuple[float, str]] = []
        self.events: list[tuple[float, str]] = []
        monitor = folder / "qmp"
        command = [
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-M",
            "q35",
            "-cpu",
            "qemu64",
            "-m",
            "256",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]
        command += ["-monitor", "none", "-nic", "none", "-qmp", f"unix:{monitor},server=on,wait=off", "-no-reboot"]
        command += ["-device", "i6300esb", "-action", "watchdog=reset", "-kernel", str(found.image), "-initrd", str(initramfs)]
        command += ["-append", f"console=ttyS0 quiet panic=1 mitigations=off no_timer_check nowayout={int(nowayout)} scenario={scenario}"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._listen, args=(monitor,), daemon=True).start()

    def wait(self, word: str, seconds: float = 180) -> tuple[float, str]:
        """When it said that word first, and the rest of the line."""
        return self._wait(self.said, f"RIG {word}", seconds)

    def wait_event(self, name: str, seconds: float = 60) -> float:
        """When that happened to it."""
        return self._wait(self.events, name, seconds)[0]

    def happened(self, name: str) -> bool:
        """Whether it has."""
        return any(event == name for _, event in self.events)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _wait(self, lines: list[tuple[float, str]], start: str, seconds: float) -> tuple[float, str]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for at, line in list(lines):
                if start in line:
                    return at, line.partition(start)[2].strip()
            if self.process.poll() is not None or any("RIG FAILED" in line for _, line in list(self.said)):
                break
            time.sleep(0.02)
        console = "\n".join(line for _, line in self.said[-15:])
        pytest.fail(f"{start!r} did not come; QEMU saw {[name for _, name in self.events]}; the console:\n{console}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append((time.monotonic(), line.decode(errors="replace").strip()))

    def _listen(self, monitor: Path) -> None:
        with socket.socket(socket.AF_UNIX) as link:
            while self.process.poll() is None:
                try:
                    link.connect(str(monitor))
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    time.sleep(0.02)
            with link.makefile("rw") as lines:
                lines.readline()
                lines.write(json.dumps({"execute": "qmp_capabilities"}) + "\n")
                lines.flush()
                for line in lines:
                    message: dict[str, Any] = json.loads(line)
                    if "event" in message:
                        self.events.append((time.monotonic(), message["event"]))

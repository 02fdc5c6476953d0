"""The watchdog devices: Linux's /dev/watchdog, and the development watchdog for machines without one.

Opening a device starts it. Neither is ever disarmed by an accident: a device that would stop when it is merely closed is refused.
"""

import array
import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from quorate_agent import unixpath

DEVELOPMENT_PREFIX = "development:"

_WDIOC_GETSUPPORT = 0x80285700
_WDIOC_SETTIMEOUT = 0xC0045706
_WDIOC_GETTIMEOUT = 0x80045707
_WDIOF_SETTIMEOUT = 0x0080
_WDIOF_MAGICCLOSE = 0x0100
_ANSWER_SECONDS = 2.0


class NoWatchdog(Exception):
    """There is no usable watchdog; the message says exactly why."""


class Watchdog(Protocol):
    """An open, running watchdog."""

    identity: str
    timeout_seconds: float

    def pet(self) -> None:
        """Start its count anew. Raises OSError."""

    def disarm(self) -> bool:
        """Stop it for good and close it, if it can be stopped; else say False and leave it running."""

    def let_go(self) -> None:
        """Close it without a word: it has failed."""


def open_watchdog(device: str, timeout_seconds: float, runs_already: bool) -> Watchdog:
    """Open the watchdog of that name, and start it unless it runs already. Raises NoWatchdog.

    `runs_already`: a keeper before this one has started it, and others may rely on it. Then it is never stopped, whatever goes wrong, and
    its timeout is only asked for: setting it would be a ping that no licence has allowed.
    """
    if device.startswith(DEVELOPMENT_PREFIX):
        return DevelopmentWatchdog(device.removeprefix(DEVELOPMENT_PREFIX), timeout_seconds)
    return LinuxWatchdog(device, timeout_seconds, runs_already)


class LinuxWatchdog:
    """A device of the kernel's watchdog API."""

    def __init__(self, device: str, timeout_seconds: float, runs_already: bool) -> None:
        try:
            # Whatever else stands at that path is never written to, and a pipe must not hold the keeper up.
            if not stat.S_ISCHR(Path(device).stat().st_mode):
                raise NoWatchdog(f"{device}: it is not a character device, so it is no watchdog; nothing was written to it")
            self._fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise NoWatchdog(
                    f"{device} is held by another program (systemd's RuntimeWatchdogSec, watchdogd?); it is never shared"
                ) from error
            raise NoWatchdog(f"{device}: {error.strerror}") from error
        is_watchdog = False
        try:
            options, self.identity = self._support()
            is_watchdog = True
            nowayout = _nowayout(device)
            # Where the kernel does not say, stopping it might be a reset: it is petted on instead.
            self._can_disarm = nowayout is False
            if nowayout is not True and not options & _WDIOF_MAGICCLOSE:
                raise NoWatchdog(
                    f"{device} ({self.identity}) stops whenever it is closed (no magic close, nowayout is off); a crash would disarm it"
                )
            self.timeout_seconds = self._timeout(0 if runs_already else options, timeout_seconds)
        except (OSError, NoWatchdog) as error:
            with suppress(OSError):
                if is_watchdog and not runs_already:
                    os.write(self._fd, b"V")  # started a moment ago, nobody relies on it: it must not reset a host that never armed
            os.close(self._fd)
            if isinstance(error, NoWatchdog):
                raise
            raise NoWatchdog(f"{device}: it does not answer as a watchdog: {error.strerror}") from error

    def pet(self) -> None:
        """Start its count anew."""
        os.write(self._fd, b"\0")

    def disarm(self) -> bool:
        """Magic close, unless the kernel has taken the way out (nowayout)."""
        if not self._can_disarm:
            return False
        os.write(self._fd, b"V")
        os.close(self._fd)
        return True

    def let_go(self) -> None:
        """Close it, running or not."""
        with suppress(OSError):
            os.close(self._fd)

    def _support(self) -> tuple[int, str]:
        info = array.array("B", bytes(40))
        fcntl.ioctl(self._fd, _WDIOC_GETSUPPORT, info, True)
        raw = info.tobytes()
        return int.from_bytes(raw[:4], "little"), raw[8:].split(b"\0", 1)[0].decode(errors="replace")

    def _timeout(self, options: int, timeout_seconds: float) -> float:
        value = array.array("i", [max(1, round(timeout_seconds))])
        if options & _WDIOF_SETTIMEOUT:
            try:
                fcntl.ioctl(self._fd, _WDIOC_SETTIMEOUT, value, True)
            except OSError as error:
                raise NoWatchdog(f"the watchdog {self.identity} refuses a timeout of {value[0]} s: {error.strerror}") from error
        # What the driver really set counts, whatever was asked for.
        fcntl.ioctl(self._fd, _WDIOC_GETTIMEOUT, value, True)
        if value[0] <= 0:
            raise NoWatchdog(f"the watchdog {self.identity} reports a timeout of {value[0]} s")
        return float(value[0])


class DevelopmentWatchdog:
    """Client of a development watchdog: a process outside the host that kills all of it when it is not petted.

    The connection is the open descriptor: closing it pings once more and never disarms.
    """

    def __init__(self, path: str, timeout_seconds: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            unixpath.connect(self._socket, path)
            greeting = self._line()
            if greeting == "busy":
                raise NoWatchdog(f"development watchdog {path} is held by another program; it is never shared")
            word, _, self.identity = greeting.partition(" ")
            if word != "identity":
                raise NoWatchdog(f"development watchdog {path} greets with {greeting!r}, not with its identity")
            self._socket.sendall(f"settimeout {timeout_seconds:g}\n".encode())
            word, _, value = self._line().partition(" ")
            self.timeout_seconds = float(value) if word == "timeout" else 0.0
            if not self.timeout_seconds > 0:
                raise NoWatchdog(f"development watchdog {path} did not confirm a timeout")
        except (OSError, ValueError) as error:
            self._socket.close()
            raise NoWatchdog(f"development watchdog {path}: {error}") from error
        except NoWatchdog:
            self._socket.close()
            raise
        # A pet that would block is a pet that is not sent: the watchdog then does its work.
        self._socket.setblocking(False)

    def pet(self) -> None:
        """Start its count anew."""
        self._socket.sendall(b"pet\n")

    def disarm(self) -> bool:
        """It cannot be disarmed, like a device with nowayout."""
        return False

    def let_go(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            byte = self._socket.recv(1)
            if not byte:
                raise OSError("it closed the connection")
            line += byte
            if len(line) > 512:
                raise OSError("it talks too much")
        return line.decode(errors="replace").strip()


def _nowayout(device: str) -> bool | None:
    """Whether the kernel says that this device can no longer be stopped; None where it does not say."""
    rdev = Path(device).stat().st_rdev
    number, major = os.minor(rdev), os.major(rdev)
    for sysfs in Path("/sys/class/watchdog").glob("watchdog*"):
        try:
            # /dev/watchdog (10:130) is the same device as watchdog0.
            same = (sysfs / "dev").read_text().strip() == f"{major}:{number}" or (major == 10 and sysfs.name == "watchdog0")
            if same:
                return (sysfs / "nowayout").read_text().strip() == "1"
        except OSError:
            continue
    return None

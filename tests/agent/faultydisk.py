"""A heartbeat disk that can be made to hang, to fail and to be slow, for one host alone: a FUSE file over the file that all share.

This speaks the kernel's FUSE protocol itself, over /dev/fuse: one regular file, no library. The mount is a file over a file, in the mount
namespace of one host, so that every host finds its disk under the same path. A request that hangs puts the thread that asked into D
state, as a real disk does: no signal ends it. `close` ends all requests with an error, so nothing can stay behind.
"""

import errno
import os
import select
import socket
import stat
import struct
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

Fault = Literal["ok", "eio", "hang"] | float | tuple[float, ...]
"""What happens to a request; a number is the seconds by which it is late, several numbers are for the next requests in turn."""

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR_OUT = struct.Struct("<QII QQQQQQIIIIIIIIII")
_TRANSFER = struct.Struct("<QQIIQII")
_NOT_ANSWERED = (2, 36, 42)
"""FORGET, INTERRUPT, BATCH_FORGET."""
_MOST_BYTES = 128 * 1024
_DIRECT_IO = 1


class _Op(IntEnum):
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26


@dataclass(frozen=True, slots=True)
class _Request:
    arrived_at: float
    opcode: int
    unique: int
    number: int
    body: bytes


class FaultyDisk:
    """Serves one host's view of `backing`. Set `reads` and `writes` at any time, also while requests hang."""

    def __init__(self, backing: Path) -> None:
        self.reads: Fault = "ok"
        self.writes: Fault = "ok"
        self._file = os.open(backing, os.O_RDWR | os.O_CLOEXEC)
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._bell, self._button = socket.socketpair()
        self._stop = False
        self._held: list[_Request] = []
        self._arrived: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._serve, name="faulty disk", daemon=True)

    def mount(self, over: Path, inside: list[str]) -> None:
        """Put it over that file; `inside` is the command that enters the host's namespaces."""
        options = f"fd={self._fuse},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
        command = [*inside, "mount", "--internal-only", "-t", "fuse", "-o", options, "faulty", str(over)]
        done = subprocess.run(command, pass_fds=(self._fuse,), capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise OSError(f"cannot mount a FUSE file: {done.stderr.strip()}")
        self._thread.start()

    def set(self, *, reads: Fault | None = None, writes: Fault | None = None) -> None:
        """Change what happens from now on, to requests that hang too."""
        self.reads = self.reads if reads is None else reads
        self.writes = self.writes if writes is None else writes
        self._button.send(b"!")

    def close(self) -> None:
        """End every request with an error and forget those that hang: a write that had not reached the disk never will."""
        if self._stop:
            return
        self._stop = True
        self._button.send(b"!")
        if self._thread.is_alive():
            self._thread.join()
        for descriptor in (self._fuse, self._file):
            os.close(descriptor)  # the last close of /dev/fuse ends what is still asked for
        self._bell.close()
        self._button.close()

    def _serve(self) -> None:
        while not self._stop:
            late = [r.arrived_at + f for r in self._held if isinstance(f := self._fault(r), float)]
            select.select([self._fuse, self._bell], [], [], max(0.0, min(late) - time.monotonic()) if late else None)
            with suppress(BlockingIOError):
                self._bell.recv(64, socket.MSG_DONTWAIT)
            if not self._take():
                return
            self._held = [request for request in self._held if not self._stop and not self._done(request)]

    def _take(self) -> bool:
        """Read one request, if there is one; False once the file is unmounted."""
        try:
            data = os.read(self._fuse, _MOST_BYTES + 4096)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT)  # ENOENT: the request was called off meanwhile
        _, opcode, unique, *_ = _IN.unpack_from(data)
        if opcode not in _NOT_ANSWERED:
            self._held.append(_Request(time.monotonic(), opcode, unique, self._arrived[opcode], data[_IN.size :]))
            self._arrived[opcode] += 1
        return True

    def _fault(self, request: _Request) -> Fault:
        fault = self.reads if request.opcode == _Op.READ else self.writes if request.opcode == _Op.WRITE else "ok"
        return fault[request.number % len(fault)] if isinstance(fault, tuple) else fault

    def _done(self, request: _Request) -> bool:
        fault = self._fault(request)
        if fault == "hang" or (isinstance(fault, float) and time.monotonic() < request.arrived_at + fault):
            return False
        error, answer = (errno.EIO, b"") if fault == "eio" else self._answer(request)
        with suppress(OSError):  # the one who asked may be gone
            os.write(self._fuse, _OUT.pack(_OUT.size + len(answer), -error, request.unique) + answer)
        return True

    def _answer(self, request: _Request) -> tuple[int, bytes]:
        match request.opcode:
            case _Op.INIT:
                major, minor, ahead = struct.unpack_from("<III", request.body)
                return 0, _INIT_OUT.pack(major, min(minor, 31), ahead, 0, 16, 12, _MOST_BYTES, 1, 0, 0, 0)
            case _Op.GETATTR | _Op.SETATTR:
                size = os.fstat(self._file).st_size
                return 0, _ATTR_OUT.pack(0, 0, 0, 1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
            case _Op.OPEN:
                return 0, struct.pack("<QIi", 0, _DIRECT_IO, 0)
            case _Op.READ:
                _, offset, size, *_ = _TRANSFER.unpack_from(request.body)
                return 0, os.pread(self._file, size, offset)
            case _Op.WRITE:
                _, offset, size, *_ = _TRANSFER.unpack_from(request.body)
                written = os.pwrite(self._file, request.body[_TRANSFER.size : _TRANSFER.size + size], offset)
                return 0, struct.pack("<II", written, 0)
            case _Op.RELEASE | _Op.FSYNC | _Op.FLUSH:
                return 0, b""
            case _:
                return errno.ENOSYS, b""

"""The heartbeat disk: one thread that writes the own block and reads all of them, with O_DIRECT and aligned memory.

A disk may hang for ever. Then this thread hangs with it (the system calls hold no lock of Python) while the decision loop goes on, sees no
completed cycle, and lets the licence end. Nothing here decides anything.
"""

import errno
import mmap
import os
import queue
import socket
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass

from quorate_agent import clock
from quorate_core import slot
from quorate_core.heart import StartCycle
from quorate_core.licence import Cycle

_STACK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """A cycle to run on that disk. `issued_at` was taken by the decision loop before it asked."""

    path: str
    issued_at: float
    what: StartCycle


class Disk:
    """The worker and its two queues. `fileno` becomes readable when a cycle has ended."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Cycle] = queue.SimpleQueue()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._file: tuple[str, int] | None = None
        self._buffer = mmap.mmap(-1, slot.DISK_BYTES)
        threading.stack_size(_STACK_BYTES)  # memory is locked: the default of 8 MB would be taken at once
        threading.Thread(target=self._work, name="disk", daemon=True).start()

    def order(self, order: Order) -> None:
        """Ask for a cycle; returns at once."""
        self._orders.put(order)

    def results(self) -> list[Cycle]:
        """The cycles that have ended since the last call."""
        with suppress(BlockingIOError):
            self._bell.recv(64)
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._results.get_nowait())
        return found

    def fileno(self) -> int:
        """For select."""
        return self._bell.fileno()

    def _work(self) -> None:
        while True:
            order = self._orders.get()
            self._results.put(self._cycle(order))
            with suppress(BlockingIOError):
                self._button.send(b"!")

    def _cycle(self, order: Order) -> Cycle:
        what = order.what
        read_issued_at, found = order.issued_at, b""
        try:
            file = self._open(order.path)
            if what.header is not None:
                self._write(file, 0, what.header)
            if what.block is not None:
                found = self._read(file, slot.offset_of(what.slot), slot.BLOCK_BYTES)
                self._write(file, slot.offset_of(what.slot), what.block)
            read_issued_at = clock.now()
            data = self._read(file, 0, slot.offset_of(what.last_slot) + slot.BLOCK_BYTES)
        except OSError as error:
            self._close()
            return Cycle(
                what.number,
                order.issued_at,
                read_issued_at,
                clock.now(),
                what.block,
                error=f"heartbeat disk {order.path}: {_why(error)}",
            )
        completed_at = clock.now()
        size = slot.BLOCK_BYTES
        blocks = {index: data[slot.offset_of(index) : slot.offset_of(index) + size] for index in range(what.last_slot + 1)}
        return Cycle(what.number, order.issued_at, read_issued_at, completed_at, what.block, data[:size], blocks, found=found)

    def _open(self, path: str) -> int:
        if self._file is not None and self._file[0] == path:
            return self._file[1]
        self._close()
        file = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        kind = os.fstat(file).st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            os.close(file)
            raise OSError(errno.ENOTBLK, "it is neither a block device nor a file")
        self._file = (path, file)
        return file

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file[1], None
            os.close(file)

    def _write(self, file: int, offset: int, block: bytes) -> None:
        self._buffer[: len(block)] = block
        done = os.pwritev(file, [memoryview(self._buffer)[: len(block)]], offset)
        if done != len(block):
            raise OSError(errno.EIO, f"only {done} of {len(block)} bytes were written")

    def _read(self, file: int, offset: int, length: int) -> bytes:
        done = 0
        while done < length:
            count = os.preadv(file, [memoryview(self._buffer)[done:length]], offset + done)
            if count == 0:
                break  # beyond the end nothing was ever written: zeros
            done += count
            if done % slot.BLOCK_BYTES:
                break
        return self._buffer[:done] + bytes(length - done)


def _why(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "it does not support direct I/O (O_DIRECT) in blocks of 4096 bytes; a cached disk cannot carry heartbeats"
    return error.strerror or str(error)

"""One heartbeat disk: a thread that writes the own block and reads all of them, with O_DIRECT and aligned memory.

A disk may hang for ever. Then this thread hangs with it (the system calls hold no lock of Python) while the decision loop goes on, sees no
completed cycle, and lets the licence end. Nothing here decides anything but this: a disk that does not carry this pool's header is not
written, except for the header itself on a disk that is empty.
"""

import array
import errno
import fcntl
import mmap
import os
import queue
import socket
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass

from quorate_agent import clock, direct
from quorate_core import slot
from quorate_core.licence import Cycle
from quorate_core.statement import Malformed

_STACK_BYTES = 256 * 1024
_BLKSSZGET = 0x1268
_BLKGETSIZE64 = 0x80081272


@dataclass(frozen=True, slots=True)
class Order:
    """A cycle to run. `issued_at` was taken by the decision loop before it asked; `slot` is the own one, `block` what is to be written
    there, `header` what an empty disk is to begin with; None: nothing."""

    pool_id: bytes
    number: int
    issued_at: float
    slot: int
    block: bytes | None
    header: bytes | None
    last_slot: int


class Unusable(OSError):
    """This disk will not carry heartbeats as it is, however often it is asked."""


class Disk:
    """The worker of one path and its two queues. `fileno` becomes readable when a cycle has ended."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Cycle] = queue.SimpleQueue()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._file: int | None = None
        self._foreign = False
        self._buffer = mmap.mmap(-1, slot.DISK_BYTES)
        threading.stack_size(_STACK_BYTES)
        threading.Thread(target=self._work, name="disk", daemon=True).start()

    def order(self, order: Order) -> None:
        """Ask for a cycle; returns at once."""
        self._orders.put(order)

    def retire(self) -> None:
        """Let the thread end once it has done what it was asked for; returns at once."""
        self._orders.put(None)

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
        while (order := self._orders.get()) is not None:
            self._results.put(self._cycle(order))
            with suppress(BlockingIOError):
                self._button.send(b"!")
        self._close()

    def _cycle(self, order: Order) -> Cycle:
        read_issued_at, found, written = order.issued_at, b"", None
        length = slot.offset_of(order.last_slot) + slot.BLOCK_BYTES
        try:
            file = self._open()
            # Looked at again without a header too: with several disks one order in two has none, and the host is to say one thing.
            if (order.header is not None or self._foreign) and not any(self._read(file, 0, length)):
                self._refuse_foreign(file)
                if order.header is not None:
                    self._write(file, 0, order.header)
            if order.block is not None and self._is_ours(file, order.pool_id):
                found = self._read(file, slot.offset_of(order.slot), slot.BLOCK_BYTES)
                self._write(file, slot.offset_of(order.slot), order.block)
                written = order.block
            read_issued_at = clock.now()
            data = self._read(file, 0, length)
        except OSError as error:
            self._close()
            why = f"heartbeat disk {self.path}: {_why(error)}"
            refused = isinstance(error, Unusable) or error.errno == errno.EINVAL
            return Cycle(order.number, order.issued_at, read_issued_at, clock.now(), order.block, error=why, refused=refused)
        completed_at, size = clock.now(), slot.BLOCK_BYTES
        blocks = {index: data[slot.offset_of(index) : slot.offset_of(index) + size] for index in range(order.last_slot + 1)}
        return Cycle(order.number, order.issued_at, read_issued_at, completed_at, written, data[:size], blocks, found=found)

    def _is_ours(self, file: int, pool_id: bytes) -> bool:
        # Looked at before each write: the path may lead to another disk than it did a moment ago.
        try:
            return slot.decode_header(self._read(file, 0, slot.BLOCK_BYTES)) == pool_id
        except Malformed:
            return False

    def _open(self) -> int:
        if self._file is not None:
            return self._file
        file = os.open(self.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        try:
            refuse_unusable(file)
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _refuse_foreign(self, file: int) -> None:
        # Empty slots are no empty disk: a file system or an array may begin behind them.
        why = direct.content(file, self._buffer)
        self._foreign = bool(why)
        if why:
            raise Unusable(errno.EEXIST, f"{why}; it is not overwritten")

    def _write(self, file: int, offset: int, block: bytes) -> None:
        direct.write(file, self._buffer, offset, block)

    def _read(self, file: int, offset: int, length: int) -> bytes:
        return direct.read(file, self._buffer, offset, length)


def refuse_unusable(file: int) -> None:
    """Raise Unusable, saying why, if this open file cannot carry heartbeats. A file grows as it is written; a device does not."""
    kind = os.fstat(file).st_mode
    if stat.S_ISREG(kind):
        return
    if not stat.S_ISBLK(kind):
        raise Unusable(errno.ENOTBLK, "it is neither a block device nor a file")
    sector, size = array.array("i", [0]), array.array("Q", [0])
    fcntl.ioctl(file, _BLKSSZGET, sector, True)
    fcntl.ioctl(file, _BLKGETSIZE64, size, True)
    if sector[0] <= 0 or slot.BLOCK_BYTES % sector[0]:
        why = (
            f"its sectors have {sector[0]} bytes; a slot of {slot.BLOCK_BYTES} bytes is written in one piece on sectors of 512 to 4096 only"
        )
        raise Unusable(errno.ENOTSUP, why)
    if size[0] < slot.DISK_BYTES:
        raise Unusable(errno.ENOSPC, f"it is too small: {size[0]} bytes; a heartbeat disk needs {slot.DISK_BYTES}")


def _why(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "it does not support direct I/O (O_DIRECT) in blocks of 4096 bytes; a cached disk cannot carry heartbeats"
    return error.strerror or str(error)

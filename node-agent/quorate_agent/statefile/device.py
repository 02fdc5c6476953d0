"""Opens a heartbeat disk for the tools: O_DIRECT, aligned memory, and a sentence for every disk that cannot be one.

The agent's own reads and writes are elsewhere (`pulse/disk.py`); here nothing is fast and everything may wait for the disk.
"""

import errno
import mmap
import os
import stat
from pathlib import Path
from types import TracebackType

from quorate_agent import direct
from quorate_agent.pulse import disk
from quorate_core import backup, slot
from quorate_core.backup import Backup
from quorate_core.statement import Malformed

_CHUNK_BYTES = 1024 * 1024


class Unusable(Exception):
    """This disk cannot be used for what was asked; the sentence names it and says why."""


class Device:
    """An open disk. `write`: it may be written, and then O_DIRECT is a must. `alone`: refuse a device that the system uses (mounted, part
    of an array). `cached` says that reads went through this host's memory, as they do for a copy on a file system without direct I/O."""

    def __init__(self, path: str, *, write: bool = False, alone: bool = False) -> None:
        self.path, self.cached = path, False
        try:
            self._file = self._open(write, alone)
        except OSError as error:
            raise Unusable(f"{path}: {_why(error)}") from error
        self._buffer = mmap.mmap(-1, _CHUNK_BYTES)

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)

    def _open(self, write: bool, alone: bool) -> int:
        mode = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        kind = Path(self.path).stat().st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            raise OSError(errno.ENOTBLK, "it is neither a block device nor a file")
        # Without O_CREAT, and for block devices only, O_EXCL asks whether anything else holds the device.
        if alone and stat.S_ISBLK(kind):
            mode |= os.O_EXCL
        try:
            file = os.open(self.path, mode | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL or write:
                raise
            file, self.cached = os.open(self.path, mode), True
        try:
            disk.refuse_unusable(file)
        except OSError:
            os.close(file)
            raise
        return file

    @property
    def size_bytes(self) -> int:
        """The size of the device or file, in bytes."""
        return os.lseek(self._file, 0, os.SEEK_END)

    @property
    def grows(self) -> bool:
        """Whether it is a file, which grows as it is written; a device does not."""
        return stat.S_ISREG(os.fstat(self._file).st_mode)

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes; beyond the end nothing was ever written, so zeros. Raises Unusable."""
        found = bytearray()
        there = length if self.grows else max(0, min(length, self.size_bytes - offset))
        try:
            while len(found) < there:
                found += direct.read(self._file, self._buffer, offset + len(found), min(_CHUNK_BYTES, there - len(found)))
        except OSError as error:
            raise Unusable(f"{self.path}: reading at byte {offset}: {_why(error)}") from error
        return bytes(found) + bytes(length - there)

    def content(self) -> str:
        """What keeps this disk from being taken for empty, for people; "" for nothing. Raises Unusable."""
        try:
            return direct.content(self._file, self._buffer)
        except OSError as error:
            raise Unusable(f"{self.path}: {_why(error)}") from error

    def first_byte(self, start: int, end: int) -> int | None:
        """Where the first byte lies that is not zero; `start` is a whole block. Raises Unusable."""
        try:
            return direct.first_byte(self._file, self._buffer, start, end)
        except OSError as error:
            raise Unusable(f"{self.path}: reading at byte {start}: {_why(error)}") from error

    def write(self, offset: int, data: bytes) -> None:
        """Put those whole blocks there, on the disk itself before this returns. Raises Unusable."""
        try:
            for start in range(0, len(data), _CHUNK_BYTES):
                direct.write(self._file, self._buffer, offset + start, data[start : start + _CHUNK_BYTES])
            os.fdatasync(self._file)
        except OSError as error:
            raise Unusable(f"{self.path}: writing at byte {offset}: {_why(error)}") from error

    def slots(self) -> list[bytes]:
        """All slots, read at once."""
        data = self.read(0, slot.DISK_BYTES)
        return [data[at : at + slot.BLOCK_BYTES] for at in range(slot.BLOCK_BYTES, slot.DISK_BYTES, slot.BLOCK_BYTES)]

    def header(self) -> bytes:
        """The first block."""
        return self.read(0, slot.BLOCK_BYTES)

    def copy(self, number: int) -> Backup | Malformed:
        """That copy of the backup, or why there is none."""
        offset = backup.offset_of(number)
        try:
            length = backup.length_of(self.read(offset, slot.BLOCK_BYTES))
            return backup.decode(self.read(offset, length))
        except Malformed as why:
            return why

    def backups(self) -> list[Backup | None]:
        """Both copies; None for one that cannot be read."""
        return [found if isinstance(found := self.copy(number), Backup) else None for number in range(backup.COPIES)]


def _why(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "it does not support direct I/O (O_DIRECT) in blocks of 4096 bytes; a cached disk cannot carry heartbeats"
    if error.errno == errno.EBUSY:
        return "the system uses it: it is mounted, or part of an array or a logical volume"
    return error.strerror or str(error)

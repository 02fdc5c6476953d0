"""Reads and writes of whole blocks with O_DIRECT, and the look for anything that a disk holds. For pulse and for `quorate-statefile`.

A read that came back short is never taken for a disk on which nothing was written: what is missing may be the record that this host was
evicted.
"""

import errno
import mmap
import os
import stat

from quorate_core import backup, slot

_TAIL_BYTES = 1024 * 1024
"""Arrays and partition tables keep their records at the end of a device."""


def read(file: int, buffer: mmap.mmap, offset: int, length: int) -> bytes:
    """Those bytes, which fit into the buffer and begin on a whole block; zeros beyond the end of a regular file: never written."""
    done, before, ends_at = 0, -1, None
    while True:
        came = done + os.preadv(file, [memoryview(buffer)[done:length]], offset + done)
        if came == length:
            return buffer[:length]
        if offset + came == ends_at:
            return buffer[:came] + bytes(length - came)
        # O_DIRECT goes on at whole blocks only, so a block of which a part has come is read again.
        whole = came // slot.BLOCK_BYTES * slot.BLOCK_BYTES
        if whole == done and came <= before:
            raise OSError(errno.EIO, f"only {came} of {length} bytes were read at byte {offset}")
        # Asked before the next read: a file may grow meanwhile.
        size = _file_size(file)
        done, before, ends_at = whole, came, -1 if size is None else max(size, offset + whole)


def write(file: int, buffer: mmap.mmap, offset: int, data: bytes) -> None:
    """Put those whole blocks there; they fit into the buffer."""
    buffer[: len(data)] = data
    done = os.pwritev(file, [memoryview(buffer)[: len(data)]], offset)
    if done != len(data):
        raise OSError(errno.EIO, f"only {done} of {len(data)} bytes were written")


def first_byte(file: int, buffer: mmap.mmap, start: int, end: int) -> int | None:
    """Where the first byte lies that is not zero; `start` is a whole block."""
    for offset in range(start, end, len(buffer)):
        data = read(file, buffer, offset, min(len(buffer), end - offset))
        if any(data):
            return offset + len(data) - len(data.lstrip(bytes(1)))
    return None


def content(file: int, buffer: mmap.mmap) -> str:
    """What keeps a disk from being taken for empty, for people; "" for nothing. Looked at: all that Quorate ever writes, and the end."""
    size = os.lseek(file, 0, os.SEEK_END)
    # A device is read up to its end, which is a whole sector. A file may end anywhere, and O_DIRECT reads whole blocks.
    end = size if _file_size(file) is None else -(-size // slot.BLOCK_BYTES) * slot.BLOCK_BYTES
    tail = max(0, size - _TAIL_BYTES) // slot.BLOCK_BYTES * slot.BLOCK_BYTES
    for start, stop in ((0, min(end, backup.END_BYTES)), (tail, end)):
        found = first_byte(file, buffer, start, stop)
        if found is not None:
            return f"it holds something at byte {found}"
    return ""


def _file_size(file: int) -> int | None:
    """The size of a regular file; None for a device, which has no end that a read may run into."""
    found = os.fstat(file)
    return found.st_size if stat.S_ISREG(found.st_mode) else None

"""Lets a pool outlive the command that made it: the command waits in front, a child owns the pool behind.

The child dies cleanly when the command is interrupted before the pool is up, and stays when it has finished.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable


def in_background(work: Callable[[], int], stay: Callable[[], None]) -> int:
    """Run `work` in a child; return its exit code here while the child goes on with `stay`.

    The child shares the terminal until `work` is done. Interrupting the command interrupts the child, which then ends.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os._exit(_behind(work, stay, write_end))
    os.close(write_end)
    with contextlib.suppress(KeyboardInterrupt):
        answer = _read(read_end)
        if not answer:
            os.waitpid(child, 0)
            return 2
        return int(answer)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGINT)
    with contextlib.suppress(KeyboardInterrupt, ChildProcessError):
        os.waitpid(child, 0)
    return 130


def _read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def _behind(work: Callable[[], int], stay: Callable[[], None], write_end: int) -> int:
    os.setsid()  # the terminal's Ctrl-C goes to the command in front, which passes it on
    code = 1
    try:
        code = work()
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(write_end, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(str(code).encode())
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    if code == 0:
        stay()
    return code


class Stopped(BaseException):
    """SIGTERM arrived."""


def until_stopped() -> None:
    """Sleep until SIGTERM or Ctrl-C."""

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    with contextlib.suppress(Stopped, KeyboardInterrupt):
        while True:
            time.sleep(3600)

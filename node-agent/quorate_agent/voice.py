"""Logging that cannot hang the process: a line is dropped, and counted, rather than waited for.

A full log pipe must never stop the petting of a watchdog or the sending of a heartbeat.
"""

import os
import select

_STDERR = 2
_ATOMIC_BYTES = 4000
"""A pipe that is ready to be written takes at least this much without blocking (PIPE_BUF is 4096)."""


class Voice:
    """One sentence per line on standard error, with the name of the process before it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.dropped = 0

    def say(self, sentence: str, *, loud: bool = False) -> None:
        """Write the sentence, if that is possible at once."""
        # A path or a name may hold what is no UTF-8; that must not end the process that names it.
        line = f"{self._name}: {'WARNING: ' if loud else ''}{sentence}\n".encode(errors="backslashreplace")[:_ATOMIC_BYTES]
        try:
            ready = select.select([], [_STDERR], [], 0)[1]
            if ready:
                os.write(_STDERR, line)
                return
        except OSError:
            pass  # a closed log is no reason to die; the line is counted below
        self.dropped += 1

"""Stands in for virt-launcher and its guest: a process that holds its VM's disk file and writes to it for as long as it lives.

Every line is `host incarnation sequence monotonic_ns`. All hosts of the local pool share one kernel and so one monotonic clock:
`verdict` can tell from the file alone whether two incarnations ever ran at once. Standard library only; run with `python -I -S`.
"""

import os
import signal
import sys
import time

PERIOD_SECONDS = 0.2


def main() -> None:
    """`launcher.py DISK HOST INCARNATION`; ends with 0 on SIGTERM, as a guest that shuts down."""
    disk, host, incarnation = sys.argv[1:4]
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    fd = os.open(disk, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sequence = 0
    while not stopped:
        os.write(fd, f"{host} {incarnation} {sequence} {time.monotonic_ns()}\n".encode())
        sequence += 1
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main()

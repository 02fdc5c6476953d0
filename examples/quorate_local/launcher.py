"""The VM, as far as its disk is concerned: one process that appends to the VM's disk file for as long as it lives.

Stands in for virt-launcher and QEMU. Each line says who wrote it and when: `host incarnation sequence monotonic_seconds`. It takes no lock
and asks nobody: if two of them ever run at once, the file shows it (`verdict`).
Run with `python -I -S launcher.py DISK HOST INCARNATION`; standard library only, so that many of them are cheap.
"""

import os
import sys
import time

PERIOD_SECONDS = 0.2


def main() -> None:
    """Append until killed. The first line is written at once, so that no run is too short to be seen."""
    disk, host, incarnation = sys.argv[1:4]
    fd = os.open(disk, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sequence = 0
    while True:
        os.write(fd, f"{host} {incarnation} {sequence} {time.monotonic():.3f}\n".encode())
        sequence += 1
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main()

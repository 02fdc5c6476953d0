"""Asks the kernel to keep a process in memory and to let it run when it has to.

Best effort: what is refused is said once, with the remedy.
"""

import ctypes
import errno
import gc
import os
from pathlib import Path

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23


def harden(priority: int) -> list[str]:
    """Lock memory and take real-time priority (SCHED_RR). Returns a sentence for each thing that was refused.

    What the process has once used stays in memory; what it never used is not fetched for that. A page that must then come from a disk
    that hangs makes it late, and being late is safe.
    """
    refused = []
    libc = ctypes.CDLL(None, use_errno=True)
    gc.collect()
    if hasattr(libc, "malloc_trim"):  # not in every C library
        libc.malloc_trim(0)  # what only the start has needed is not to be locked
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        why, remedy = os.strerror(ctypes.get_errno()), "raise its memlock limit" if _may(_CAP_IPC_LOCK) else "grant CAP_IPC_LOCK"
        refused.append(f"memory is not locked (mlockall: {why}): under memory pressure this process may be late; {remedy}")
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    except OSError as error:
        remedy = "grant CAP_SYS_NICE"
        if error.errno == errno.EPERM and _may(_CAP_SYS_NICE):
            remedy = "its cgroup allows no real-time time (cpu.rt_runtime_us)"
        refused.append(f"no real-time priority (SCHED_RR {priority}: {error.strerror}): under load this process may be late; {remedy}")
    return refused


def _may(capability: int) -> bool:
    """Whether this process has that capability."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    return any(int(line.split()[1], 16) >> capability & 1 for line in lines if line.startswith("CapEff:"))

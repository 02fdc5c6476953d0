"""Asks the kernel to keep a process in memory and to let it run when it has to. Best effort: what is refused is said once."""

import ctypes
import os

_MCL_CURRENT, _MCL_FUTURE = 1, 2


def harden(priority: int) -> list[str]:
    """Lock memory and take real-time priority (SCHED_RR). Returns a sentence for each thing that was refused."""
    refused = []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        why = os.strerror(ctypes.get_errno())
        refused.append(f"memory is not locked ({why}): under memory pressure this process may be late; grant CAP_IPC_LOCK")
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    except OSError as error:
        refused.append(f"no real-time priority ({error.strerror}): under load this process may be late; grant CAP_SYS_NICE")
    return refused

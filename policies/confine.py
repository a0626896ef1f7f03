"""Takes from a policy process what a policy has no business with: memory without end, files, core dumps, the network.

Called once, before the plugin is loaded. What the operating system doesn't offer is left out: the deadline and the
planner's checks hold everywhere.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_NO_NEW_PRIVS = 38

OPEN_FILES_MAX = 64
FILE_BYTES_MAX = 1024 * 1024
"""Largest file that it may write: its own standard error."""


def confine(memory_bytes: int) -> bool:
    """Set the limits; whether the process has no network either."""
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES_MAX)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return _leave_network()


def limit_time(deadline_s: float) -> None:
    """End the process, whatever it does, a little after the planner has given up on it; 0 lifts the limit."""
    signal.setitimer(signal.ITIMER_REAL, deadline_s * 2 + 1 if deadline_s else 0)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):  # macOS has no limit on address space
        return


def _leave_network() -> bool:
    """An empty network namespace, where the kernel lets an ordinary user make one."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)

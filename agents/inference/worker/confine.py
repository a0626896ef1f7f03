"""What a freshly forked worker does to itself before it touches a model: limits, rights, signals, descriptors.

The zygote calls `confine` in the child. Stronger walls (seccomp, Landlock, cgroups) are `mechanisms/sandbox/`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
from pathlib import Path

OPEN_FILES_MAX = 512
OOM_SCORE_ADJUSTMENT = 500
"""Above the gateway's, so that the kernel ends a worker first."""

_PR_SET_NO_NEW_PRIVS = 38


def confine(lifeline_fd: int, memory_limit_mib: int | None) -> None:
    """Give up what a worker doesn't need; `OSError` when the kernel refuses."""
    die_with(lifeline_fd)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if memory_limit_mib is not None:
        allowed = _address_space_bytes() + memory_limit_mib * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    raise_oom_score()


def die_with(lifeline_fd: int) -> None:
    """Let the kernel SIGKILL this process when the other end of the pipe closes.

    The gateway holds the only writing end. PDEATHSIG would name the zygote, whose death must not matter, and a thread
    that waits for end-of-file would not run while a model holds the interpreter's lock; F_SETSIG needs neither.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    try:
        closed = os.read(lifeline_fd, 1) == b""
    except BlockingIOError:
        closed = False
    if closed:  # it closed before the kernel was asked to watch
        os._exit(1)


def raise_oom_score() -> None:
    """Make this process the kernel's first choice when memory runs out; kernels without the file are left alone."""
    path = Path("/proc/self/oom_score_adj")
    try:
        path.write_text(str(min(1000, int(path.read_text()) + OOM_SCORE_ADJUSTMENT)))
    except OSError:
        return


def keep_only(fds: set[int]) -> None:
    """Close every descriptor but these and 0–2."""
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd > 2 and fd not in fds:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed already
                os.close(fd)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()

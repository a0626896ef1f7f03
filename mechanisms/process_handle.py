"""One operating-system process that may not be our child: is it still the same, tell when it ends, signal it.

A pid alone proves nothing, it is reused; pid and start time together do within one boot. On Linux a pidfd tells the end
at once and for any process; elsewhere psutil is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil


def boot_id() -> str:
    """Random for each boot; pids and start times mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def start_time(pid: int) -> int:
    """Field 22 of `/proc/<pid>/stat` (clock ticks since boot); 0 when there is no such process or it is a zombie."""
    try:
        # The name in parentheses may hold anything, so count from the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except FileNotFoundError:
        return 0 if Path("/proc/self").exists() else _start_time_elsewhere(pid)
    except ProcessLookupError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _start_time_elsewhere(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.Error:
        return 0


class ProcessHandle:
    """A process and the group that it leads."""

    def __init__(self, pid: int, started: int) -> None:
        self.pid = pid
        self.started = started
        self.exit_code: int | None = None
        """Known only of processes that this agent itself started; negative is a signal."""
        self._pidfd = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it is still the process that it was."""
        self._reap()
        return self.exit_code is None and start_time(self.pid) == self.started

    def _reap(self) -> None:
        """Take the exit code if it is our child and has ended."""
        if self.exit_code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.exit_code = os.waitstatus_to_exitcode(status)

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` on the running event loop when it ends, where pidfds exist; elsewhere looking tells."""
        if not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._on_end, ended)

    def _on_end(self, ended: Callable[[], None]) -> None:
        self.close()
        ended()

    def signal_group(self, number: signal.Signals) -> None:
        """Signal it and all that it started in its group; the group may outlive its leader."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.is_alive or number is signal.SIGKILL:
                os.killpg(self.pid, number)

    def set_affinity(self, cores: tuple[int, ...]) -> None:
        """Let it and its descendants run on these cores alone, each of their threads included (Linux)."""
        with contextlib.suppress(psutil.Error):
            for process in (leader := psutil.Process(self.pid), *leader.children(recursive=True)):
                for thread in process.threads():
                    with contextlib.suppress(ProcessLookupError):
                        os.sched_setaffinity(thread.id, cores)

    def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._pidfd >= 0 and self._loop is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

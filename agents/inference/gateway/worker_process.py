"""One worker as the gateway sees it: from the fork over its load to its end, with socket, lifeline and pidfd.

`serving.py` makes one per incarnation and hears of it by `WorkerListener`. Whatever happens to the process ends in
exactly one of `worker_died` (nobody asked) or `worker_gone` (we did).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from ....descriptions.messages.gateway import ServingSpec
from ..spawning import Spawn
from .pool import Call
from .worker_link import Loaded, WorkerLink
from .zygote_link import ZygoteLink

REASON_S_MAX = 0.25
"""How long a closed socket waits for the zygote to say what the worker died of."""
END_S_MAX = 2.0
"""From DRAIN to the end of the process; then it is killed."""


class WorkerListener(Protocol):
    """Who is told; `worker` is the one it happened to."""

    def worker_ready(self, worker: WorkerProcess, loaded: Loaded) -> None:
        """It may take calls."""
        ...

    def worker_refused(self, worker: WorkerProcess, reason: str) -> None:
        """It can't load its model."""
        ...

    def worker_lost(self, worker: WorkerProcess) -> None:
        """It takes no more calls; `worker_died` or `worker_gone` follows, and then what it held can be taken."""
        ...

    def worker_died(self, worker: WorkerProcess, reason: str) -> None:
        """It ended, and nobody had asked it to."""
        ...

    def worker_gone(self, worker: WorkerProcess) -> None:
        """It ended as asked."""
        ...

    def call_answered(self, worker: WorkerProcess, call: Call, status: int) -> None:
        """It has room for another call."""
        ...


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker needs from the gateway's configuration."""

    logs: Path
    body_bytes_max: int
    code_folders: tuple[Path, ...]

    def log(self, replica: str) -> Path:
        """Where a replica's workers write what they print."""
        return self.logs / f"{replica}.log"

    def remove_logs(self, replica: str) -> None:
        """The replica is no more."""
        log = self.log(replica)
        for path in (log, full_log(log)):
            path.unlink(missing_ok=True)


def full_log(log: Path) -> Path:
    """Where a log goes when it is full."""
    return log.with_name(log.name + ".1")


class WorkerProcess:
    """A worker, forked or about to be."""

    def __init__(self, replica: str, incarnation: int, spec: ServingSpec, listener: WorkerListener) -> None:
        self.replica = replica
        self.incarnation = incarnation
        self.spec = spec
        self.pid = 0
        self.loaded: Loaded | None = None
        self.link: WorkerLink | None = None
        self.is_retiring = False
        self._listener = listener
        self._pidfd = -1
        self._lifeline = -1
        """Writing end; the kernel kills the worker when it closes."""
        self._asked_to_end = False
        self._is_over = False
        self._killed_for = ""
        self._link_reason = ""
        """How its socket ended."""
        self._timers: list[asyncio.TimerHandle] = []

    async def start(self, zygote: ZygoteLink, place: WorkerPlace) -> None:
        """Have it forked and send it LOAD; the rest comes to the listener. `OSError` when descriptors run out."""
        spec = self.spec
        with contextlib.ExitStack() as handed_over:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            log_fd = os.open(place.log(self.replica), flags, 0o600)
            handed_over.callback(os.close, log_fd)
            lifeline_r, self._lifeline = os.pipe2(os.O_CLOEXEC)
            handed_over.callback(os.close, lifeline_r)
            ours, theirs = socket.socketpair()
            handed_over.enter_context(theirs)
            ours.setblocking(False)
            link = WorkerLink(self, spec.in_flight_max, place.body_bytes_max * 4)
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            if self._is_over:  # told to end meanwhile
                link.close()
                return
            self.link = link
            order = Spawn(
                self.incarnation, self.replica, spec.plugin, spec.env, spec.memory_limit_mib, place.body_bytes_max
            )
            zygote.spawn(order, [theirs.fileno(), lifeline_r, log_fd])
        self._later(spec.load_timeout_s, self._load_is_late)
        folders = os.pathsep.join(str(folder) for folder in place.code_folders)
        fields = {"model": spec.model, "version": spec.version, "plugin": spec.plugin, "path": spec.path}
        link.load(fields | {"device": spec.device, "code-folders": folders}, msgspec.json.encode(spec.options))

    # -- what the zygote says ----------------------------------------------------------------------

    def spawned(self, pid: int, pidfd: int) -> None:
        """It is forked."""
        self.pid, self._pidfd = pid, pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._process_ended)
        if self._is_over:
            self._release()

    def exited(self, reason: str) -> None:
        """It ended, or was never forked."""
        self._over(reason)

    # -- what the link says ------------------------------------------------------------------------

    def worker_ready(self, loaded: Loaded) -> None:
        self._stop_timers()
        self.loaded = loaded
        self._listener.worker_ready(self, loaded)

    def worker_refused(self, reason: str) -> None:
        self._stop_timers()
        self._listener.worker_refused(self, reason)

    def call_answered(self, call: Call, status: int) -> None:
        self._listener.call_answered(self, call, status)

    def link_lost(self, reason: str) -> None:
        """Wait a moment for the better reason; the process may also live on without its socket, then it is killed."""
        self._link_reason = reason
        self._listener.worker_lost(self)
        self._later(REASON_S_MAX, self.kill, reason)

    # -- orders ------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let it finish what it holds and end; then it is killed."""
        self._asked_to_end = True
        if self.link is None or self.link.is_lost:
            self.kill("told to end")
            return
        self.link.drain()
        self._later(END_S_MAX, self.kill, "did not end when told to")

    def end_late(self) -> None:
        """The time to finish is over."""
        if not self._is_over:
            self.kill("told to end", is_asked=True)

    def kill(self, reason: str, *, is_asked: bool = False) -> None:
        """End it now; `is_asked` when that is no fault of its own."""
        self._killed_for = self._killed_for or reason
        self._asked_to_end |= is_asked
        if self._pidfd < 0:  # not forked yet: should it still be, it finds its lifeline closed
            self._over(reason)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._later(REASON_S_MAX, self._over, reason)  # the zygote may be gone as well

    # -- inside ------------------------------------------------------------------------------------

    def _load_is_late(self) -> None:
        self._listener.worker_refused(self, f"the model took more than {self.spec.load_timeout_s:g} s to load")

    def _process_ended(self) -> None:
        """The pidfd says so; the zygote tells why, if it still can."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._later(REASON_S_MAX, self._over, self._link_reason or "ended")

    def _over(self, reason: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._stop_timers()
        if self.link is not None and not self.link.is_lost:
            self.link.close()
        self._listener.worker_lost(self)
        self._release()
        if self._asked_to_end:
            self._listener.worker_gone(self)
        else:
            self._listener.worker_died(self, self._killed_for or reason)

    def _release(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _later(self, delay_s: float, call: Callable[..., None], *arguments: object) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, call, *arguments))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

"""The gateway's hold on one zygote: starts it, sends it `Spawn` with descriptors, passes on what it reports.

`serving.py` has one per runtime and gives it a listener. A zygote that dies takes no worker with it; the next spawn
starts another. One without workers is ended after a while: it holds some 40 MB for nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ..spawning import PACKET_MAX, Exited, Preloaded, Spawn, Spawned, decode_from_zygote, encode

logger = logging.getLogger(__name__)

ZYGOTE = f"{__name__.rpartition('.gateway.')[0]}.worker.zygote"
PRELOAD_S_MAX = 60.0
IDLE_S_MAX = 60.0
ENVIRONMENT = {
    # Thread pools made while importing would not survive the fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # ONNX Runtime from 1.29 on starts a thread at its import that sends usage data to its vendor.
    "ORT_DISABLE_TELEMETRY": "1",
    # One arena: a worker computes in one thread, and freed memory goes back to the system.
    "MALLOC_ARENA_MAX": "1",
}


class ZygoteListener(Protocol):
    """Who wants to know."""

    def worker_spawned(self, incarnation: int, pid: int, pidfd: int) -> None:
        """The fork is done; the listener owns the descriptor."""
        ...

    def worker_exited(self, incarnation: int, reason: str) -> None:
        """A worker ended, or could not be forked."""
        ...

    def worker_unborn(self, incarnation: int, reason: str) -> None:
        """The runtime can't be imported, so no worker will ever be forked."""
        ...


@dataclass(eq=False)
class ZygoteLink:
    """One runtime's zygote, running or not."""

    runtime: str
    class_path: str
    listener: ZygoteListener
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _unborn: set[int] = field(default_factory=set)
    """Asked for and not forked."""
    _living: set[int] = field(default_factory=set)
    _preload_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """0 when it doesn't run."""
        return self._process.pid if self._process else 0

    def spawn(self, spawn: Spawn, fds: list[int]) -> None:
        """Have a worker forked; the answer comes to the listener. The caller keeps (and closes) its descriptors."""
        if self._control is None:
            self._start()
        assert self._control is not None
        self._unborn.add(spawn.incarnation)
        self._stop_timers(only_idle=True)
        try:
            socket.send_fds(self._control, [encode(spawn)], fds)
        except OSError as error:  # its end is closed (EOF follows) or its queue is full: both mean it is stuck
            logger.warning("runtime=%s zygote=%d takes no spawn: %s", self.runtime, self.pid, error)
            asyncio.get_running_loop().call_soon(self._lost, f"the {self.runtime} zygote takes no orders: {error}")

    def stop(self) -> None:
        """End the zygote; workers live on."""
        self._lost(f"the {self.runtime} zygote was ended")

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", ZYGOTE),
                    *("--runtime", self.runtime, "--class", self.class_path, "--fd", str(theirs.fileno())),
                ],
                pass_fds=(theirs.fileno(),),
                env=environment | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        self._control = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._readable)
        late = f"the {self.runtime} zygote took more than {PRELOAD_S_MAX:.0f} s to import"
        self._preload_timer = loop.call_later(PRELOAD_S_MAX, self._lost, late)
        logger.info("runtime=%s zygote=%d started", self.runtime, self._process.pid)

    def _readable(self) -> None:
        assert self._control is not None
        try:
            packet, fds, _, _ = socket.recv_fds(self._control, PACKET_MAX, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"the {self.runtime} zygote is gone: {error}")
            return
        if not packet:
            self._lost(f"the {self.runtime} zygote ended")
            return
        try:
            self._take(decode_from_zygote(packet), fds)
        except msgspec.DecodeError as error:
            for fd in fds:
                os.close(fd)
            self._lost(f"the {self.runtime} zygote sent nonsense: {error}")

    def _take(self, message: Preloaded | Spawned | Exited, fds: list[int]) -> None:
        match message:
            case Preloaded(error="", threads=threads):
                self._stop_timers()
                if threads != 1:
                    logger.warning("runtime=%s zygote=%d forks with %d threads", self.runtime, self.pid, threads)
            case Preloaded(error=error):
                unborn, self._unborn = self._unborn, set()
                self._lost(error)
                for incarnation in sorted(unborn):
                    self.listener.worker_unborn(incarnation, error)
            case Spawned(incarnation=incarnation, pid=pid):
                self._unborn.discard(incarnation)
                self._living.add(incarnation)
                self.listener.worker_spawned(incarnation, pid, fds[0])
            case Exited(incarnation=incarnation, reason=reason):
                self._unborn.discard(incarnation)
                self._living.discard(incarnation)
                self.listener.worker_exited(incarnation, reason)
                self._end_when_idle()

    def _end_when_idle(self) -> None:
        if not self._unborn and not self._living and self._idle_timer is None:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(IDLE_S_MAX, self._lost, "nothing to do")

    def _stop_timers(self, *, only_idle: bool = False) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._preload_timer is not None and not only_idle:
            self._preload_timer.cancel()
            self._preload_timer = None

    def _lost(self, reason: str) -> None:
        control, process = self._control, self._process
        self._control = self._process = None
        self._stop_timers()
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        if process is not None:
            process.kill()
            process.wait()
            logger.info("runtime=%s zygote=%d ended: %s", self.runtime, process.pid, reason)
        unborn, self._unborn = self._unborn, set()
        self._living.clear()
        for incarnation in sorted(unborn):
            self.listener.worker_exited(incarnation, reason)

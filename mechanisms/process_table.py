"""The processes of one node: spawned through the launcher, written down, found again, watched, signalled.

`process.py` decides what to run and answers the agent; this is what it keeps between calls. Nothing here outlives the
agent but the processes themselves and their records.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..descriptions.errors import TransportError
from ..descriptions.messages.desired import ProcessTask, ReplicaSpec
from .cgroups import Cgroups, open_cgroups
from .log_files import open_log, remove_logs
from .process_handle import ProcessHandle, boot_id, start_time
from .process_plan import Plan
from .process_record import Record, Records, ended
from .runner import Host

logger = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass
class Running:
    """A record and what this run of the agent knows beside it."""

    record: Record
    handle: ProcessHandle
    launched_s: float
    """`time.monotonic`; long ago for processes of an earlier agent."""
    is_stopping: bool = False
    killer: asyncio.TimerHandle | None = None
    was_ready: bool = False

    @property
    def task(self) -> ProcessTask:
        """What it was started for."""
        assert isinstance(self.record.spec.task, ProcessTask)
        return self.record.spec.task


@dataclass
class ProcessTable:
    """Everything that runs or has ended and not been stopped yet, by replica and digest."""

    host: Host | None = None
    records: Records | None = None
    running: dict[tuple[str, str], Running] = field(default_factory=dict)
    cpu_overlays: dict[str, float] = field(default_factory=dict)
    """Replica id or `application.component` to cores, by `setCpu`."""
    groups: Cgroups | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def open(self, host: Host, *, use_cgroups: bool) -> None:
        """Find what an earlier agent left."""
        self.host, self.loop = host, asyncio.get_running_loop()
        self.records = Records(host.runtime_dir / "processes")
        self.groups = open_cgroups() if use_cgroups else None
        for record in self.records.load(boot_id()):
            self._watch(Running(record, ProcessHandle(record.pid, record.start_time), float("-inf")))
            logger.info("replica=%s pid=%d adopted", record.spec.id, record.pid)

    def close(self) -> None:
        """Watch nothing any more; everything goes on."""
        for one in self.running.values():
            one.handle.close()
            if one.killer is not None:
                one.killer.cancel()
        self.running.clear()

    def _watch(self, one: Running) -> None:
        assert self.host is not None
        changed = self.host.changed
        self.running[one.record.key] = one
        one.handle.watch(lambda: changed("process"))

    def folder_of(self, replica: str) -> Path:
        """Its working directory."""
        assert self.host is not None
        return self.host.state_dir / "process" / "work" / replica

    def log_of(self, replica: str) -> Path:
        """What it wrote."""
        assert self.host is not None
        return self.host.state_dir / "process" / "logs" / f"{replica}.log"

    async def launch(self, spec: ReplicaSpec, digest: str, plan: Plan, ports: dict[str, int]) -> Running:
        """Start it in a thread, because a large plan waits for the launcher to read it."""
        one = await asyncio.to_thread(self.spawn, spec, digest, plan, ports)
        self._watch(one)
        return one

    def spawn(self, spec: ReplicaSpec, digest: str, plan: Plan, ports: dict[str, int]) -> Running:
        """Start the launcher, write the record, then hand over the plan. Blocking; not watched yet."""
        assert self.records is not None
        Path(plan.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        log = open_log(self.log_of(spec.id))
        reader, writer = os.pipe()
        try:
            pid = _spawn_launcher(reader, log)
        except OSError as error:
            os.close(writer)
            raise TransportError(f"no process could be started: {error.strerror}") from error
        finally:
            os.close(reader)
            os.close(log)
        record = Record(spec, digest, pid, start_time(pid), boot_id(), ports)
        try:
            self.records.save(record)
            with os.fdopen(writer, "wb") as stream:
                stream.write(msgspec.json.encode(plan))
        except BrokenPipeError:
            logger.debug("replica=%s pid=%d ended before it began", spec.id, pid)
        return Running(record, ProcessHandle(pid, record.start_time), time.monotonic())

    def replace(self, old: Running, new: Running) -> None:
        """Take `new` in place of `old`, which has ended; from a thread."""
        assert self.loop is not None
        self.running[new.record.key] = new
        self.loop.call_soon_threadsafe(old.handle.close)
        self.loop.call_soon_threadsafe(self._watch, new)

    def note_end(self, one: Running) -> None:
        """Write down that it has ended, and forget it if that was wanted."""
        one.handle.close()
        if one.is_stopping:
            self.forget(one)
        elif not one.record.ended:
            one.handle.signal_group(signal.SIGKILL)  # what it left behind in its group
            one.record = ended(one.record, one.handle.exit_code)
            assert self.records is not None
            self.records.save(one.record)

    def stop(self, one: Running, grace_s: float) -> None:
        """SIGTERM now, SIGKILL later; on the event loop."""
        one.is_stopping = True
        if one.killer is not None:
            one.killer.cancel()
        one.handle.signal_group(signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        loop = asyncio.get_running_loop()
        one.killer = loop.call_later(grace_s, one.handle.signal_group, signal.SIGKILL) if grace_s > 0 else None

    def forget(self, one: Running) -> None:
        """Remove its record, and what the replica kept if this was its last instance."""
        assert self.records is not None
        replica, digest = one.record.key
        if one.killer is not None:
            one.killer.cancel()
        one.handle.signal_group(signal.SIGKILL)
        one.handle.close()
        self.records.remove(replica, digest)
        self.running.pop((replica, digest), None)
        if self.groups is not None:
            self.groups.remove(f"{replica}-{digest}")
        if not any(other == replica for other, _ in self.running):
            shutil.rmtree(self.folder_of(replica), ignore_errors=True)
            remove_logs(self.log_of(replica))

    def of_target(self, target: str) -> list[Running]:
        """Running instances of a replica id or of `application.component`, sorted."""
        return [
            one
            for (replica, _), one in sorted(self.running.items())
            if not one.record.ended
            and target in (replica, f"{one.record.spec.application}.{one.record.spec.component}")
        ]

    def cpu_of(self, spec: ReplicaSpec) -> float:
        """Cores that it may use: what was set for it, for its component, or in its description."""
        of_component = self.cpu_overlays.get(f"{spec.application}.{spec.component}", spec.cpu)
        return self.cpu_overlays.get(spec.id, of_component)

    def ports_in_use(self) -> set[int]:
        """Ports that were handed out."""
        return {port for one in self.running.values() if not one.record.ended for port in one.record.ports.values()}


def _spawn_launcher(plan: int, log: int) -> int:
    """The pid of a launcher that reads its plan from `plan` and writes to `log`, in a session of its own."""
    argv = [sys.executable, "-I", "-S", "-B", str(LAUNCHER)]
    actions = [(os.POSIX_SPAWN_DUP2, plan, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    return os.posix_spawn(sys.executable, argv, {"LANG": "C.UTF-8"}, file_actions=actions, setsid=True)

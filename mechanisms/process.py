"""Runs programs that the node's operator allowed: by argument vector, limited, watched, and found after a restart.

The agent's runner for `process` components. A program starts through `launcher.py`, in a session of its own, so that it
survives the agent; records in the runtime folder and pidfds find it again. Whether and when an ended one is started
anew is the reconcile core's decision.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..descriptions.errors import RefusedError, TransportError
from ..descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from ..descriptions.messages.desired import ProcessTask, ReplicaSpec
from ..descriptions.options import option
from .arguments import Json, argument, done, refused, status, values, verb
from .cgroups import set_limits
from .log_files import cap_log, last_lines
from .process_plan import NICE_UNDER_ONE_CORE, Plan, choose_ports, cores_for, environment, resolve_program, usable_cores
from .process_table import ProcessTable, Running
from .readiness import answers
from .runner import Host, Observation, Runner

YOUNG_S = 0.3
"""Without a readiness check a program counts as ready once it has lived this long."""
WAIT_STEP_S = 0.02
KILL_S = 5.0
"""A process may take this long to end after SIGKILL."""
CPU_MAX = 4096.0


@dataclass(frozen=True)
class Process(Runner):
    """Run allowed programs."""

    programs: tuple[str, ...] = ()
    """What descriptions may run: names found in the system's folders (`python3`), absolute paths, or folders of
    programs (`/opt/app/`, called by name or path). Allowing an interpreter allows any code."""
    log_max: int = option(1024 * 1024, unit="bytes", ge=4096)
    """Bytes kept of what each replica writes; as much again for the older part."""
    cgroups: bool = True
    """Limit CPU and memory by cgroup v2 where the agent may."""
    _table: ProcessTable = field(init=False, repr=False, compare=False, default_factory=ProcessTable)

    async def open(self, host: Host) -> None:
        """Adopt what an earlier agent started."""
        self._table.open(host, use_cgroups=self.cgroups)

    async def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        """Launch it, unless it runs."""
        running = self._table.running.get((spec.id, digest))
        if running is not None and not running.record.ended and running.handle.is_alive:
            return await self._observe(running)
        task, before = spec.task, running.record.ports if running is not None else {}
        if not isinstance(task, ProcessTask):
            raise RefusedError("not a process")
        assert self._table.host is not None
        if spec.interacts and not self._table.host.gateway_url():
            raise TransportError("the inference gateway, which it talks to, is not up yet")
        ports = choose_ports(task, before, self._table.ports_in_use())
        plan = self._plan(spec, task, digest, ports)
        return await self._observe(await self._table.launch(spec, digest, plan, ports))

    def _plan(self, spec: ReplicaSpec, task: ProcessTask, digest: str, ports: dict[str, int]) -> Plan:
        table = self._table
        assert table.host is not None
        program = resolve_program(task.command[0], self.programs)
        cpu, folder = table.cpu_of(spec), table.folder_of(spec.id)
        group = table.groups.create(f"{spec.id}-{digest}", cpu, spec.memory_bytes) if table.groups else None
        return Plan(
            argv=(program, *(part.replace("\0", "") for part in task.command[1:])),
            env=environment(spec, task, table.host, ports, folder),
            folder=str(folder),
            open_files=task.open_files,
            memory_bytes=spec.memory_bytes,
            cores=() if group else cores_for(spec.id, cpu, usable_cores()),
            nice=NICE_UNDER_ONE_CORE if not group and 0 < cpu < 1 else 0,
            cgroup=str(group or ""),
            lease=str(table.host.lease_file) if spec.single_instance else "",
        )

    async def stop(self, replica: str, digest: str, drain_s: float) -> None:
        """SIGTERM, and SIGKILL after the description's grace."""
        running = self._table.running.get((replica, digest))
        if running is None:
            return
        if running.record.ended or not running.handle.is_alive:
            self._table.forget(running)
        else:
            self._table.stop(running, running.task.stop_grace_s if drain_s > 0 else 0.0)

    async def observe(self) -> tuple[Observation, ...]:
        """Look at each process, probe those that say when they are ready, keep logs under their cap."""
        for running in list(self._table.running.values()):
            cap_log(self._table.log_of(running.record.spec.id), self.log_max)
            if not running.record.ended and not running.handle.is_alive:
                self._table.note_end(running)
        ordered = [one for _, one in sorted(self._table.running.items())]
        return tuple(await asyncio.gather(*map(self._observe, ordered)))

    async def _observe(self, running: Running) -> Observation:
        record = running.record
        found = Observation(
            record.spec.id, record.digest, record.spec.revision, "starting", pid=record.pid,
            ports=tuple(sorted(record.ports.items())),
        )  # fmt: skip
        if record.ended:
            return replace(found, phase="exited", message=self._end_of(running), pid=0, exit_ok=record.exit_code == 0)
        if running.is_stopping:
            return replace(found, phase="stopping")
        is_ready = await self._is_ready(running)
        running.was_ready |= is_ready
        return replace(found, phase="ready" if is_ready else "notReady" if running.was_ready else "starting")

    async def _is_ready(self, running: Running) -> bool:
        check = running.task.ready
        if check is None:
            return time.monotonic() - running.launched_s >= YOUNG_S
        port = running.record.ports.get(check.port)
        return port is not None and await answers(port, check.path)

    def _end_of(self, running: Running) -> str:
        code = running.record.exit_code
        told = "ended while no agent watched"
        if code is not None:
            told = f"ended with code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
        last = last_lines(self._table.log_of(running.record.spec.id), 1)
        return f"{told}: {last[:200]}" if last else told

    def log_file(self, replica: str) -> Path | None:
        """Standard output and error together."""
        return self._table.log_of(replica)

    async def close(self) -> None:
        """Let everything run on."""
        self._table.close()

    # --- mechanism ----------------------------------------------------------------------------------------------

    def options(self) -> Options:
        """`restart` and `setCpu`, of running replicas."""
        if not self.programs:
            return Options(reason="agent.yaml allows no program (mechanisms.process.programs)")
        cpu: dict[str, Json] = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": CPU_MAX}
        return Options(
            (
                verb("restart", "Stop and start a replica or all of a component.", disruptive=True),
                verb("setCpu", "Cores that a replica or component may use; null for the description's.", cpu=cpu),
            )
        )

    def status(self) -> Status:
        """Cores, pid and ports of each running replica."""
        return Status(
            tuple(
                status(one.record.spec.id, cpu=self._table.cpu_of(one.record.spec), pid=one.record.pid)
                for _, one in sorted(self._table.running.items())
                if not one.record.ended
            )
        )

    def apply(self, command: MechanismCommand) -> Outcome:
        """Do it to every running instance of the target; a CPU setting also holds for later ones."""
        if not command.target:
            return refused(command, f"{command.verb} needs a replica or a component as target")
        if command.verb == "restart":
            return self._restart(command)
        if command.verb == "setCpu":
            return self._set_cpu(command)
        return refused(command, f"process has no verb {command.verb!r}")

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        """The CPU setting of before."""
        if command.verb != "setCpu":
            return None
        before = self._table.cpu_overlays.get(command.target)
        return msgspec.structs.replace(command, id=f"{command.id}/undo", arguments=values(cpu=before))

    def _restart(self, command: MechanismCommand) -> Outcome:
        targets = self._table.of_target(command.target)
        if not targets:
            return refused(command, f"{command.target} does not run here")
        for one in targets:
            self._relaunch(one)
        return done(command, f"restarted {len(targets)}")

    def _relaunch(self, one: Running) -> None:
        """Blocking: end the process, then start the same again in its place."""
        one.handle.signal_group(signal.SIGTERM)
        deadline_s = time.monotonic() + one.task.stop_grace_s
        while one.handle.is_alive:
            if time.monotonic() >= deadline_s + KILL_S:
                raise TransportError(f"pid {one.record.pid} does not end")
            if time.monotonic() >= deadline_s:
                one.handle.signal_group(signal.SIGKILL)
            time.sleep(WAIT_STEP_S)
        record = one.record
        plan = self._plan(record.spec, one.task, record.digest, record.ports)
        self._table.replace(one, self._table.spawn(record.spec, record.digest, plan, record.ports))

    def _set_cpu(self, command: MechanismCommand) -> Outcome:
        cpu = argument(command, "cpu", object)
        if cpu is None:
            self._table.cpu_overlays.pop(command.target, None)
        elif isinstance(cpu, int | float) and 0 < cpu <= CPU_MAX:
            self._table.cpu_overlays[command.target] = float(cpu)
        else:
            return refused(command, f"cpu must be a number over 0 and at most {CPU_MAX:.0f}, or null")
        targets = self._table.of_target(command.target)
        for one in targets:
            self._limit(one)
        return done(command, f"limited {len(targets)} running")

    def _limit(self, one: Running) -> None:
        spec, table = one.record.spec, self._table
        cpu = table.cpu_of(spec)
        if table.groups is not None:
            set_limits(table.groups.folder / f"{spec.id}-{one.record.digest}", cpu, spec.memory_bytes)
        else:
            one.handle.set_affinity(cores_for(spec.id, cpu, usable_cores()) or usable_cores())

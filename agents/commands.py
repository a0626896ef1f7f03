"""One-shot verbs off `down/cmd`: logs, restart, measure. Done once for each id, which always gets the same answer.

`run.py` hands verified commands over. A command whose fence is below what was seen comes from a control plane that was
replaced, one that is late is not started. What changes something is remembered on disk, what only reads in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from ..descriptions.errors import ProtocolError, RefusedError, ShoalError, TransportError
from ..descriptions.mechanism import MechanismCommand
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.desired import ReplicaSpec
from ..descriptions.messages.lease import Command
from ..descriptions.messages.logs import LogRequest
from ..descriptions.messages.reported import CommandResult
from ..mechanisms.runner import Runner
from .clock import boottime_s
from .disk import Disk
from .log_reader import LogReader
from .reconcile import Reconciler
from .replica import mechanism_of
from .runners import Runners

logger = logging.getLogger(__name__)

REMEMBERED_MAX = 256
RUNNING_MAX = 32


@dataclass
class Commands:
    """Carries out commands and remembers their results."""

    disk: Disk
    runners: Runners
    reconciler: Reconciler
    logs: LogReader
    send: Callable[[bytes], object]
    """Publish a result."""
    measure: Callable[[], int]
    """Collect all metrics now; how many samples that gave."""
    _results: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _running: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)

    async def receive(self, command: Command) -> None:
        """Do it, unless it was done, and answer."""
        deadline_s = boottime_s() + command.deadline_s
        running = self._running.get(command.id)
        if running is not None:
            return  # the first of the two answers
        if len(self._running) >= RUNNING_MAX:
            self._answer(encode(CommandResult(command.id, False, f"{RUNNING_MAX} commands are running already")))
            return
        self._running[command.id] = asyncio.get_running_loop().create_future()
        try:
            self._answer(await self._result(command, deadline_s))
        finally:
            del self._running[command.id]

    async def _result(self, command: Command, deadline_s: float) -> bytes:
        known = self._results.get(command.id) or await self.disk.run(partial(self.disk.database.result, command.id))
        if known is not None:
            return known
        result = encode(await self._do(command, deadline_s))
        self._results[command.id] = result
        while len(self._results) > REMEMBERED_MAX:
            self._results.popitem(last=False)
        if command.verb == "restart":
            await self.disk.try_run(partial(self.disk.database.save_result, command.id, result))
        return result

    async def _do(self, command: Command, deadline_s: float) -> CommandResult:
        verbs: dict[str, Callable[[Command], Awaitable[CommandResult]]] = {
            "logs": self._logs,
            "restart": self._restart,
            "measure": self._measure,
        }
        try:
            if command.fence < self.reconciler.mark.fence:
                raise RefusedError(f"fence {command.fence} is below {self.reconciler.mark.fence}")
            if boottime_s() >= deadline_s:
                raise RefusedError("its deadline has passed")
            if command.verb not in verbs:
                raise RefusedError(f"no verb {command.verb[:64]!r}; there are {', '.join(sorted(verbs))}")
            return await verbs[command.verb](command)
        except ShoalError as error:
            logger.warning("command=%s verb=%s: %s", command.id, command.verb[:64], error)
            return CommandResult(command.id, False, str(error))

    def _answer(self, result: bytes) -> None:
        try:
            self.send(result)
        except TransportError as error:
            logger.info("a result was not sent, who wants it asks again: %s", error)

    async def _logs(self, command: Command) -> CommandResult:
        request = decode(LogRequest, msgspec.json.encode(command.arguments))
        files = {
            replica.id: path
            for replica in self._replicas()
            if _is_asked(replica, request) and (path := self._log_file(replica)) is not None
        }
        if not files and (request.replica or request.component):
            raise RefusedError(f"{request.replica or request.component} has written nothing here")
        chunk = await asyncio.to_thread(self.logs.read, request, files)
        return CommandResult(command.id, True, body=encode(chunk).decode())

    def _replicas(self) -> tuple[ReplicaSpec, ...]:
        desired = self.reconciler.desired
        return desired.spec.replicas if desired is not None and desired.spec is not None else ()

    def _log_file(self, replica: ReplicaSpec) -> Path | None:
        mechanism = self.runners.mechanisms.get(mechanism_of(replica))
        return mechanism.log_file(replica.id) if isinstance(mechanism, Runner) else None

    async def _restart(self, command: Command) -> CommandResult:
        replica_id = _text(command, "replica")
        replica = next((one for one in self._replicas() if one.id == replica_id), None)
        if replica is None:
            raise RefusedError(f"no replica {replica_id[:253]!r} here")
        outcome = await self.runners.apply(mechanism_of(replica), MechanismCommand(command.id, "restart", replica_id))
        return CommandResult(command.id, outcome.state == "done", outcome.message)

    async def _measure(self, command: Command) -> CommandResult:
        return CommandResult(command.id, True, f"{self.measure()} samples")


def _is_asked(replica: ReplicaSpec, request: LogRequest) -> bool:
    component = f"{replica.application}.{replica.component}"
    return replica.id == request.replica or component == request.component


def _text(command: Command, name: str) -> str:
    raw = command.arguments.get(name)
    try:
        return msgspec.json.decode(bytes(raw), type=str) if raw is not None else ""
    except msgspec.DecodeError as error:
        raise ProtocolError(f"{command.verb}: {name}: {error}") from None

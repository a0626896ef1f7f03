"""What the inference runner keeps of each replica: its specification, how far it is, and what the gateway was told.

Written down in the runtime folder before the gateway is told, because a later agent has to know what it serves. The
gateway tells back an opaque digest: the model's, the revision and the run digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..descriptions.errors import ProtocolError
from ..descriptions.messages.codec import Message, decode, encode
from ..descriptions.messages.desired import ReplicaSpec
from ..descriptions.messages.gateway import ServingPhase, ServingReport, ServingSpec
from .process_handle import ProcessHandle, start_time
from .runner import Observation, RunPhase

RECORD_MAX = 1024 * 1024
GUARD = Path(__file__).with_name("serving_guard.py")
PHASES: dict[ServingPhase, RunPhase] = {
    "loading": "starting",
    "ready": "ready",
    "broken": "failed",
    "stopped": "stopping",
}


class Told(Message, frozen=True):
    """A specification, and what the gateway was told of it."""

    spec: ReplicaSpec
    digest: str
    serving: ServingSpec
    guard_pid: int = 0
    guard_start_time: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Replica and run digest."""
        return self.spec.id, self.digest

    @property
    def model_sha256(self) -> str:
        """Of the file that is served; empty for predictors."""
        return self.serving.digest.partition("/")[0]


@dataclass
class Pending:
    """A replica on its way to the gateway, or the reason why it did not get there."""

    spec: ReplicaSpec
    digest: str
    sha256: str
    task: asyncio.Task[None] | None = None
    error: str = ""


class ToldRecords:
    """One file for each specification that the gateway may be serving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, key: tuple[str, str]) -> Path:
        return self._folder / f"{key[0]}-{key[1]}.json"

    def save(self, told: Told) -> None:
        """Whole or not at all; need not survive a reboot, which the gateway doesn't either."""
        path = self._path(told.key)
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_bytes(encode(told))
        temporary.replace(path)

    def remove(self, key: tuple[str, str]) -> None:
        """Forget it."""
        self._path(key).unlink(missing_ok=True)

    def load(self) -> dict[tuple[str, str], Told]:
        """By replica and digest; damaged files are left out."""
        found: dict[tuple[str, str], Told] = {}
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(ProtocolError):
                told = decode(Told, path.read_bytes(), RECORD_MAX)
                found[told.key] = told
        return found


def opaque_digest(model_sha256: str, revision: int, run_digest: str) -> str:
    """What the gateway tells back."""
    return f"{model_sha256}/{revision}/{run_digest}"


def run_of(opaque: str) -> tuple[str, int]:
    """Run digest and revision of what the gateway tells back; empty for what this agent never told it."""
    _, revision, digest = ("//" + opaque).rsplit("/", 2)
    return (digest, int(revision)) if revision.isdigit() else ("", 0)


def observations_of(report: ServingReport) -> list[Observation]:
    """One for what serves, one more while a newer specification is loading."""
    now, revision = run_of(report.digest)
    phase = PHASES[report.phase]
    found = [Observation(report.id, now, revision, phase, report.reason, report.pid, report.restarts)]
    if report.update is not None:
        after, revision = run_of(report.update.digest)
        if after != now:  # the same run with other options is one instance
            found.append(Observation(report.id, after, revision, PHASES[report.update.phase], report.update.reason))
    return found


def with_guard(told: Told, lease: Path, admin: Path) -> Told:
    """Start the guard of a single instance, unless it lives."""
    if told.guard_pid and ProcessHandle(told.guard_pid, told.guard_start_time).is_alive:
        return told
    argv = [sys.executable, "-I", "-S", "-B", str(GUARD), str(lease), str(admin), told.spec.id]
    null = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=True)
    finally:
        os.close(null)
    return msgspec.structs.replace(told, guard_pid=pid, guard_start_time=start_time(pid))

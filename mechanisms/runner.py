"""The extension of a mechanism that runs replicas: start, stop, observe, and find again what an earlier agent started.

`agents/reconcile.py` decides what should run and compares it with the observations from here; `agents/run.py` makes the
calls. A runner never restarts anything by itself unless its backend does (the gateway): backoff and crash loops are the
core's. Everything that it starts outlives the agent.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from ..descriptions.messages.codec import encode
from ..descriptions.messages.desired import ReplicaSpec
from .mechanism import Mechanism

RunPhase = Literal["fetching", "starting", "ready", "notReady", "failed", "exited", "stopping"]
"""`failed` could not be started or served; `exited` ended by itself."""


@dataclass(frozen=True)
class Observation:
    """One running (or ended) instance of a replica, as its runner sees it."""

    replica: str
    digest: str
    """`run_digest` of the specification that it was started with."""
    revision: int
    phase: RunPhase
    message: str = ""
    pid: int = 0
    restarts: int = 0
    """Made by the runner's backend on its own."""
    ports: tuple[tuple[str, int], ...] = ()
    exit_ok: bool = False
    """Of `exited`: ended with code 0."""


@dataclass(frozen=True)
class Host:
    """What an agent tells its runners about the node."""

    node: str
    """Node name."""
    slice: str
    state_dir: Path
    """For what must outlive a reboot, mode 0700; each runner takes a folder of its own name."""
    runtime_dir: Path
    """For sockets and what a reboot may lose; short, because Unix socket paths are."""
    gateway_url: str = ""
    otlp_url: str = ""
    """Where components push OTLP/HTTP; empty when the receiver is off."""
    control_plane_url: str = ""
    """Base of artifact paths."""
    api_token: str = ""
    """Bearer token for artifacts on the control plane; never given to a replica."""

    def __repr__(self) -> str:
        return f"Host(node={self.node!r}, slice={self.slice!r}, state_dir={str(self.state_dir)!r})"


class Runner(Mechanism):
    """A mechanism that runs replicas. Calls of one runner never overlap."""

    @abstractmethod
    async def open(self, host: Host) -> None:
        """Find again what runs from before. Called once, before anything else."""

    @abstractmethod
    async def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        """Begin to run it and return at once; what runs already is left alone, what failed is tried again.

        An instance of the same replica with another digest goes on until `stop` names it, or until the backend has
        swapped the two. Raises `RefusedError` for what will never work here, `ShoalError` for what may work later.
        """

    @abstractmethod
    async def stop(self, replica: str, digest: str, drain_s: float) -> None:
        """Begin to stop it, giving requests in flight `drain_s` seconds; unknown instances are no error."""

    @abstractmethod
    async def observe(self) -> tuple[Observation, ...]:
        """Every instance, ended ones included until they are stopped or started anew."""

    @abstractmethod
    async def logs(self, replica: str, lines: int) -> str:
        """The last lines that it wrote; `RefusedError` when it keeps none."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything and leave it running."""


def run_digest(spec: ReplicaSpec) -> str:
    """Names what runs: changes exactly when the instance must be replaced, so not with `draining` or `interacts`."""
    what = msgspec.structs.replace(spec, draining=False, interacts=())
    return hashlib.sha256(encode(what)).hexdigest()[:16]

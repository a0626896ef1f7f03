"""The extension of a mechanism that runs replicas: start, stop, observe, and find again what an earlier agent started.

`agents/reconcile.py` decides what should run and compares it with the observations from here; `agents/run.py` makes the
calls. A runner never restarts anything by itself unless its backend does (the gateway): backoff and crash loops are the
core's. Everything that it starts outlives the agent.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from ..descriptions.messages.codec import encode
from ..descriptions.messages.desired import ReplicaSpec
from .mechanism import Mechanism
from .process_handle import boot_id
from .transfer.origin import Origins

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
class GatewayBind:
    """How the node's operator wants the inference gateway to listen."""

    host: str = "127.0.0.1"
    port: int = 8080
    advertise: str = ""
    """URL for other nodes; the gateway's own address when empty."""
    predictors: tuple[Path, ...] = ()
    """Folders whose Python predictors may be loaded."""
    token_file: Path | None = None
    """Bearer tokens that clients need."""
    insecure: bool = False
    """Allow an address beyond loopback without tokens."""


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
    changed: Callable[[str], None]
    """To be called, on the event loop, with the name of a mechanism whose `observe` would answer otherwise now."""
    gateway_url: Callable[[], str] = lambda: ""
    """The node's inference gateway; empty as long as none runs."""
    otlp_url: Callable[[], str] = lambda: ""
    """Where components push OTLP/HTTP; empty when the receiver is off."""
    origins: Origins = field(default_factory=lambda: Origins(""))
    """Where artifacts may come from."""
    gateway: GatewayBind = GatewayBind()

    @property
    def lease_file(self) -> Path:
        """Holds, as text, when the lease ends on CLOCK_BOOTTIME; what guards of single instances read."""
        return self.runtime_dir / f"lease-{boot_id()[:8]}"


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
    def log_file(self, replica: str) -> Path | None:
        """What the replica writes to, capped by copying to `<name>.1` and truncating; None when it writes nothing."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything and leave it running."""


def run_digest(spec: ReplicaSpec) -> str:
    """Names what runs: changes exactly when the instance must be replaced, so not with `draining` or `interacts`."""
    what = msgspec.structs.replace(spec, draining=False, interacts=())
    return hashlib.sha256(encode(what)).hexdigest()[:16]

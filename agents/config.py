"""`agent.yaml` and `SHOAL_AGENT_…` variables, read into one frozen dataclass; every key has a default.

The operator of a node says here what the node is called, where its control plane is, and what descriptions may make it
do: which mechanisms are enabled, which programs they may run, where Python predictors are. `cli.py` reads it, `run.py`
uses it; `docs/configuration.md` is made of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..descriptions.config_file import read_config
from ..descriptions.errors import DescriptionError
from ..descriptions.options import option

PREFIX = "SHOAL_AGENT"
SYSTEM_CONFIG = Path("/etc/shoal/agent.yaml")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SOCKET_PATH_MAX = 100
"""Bytes of the longest Unix socket path, with room for the file's name (the kernel takes 107)."""

Layer = Literal["cloud", "edge-infrastructure", "edge", "far-edge"]


@dataclass(frozen=True)
class ControlPlaneOptions:
    """Where the control plane is and how to join it."""

    url: str = ""
    """`https://host:7400`, or `http://` on loopback. Found by zeroconf on the local network when empty."""
    token: str = option("", secret=True)
    """One-time join token; better kept in `tokenFile`."""
    token_file: Path | None = None
    """File with the one-time join token; only read when the node has not joined yet."""
    ca: Path | None = None
    """PEM file of the authority that signed the control plane's certificate; the system's when left out."""
    plain_http: bool = False
    """Allow `http://` beyond loopback: token and models then travel unencrypted."""
    slice: str = ""
    """Only join a control plane of this slice, when it is found by zeroconf."""
    join_timeout_s: float = option(10.0, unit="duration", key="joinTimeout", gt=0, le=300)
    """For one request; joining is tried again until it works or is refused."""


@dataclass(frozen=True)
class BrokerOptions:
    """How to reach the MQTT broker."""

    url: str = ""
    """`mqtt://host:port` or `mqtts://host:port` in place of the address that the control plane gave."""
    ca: Path | None = None
    """PEM file of the authority that signed the broker's certificate; the system's when left out."""


@dataclass(frozen=True)
class GatewayOptions:
    """The node's inference gateway; started when the first model is placed here."""

    host: str = "127.0.0.1"
    """Address that it listens on; anything but loopback lets others use the node's models."""
    port: int = option(8080, ge=0, le=65535)
    """0 takes any free port."""
    advertise: str = ""
    """URL that other nodes reach it by, such as `http://192.168.1.7:8080`; its own address when empty."""
    predictors: tuple[Path, ...] = ()
    """Folders whose Python predictors may be loaded; none by default."""
    token_file: Path | None = None
    """Bearer tokens that clients need, one a line, mode 0600; without it only loopback is served."""
    insecure: bool = False
    """Serve beyond loopback without tokens."""


@dataclass(frozen=True)
class OutboxOptions:
    """What is kept while the control plane is away."""

    quota: int = option(64 * 1024 * 1024, unit="bytes", ge=64 * 1024)
    """Bytes of all that waits: 1 % is kept for errors, 9 % for other events, the rest is telemetry's."""
    telemetry_max: int = option(4 * 1024 * 1024, unit="bytes", ge=4096)
    """Bytes of telemetry that waits in memory."""
    reserve: int = option(16 * 1024 * 1024, unit="bytes")
    """Size of a file that is given up when the disk is full, so that the agent's own state still fits."""


@dataclass(frozen=True)
class ReceiverOptions:
    """OTLP/HTTP receiver for application code on this node."""

    enabled: bool = True
    """Whether it listens; always on loopback."""
    port: int = option(0, ge=0, le=65535)
    """0 takes any free port; components find the address in `OTEL_EXPORTER_OTLP_ENDPOINT`."""


@dataclass(frozen=True)
class DeviceOptions:
    """Accelerators or sensors of one model."""

    type: str
    """`gpu`, `npu`, `tpu`, `camera`, …"""
    model: str = ""
    """As its maker calls it."""
    count: int = option(1, ge=1, le=64)
    """How many of them."""
    memory: int = option(0, unit="bytes")
    """Of each."""


@dataclass(frozen=True)
class InventoryOptions:
    """What the node is described to have, in place of what is found on it."""

    architecture: str = ""
    """As `uname -m` says it."""
    model: str = ""
    """What the machine is called."""
    cpu: float = option(0.0, unit="cores")
    """Cores that may be placed on."""
    frequency: float = option(0.0, unit="frequency")
    """Highest frequency of a core."""
    memory: int = option(0, unit="bytes")
    """Memory that may be placed on."""
    disk: int = option(0, unit="bytes")
    """Size of the disk."""
    accelerators: tuple[DeviceOptions, ...] | None = None
    """All of them; an empty list hides what is found."""
    sensors: tuple[DeviceOptions, ...] | None = None
    """All of them, cameras included; an empty list hides what is found."""


def _default_state_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/shoal/agent")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "shoal" / "agent"


def _host_name() -> str:
    name = re.sub("[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower())[:63].strip("-")
    return name or "node"


@dataclass(frozen=True)
class AgentOptions:
    """Configuration of one node's agent."""

    name: str = ""
    """Wished name of the node; the host's name when empty. The control plane mints the uid."""
    layer: Layer = "edge"
    """Only used where no description of the node says otherwise."""
    state_dir: Path | None = None
    """What must survive a reboot: identity, desired state, events, models. `/var/lib/shoal/agent` for root, else
    `$XDG_STATE_HOME/shoal/agent`."""
    runtime_dir: Path | None = None
    """Sockets and what a reboot may lose; under `/run/shoal`, `$XDG_RUNTIME_DIR` or `/tmp` when left out."""
    control_plane: ControlPlaneOptions = ControlPlaneOptions()
    broker: BrokerOptions = BrokerOptions()
    mechanisms: Mapping[str, object] = field(default_factory=lambda: {"inference": {}, "process": {}})
    """Enabled mechanisms by name, each with its options; what is not named here can't be used by any description."""
    gateway: GatewayOptions = GatewayOptions()
    outbox: OutboxOptions = OutboxOptions()
    otlp: ReceiverOptions = ReceiverOptions()
    inventory: InventoryOptions = InventoryOptions()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """At the start; the slice may change it while the agent runs."""
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line."""

    def __post_init__(self) -> None:
        """Check what a type can't say."""
        if not NAME.fullmatch(self.node_name):
            raise DescriptionError(
                f"{self.name!r} is not a node name", expected="lower-case letters, digits and dashes"
            )
        if len(os.fsencode(self.runtime)) > SOCKET_PATH_MAX - len("/gateway/inference.sock"):
            raise DescriptionError(f"{self.runtime} is too long for Unix sockets", expected="a short runtimeDir")

    @property
    def node_name(self) -> str:
        """The wished name."""
        return self.name or _host_name()

    @property
    def state(self) -> Path:
        """The state folder."""
        return (self.state_dir or _default_state_dir()).absolute()

    @property
    def runtime(self) -> Path:
        """The runtime folder, one for each state folder when it isn't given."""
        if self.runtime_dir is not None:
            return self.runtime_dir
        own = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]
        if os.geteuid() == 0:
            return Path("/run/shoal") / own
        base = os.environ.get("XDG_RUNTIME_DIR")
        return Path(base) / "shoal" / own if base else Path(f"/tmp/shoal-{os.geteuid()}") / own  # noqa: S108


def load_config(path: Path | None, env: Mapping[str, str]) -> AgentOptions:
    """Read the file (`/etc/shoal/agent.yaml`, if there is one, when not given) and the environment, which wins."""
    return read_config(AgentOptions, path, SYSTEM_CONFIG, env, prefix=PREFIX)

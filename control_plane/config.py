"""`control-plane.yaml` and `SHOAL_CONTROL_PLANE_…` variables, read into one frozen dataclass; every key has a default.

The operator of a slice says here where the API listens, where data is kept, which broker carries the wire and which
policy plugins are enabled. `commands/serve.py` reads it, `run.py` uses it; `docs/configuration.md` is made of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..descriptions.config_file import read_config
from ..descriptions.errors import DescriptionError
from ..descriptions.options import option
from ..policies.registry import PolicySettings

PREFIX = "SHOAL_CONTROL_PLANE"
SYSTEM_CONFIG = Path("/etc/shoal/control-plane.yaml")


@dataclass(frozen=True)
class ApiOptions:
    """The northbound API."""

    host: str = "127.0.0.1"
    """Address that it listens on; beyond loopback it needs a certificate, or `allowPlaintext`."""
    port: int = option(7400, ge=0, le=65535)
    """0 takes any free port."""
    advertise: str = ""
    """URL that agents reach it by, such as `https://10.0.0.5:7400`; its own address when empty."""
    certificate: Path | None = None
    """PEM file with the certificate chain; TLS is on when it is given."""
    certificate_key: Path | None = None
    """PEM file with the certificate's key."""
    allow_plaintext: bool = False
    """Listen beyond loopback without TLS: tokens and models then travel unencrypted."""
    insecure: bool = False
    """Ask for no token; on loopback alone."""


@dataclass(frozen=True)
class BrokerOptions:
    """The MQTT broker that carries the wire."""

    url: str = ""
    """`mqtt://host:port` or `mqtts://host:port`; when empty an embedded broker is started, on loopback."""
    port: int = option(1883, ge=0, le=65535)
    """Of the embedded broker; 0 takes any free port."""
    username: str = "control-plane"
    """The control plane's own name at the broker."""
    password_file: Path | None = None
    """File with the control plane's password at a broker given by URL."""
    ca: Path | None = None
    """PEM file of the authority that signed the broker's certificate; the system's when left out."""
    advertise: str = ""
    """URL that agents reach the broker by; `url` when empty."""
    node_passwords: Literal["derived", "none"] = "derived"
    """Passwords that nodes are given: derived from the slice's broker key, which the embedded broker checks, or none
    where the broker knows nodes by other means."""


@dataclass(frozen=True)
class ExportOptions:
    """Where telemetry goes besides this control plane's own windows and `/metrics`."""

    metrics: str = ""
    """OTLP/HTTP endpoint such as `http://127.0.0.1:4318/v1/metrics`."""
    logs: str = ""
    """OTLP/HTTP endpoint for logs."""
    interval_s: float = option(15.0, unit="duration", key="interval", gt=0, le=3600)
    """Between two exports."""


@dataclass(frozen=True)
class ControlPlaneOptions:
    """Configuration of one slice's control plane."""

    slice: str = "default"
    """Name of the slice; chosen once, before the first start."""
    state_dir: Path | None = None
    """Database, blobs and keys. `/var/lib/shoal/control-plane` for root, else `$XDG_DATA_HOME/shoal/control-plane`."""
    database: str = ""
    """SQLAlchemy URL; SQLite in the state folder when empty."""
    api: ApiOptions = ApiOptions()
    broker: BrokerOptions = BrokerOptions()
    policies: PolicySettings = option(factory=PolicySettings, doc="Policy plugins beside the built-in ones.")  # noqa: RUF009
    export: ExportOptions = ExportOptions()
    join_token_ttl_s: float = option(900.0, unit="duration", key="joinTokenTtl", ge=10, le=604800)
    """Life of a join token when none is asked for."""
    discovery: bool = False
    """Announce this control plane on the local network by zeroconf, so that agents find it without a URL."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From here up it is logged."""
    log_format: Literal["text", "json"] = "text"
    """JSON has one object a line, for log collectors."""

    def __post_init__(self) -> None:
        """Check what a type can't say."""
        if (self.api.certificate is None) != (self.api.certificate_key is None):
            raise DescriptionError("a certificate needs its key", expected="api.certificate and api.certificateKey")

    @property
    def state(self) -> Path:
        """The state folder."""
        return (self.state_dir or _default_state_dir()).absolute()

    @property
    def database_url(self) -> str:
        """Where the rows are."""
        return self.database or f"sqlite:///{self.state / 'shoal.db'}"

    @property
    def admin_token_file(self) -> Path:
        """Written at the first start, readable by its owner alone."""
        return self.state / "admin.token"


def _default_state_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/shoal/control-plane")
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "shoal" / "control-plane"


def load_config(path: Path | None, env: Mapping[str, str]) -> ControlPlaneOptions:
    """Read the file (`/etc/shoal/control-plane.yaml` or none when not given) and the environment, which wins."""
    return read_config(ControlPlaneOptions, path, SYSTEM_CONFIG, env, prefix=PREFIX)

"""Being alive: heartbeats, leases, acknowledgements, one-shot commands and what the control plane says to all."""

from __future__ import annotations

from typing import Literal

import msgspec

from .codec import Message


class Heartbeat(Message, frozen=True):
    """On `up/hb`, QoS 0, every heartbeat interval ± 10 %."""

    node: str
    session: str
    boot_id: str
    seq: int
    observed_generation: int = 0
    epoch: int = 0
    digest: str = ""
    load: float = 0.0
    """CPU utilisation, 0–1."""
    outbox: int = 0
    """Events waiting."""


class Lease(Message, frozen=True):
    """On `down/lease`: the answer to one heartbeat; the duration counts from when that heartbeat was sent."""

    node: str
    session: str
    seq: int
    """Of the heartbeat that it answers."""
    lease_s: float
    fence: int
    epoch: int
    load_level: int = 0
    """0 normal; each level halves the rate of `tel/lo`."""


class Ack(Message, frozen=True):
    """On `down/ack`: events of the stream up to this seq are in the control plane's database."""

    stream: str
    upto: int


class Command(Message, frozen=True):
    """On `down/cmd`: a one-shot verb (logs, restart, measure)."""

    id: str
    verb: str
    fence: int
    deadline_s: float
    """Seconds from receipt after which it must not start."""
    arguments: dict[str, msgspec.Raw] = {}


class ControlPlaneState(Message, frozen=True):
    """On `_/state`, retained; the will says offline."""

    online: bool
    session: str
    fence: int = 0
    epoch: int = 0
    version: str = ""


class Spread(Message, frozen=True):
    """On `_/spread`, retained: reconnects are spread over this many seconds."""

    window_s: float


class Endpoint(Message, frozen=True):
    """A node that serves a model."""

    node: str
    url: str
    weight: float = 1.0


class Routes(Message, frozen=True):
    """On `_/routes/<model>`, retained: which gateways serve a model."""

    model: str
    generation: int
    endpoints: tuple[Endpoint, ...] = ()


Verb = Literal["logs", "restart", "measure"]

"""Being alive: heartbeats, leases, acknowledgements, one-shot commands and what the control plane says to all."""

from __future__ import annotations

from typing import Literal

import msgspec

from .codec import Amount, Count, Id, Message


class Heartbeat(Message, frozen=True):
    """On `up/hb`, QoS 0, every heartbeat interval ± 10 %."""

    node: Id
    session: Id
    boot_id: Id
    seq: Count
    observed_generation: Count = 0
    epoch: Count = 0
    digest: Id = ""
    load: Amount = 0.0
    """CPU utilisation, 0–1."""
    outbox: Count = 0
    """Events waiting."""
    seen_epoch: Count = 0
    seen_generation: Count = 0
    """Highest document that the node has seen and accepts nothing below; told only where it is not the one in force (it
    was lost with a slot). A control plane whose database is older learns from it that it was restored."""


class Lease(Message, frozen=True):
    """On `down/lease`: the answer to one heartbeat; the duration counts from when that heartbeat was sent."""

    node: Id
    session: Id
    seq: Count
    """Of the heartbeat that it answers."""
    lease_s: Amount
    fence: Count
    epoch: Count
    load_level: Count = 0
    """0 normal; each level halves the rate of `tel/lo`."""


class Ack(Message, frozen=True):
    """On `down/ack`: events of the stream up to this seq are in the control plane's database."""

    stream: Id
    upto: Count


class Command(Message, frozen=True):
    """On `down/cmd`: a one-shot verb (logs, restart, measure)."""

    id: Id
    verb: str
    fence: Count
    deadline_s: Amount
    """Seconds from receipt after which it must not start."""
    arguments: dict[str, msgspec.Raw] = {}


class ControlPlaneState(Message, frozen=True):
    """On `_/state`, retained; the will says offline."""

    online: bool
    session: Id
    fence: Count = 0
    epoch: Count = 0
    version: str = ""


class Spread(Message, frozen=True):
    """On `_/spread`, retained: reconnects are spread over this many seconds."""

    window_s: Amount


class Endpoint(Message, frozen=True):
    """A node that serves a model."""

    node: Id
    url: str
    weight: Amount = 1.0


class Routes(Message, frozen=True):
    """On `_/routes/<model>`, retained: which gateways serve a model."""

    model: str
    generation: Count
    endpoints: tuple[Endpoint, ...] = ()


Verb = Literal["logs", "restart", "measure"]

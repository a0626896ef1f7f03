"""What an agent says of its node: state, latest report, events and command results."""

from __future__ import annotations

from typing import Literal

from .codec import Amount, Count, Id, Message

PROTOCOL_VERSIONS = (1,)
"""Versions that this build speaks; a birth message lists them."""

Phase = Literal["pending", "fetching", "starting", "ready", "notReady", "failed", "stopping"]


class State(Message, frozen=True):
    """Birth (online) and will (offline) on `up/state`, retained; a will counts only for the session it names."""

    node: Id
    session: Id
    """Random for each connection."""
    online: bool
    boot_id: Id = ""
    agent_version: str = ""
    protocol_versions: tuple[Count, ...] = PROTOCOL_VERSIONS
    clean: bool = False
    """Offline by intention (agent stopped or upgraded): no reason to suspect the node before its lease ends."""


class ReplicaReport(Message, frozen=True):
    """One replica as it is on the node."""

    id: Id
    revision: Count
    phase: Phase
    message: str = ""
    pid: Count = 0
    restarts: Count = 0
    ports: dict[str, Count] = {}


class MechanismReport(Message, frozen=True):
    """A mechanism's verbs and state, for policies."""

    name: str
    verbs: tuple[str, ...] = ()
    options: str = "{}"
    """JSON of its `Options`."""
    status: str = "{}"
    """JSON of its `Status`."""


class NodeCondition(Message, frozen=True):
    """As conditions of Kubernetes: DiskPressure, OutboxPressure, GatewayReady, ClockUnsure, …"""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""


class DeviceReport(Message, frozen=True):
    """Accelerators or sensors of one model."""

    type: str
    model: str = ""
    count: Count = 1
    memory_bytes: Count = 0


class Inventory(Message, frozen=True):
    """The machine as psutil and the operating system describe it."""

    architecture: str = ""
    model: str = ""
    cpu: Amount = 0.0
    frequency_hz: Amount = 0.0
    memory_bytes: Count = 0
    disk_bytes: Count = 0
    os: str = ""
    python: str = ""
    hostname: str = ""
    accelerators: tuple[DeviceReport, ...] = ()
    sensors: tuple[DeviceReport, ...] = ()


class Reported(Message, frozen=True):
    """The latest report on `up/reported`, retained."""

    node: Id
    boot_id: Id
    incarnation: Count
    """Counts agent starts on this node."""
    seq: Count
    """Counts reports of this incarnation; (incarnation, seq) orders them."""
    epoch: Count = 0
    observed_generation: Count = 0
    """Newest desired document that the agent has begun to apply."""
    digest: Id = ""
    """Of that document's spec."""
    replicas: tuple[ReplicaReport, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()
    mechanisms: tuple[MechanismReport, ...] = ()
    inventory: Inventory = Inventory()
    gateway: str = ""
    """URL of the inference gateway."""


class NodeEvent(Message, frozen=True):
    """One durable event; `seq` has no gaps within a stream."""

    seq: Count
    time: str
    """RFC 3339 by the node's clock: data, never an order."""
    type: str
    reason: str
    message: str
    replica: Id = ""
    severity: Literal["info", "warning", "error"] = "info"


class EventBatch(Message, frozen=True):
    """Events on `up/ev/<stream>`, oldest first."""

    node: Id
    stream: Id
    """Random for each creation of the outbox database."""
    events: tuple[NodeEvent, ...]
    first_available: Count = 1
    """Lowest seq that the node still has; a higher one than the control plane expects is a reported gap."""


class CommandResult(Message, frozen=True):
    """Answer on `up/cmdres`; the same id always gets the same result."""

    id: Id
    ok: bool
    message: str = ""
    body: str = ""
    """JSON or text, by the verb."""

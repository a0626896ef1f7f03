"""The Node kind: a machine's capacity, devices, network, power and state."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..quantities import Bandwidth, Bytes, Cores, Duration, Frequency, Power
from .meta import API_VERSION, Condition, Frozen, Layer, Metadata, Name

DeviceType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
TimeWindow = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


class Location(Frozen):
    """Where a node stands."""

    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    continent: str | None = Field(default=None, max_length=63)
    country: str | None = Field(default=None, max_length=63)
    city: str | None = Field(default=None, max_length=63)


class Accelerator(Frozen):
    """Accelerators of one model."""

    type: DeviceType
    model: str | None = Field(default=None, max_length=63)
    count: int = Field(default=1, ge=1, le=64)
    memory: Bytes = 0
    """Memory of each."""


class Sensor(Frozen):
    """Sensors of one model."""

    type: DeviceType
    model: str | None = Field(default=None, max_length=63)
    count: int = Field(default=1, ge=1, le=64)
    endpoint: str | None = Field(default=None, max_length=1024)
    """Where a component reads it: a device path or URL."""


class Hardware(Frozen):
    """Capacity; what is left out is filled from the agent's inventory, what is described wins."""

    architecture: str | None = Field(default=None, max_length=31)
    """As `uname -m` says: x86_64, aarch64, …"""
    model: str | None = Field(default=None, max_length=255)
    cpu: Cores | None = None
    frequency: Frequency | None = None
    memory: Bytes | None = None
    disk: Bytes | None = None


class Link(Frozen):
    """Measured or known quality of the network from this node."""

    to: Annotated[str, StringConstraints(pattern=r"^(\*|(node|cluster|datacenter|layer):[a-z0-9][-a-z0-9]{0,62})$")]
    """`node:NAME`, `cluster:NAME`, `datacenter:NAME`, `layer:LAYER` or `*`; the most specific counts."""
    latency: Duration | None = None
    """Round trip."""
    bandwidth: Bandwidth | None = None


class PowerSource(Frozen):
    """Where the node's energy comes from in a part of the day; the first whose window holds now counts."""

    name: Name
    windows: tuple[TimeWindow, ...] = Field(default=("00:00-24:00",), max_length=48)
    """`HH:MM-HH:MM` in UTC; may wrap around midnight."""
    price: float = Field(default=0.0, ge=0, le=1e6)
    """Money for a kilowatt-hour, in the slice's currency."""
    co2: float = Field(default=0.0, ge=0, le=1e6)
    """Grams of CO₂ for a kilowatt-hour."""


class PowerProfile(Frozen):
    """What the node draws and what that costs."""

    idle: Power = 0.0
    max: Power = 0.0
    """At full load."""
    sources: tuple[PowerSource, ...] = Field(default=(), max_length=16)


class NodeSpec(Frozen):
    """What is described of a node."""

    layer: Layer = Layer.EDGE
    cluster: Name | None = None
    datacenter: Name | None = None
    location: Location = Location()
    mobile: bool = False
    hardware: Hardware = Hardware()
    accelerators: tuple[Accelerator, ...] = Field(default=(), max_length=64)
    sensors: tuple[Sensor, ...] = Field(default=(), max_length=64)
    network: tuple[Link, ...] = Field(default=(), max_length=1024)
    power: PowerProfile = PowerProfile()
    price: float = Field(default=0.0, ge=0, le=1e6)
    """Money for an hour of the whole node, in the slice's currency, energy not included."""
    reserved_cpu: Cores = 0.0
    """Kept for the system; not placed on."""
    reserved_memory: Bytes = 0
    cordoned: bool = False
    """No new replicas are placed here."""
    drained: bool = False
    """Replicas are moved away; implies cordoned."""


class NodeStatus(Frozen):
    """What the control plane knows of a node."""

    uid: str = Field(default="", max_length=64)
    phase: Literal["expected", "ready", "suspect", "lost", "left"] = "expected"
    """`expected`: described but never joined."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    agent_version: str = Field(default="", max_length=63)
    hardware: Hardware = Hardware()
    """As the agent's inventory found it."""
    accelerators: tuple[Accelerator, ...] = Field(default=(), max_length=64)
    gateway: str = Field(default="", max_length=1024)
    """URL of the node's inference gateway."""
    mechanisms: tuple[str, ...] = Field(default=(), max_length=64)
    desired_generation: int = 0
    observed_generation: int = 0
    last_seen: str | None = Field(default=None, max_length=40)


class Node(Frozen):
    """A machine with an agent."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Node"] = "Node"
    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus | None = None

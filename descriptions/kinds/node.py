"""The Node kind: a machine's capacity, devices, network, power and state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..quantities import Bandwidth, Bytes, Cores, Duration, Frequency, Power
from ..units import format_bytes, format_cores, format_power
from .meta import API_VERSION, Condition, Fault, Frozen, Layer, Metadata, Name, repeated

DeviceType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
TimeWindow = Annotated[
    str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")
]


class Location(Frozen):
    """Where a node stands."""

    latitude: float | None = Field(default=None, ge=-90, le=90)
    """Degrees north, WGS 84; given together with the longitude."""
    longitude: float | None = Field(default=None, ge=-180, le=180)
    """Degrees east, WGS 84."""
    continent: str | None = Field(default=None, max_length=63)
    """For labels and people."""
    country: str | None = Field(default=None, max_length=63)
    """For labels and people."""
    city: str | None = Field(default=None, max_length=63)
    """For labels and people."""

    def faults(self) -> Iterator[Fault]:
        if (self.latitude is None) != (self.longitude is None):
            absent = "latitude" if self.latitude is None else "longitude"
            yield Fault("half a position", (absent,), "latitude and longitude together")


class Accelerator(Frozen):
    """Accelerators of one model."""

    type: DeviceType
    """`gpu`, `npu`, `tpu`, `fpga`, …"""
    model: str | None = Field(default=None, max_length=63)
    """Such as Orin Nano; compared without regard to case."""
    count: int = Field(default=1, ge=1, le=64)
    """How many of them."""
    memory: Bytes = 0
    """Memory of each."""


class Sensor(Frozen):
    """Sensors of one model."""

    type: DeviceType
    """`camera`, `microphone`, `temperature`, …"""
    model: str | None = Field(default=None, max_length=63)
    """Such as Camera Module 3; compared without regard to case."""
    count: int = Field(default=1, ge=1, le=64)
    """How many of them."""
    endpoint: str | None = Field(default=None, max_length=1024)
    """Where a component reads it: a device path or URL."""


class Hardware(Frozen):
    """Capacity; what is left out is filled from the agent's inventory, what is described wins."""

    architecture: str | None = Field(default=None, max_length=31)
    """As `uname -m` says: x86_64, aarch64, …"""
    model: str | None = Field(default=None, max_length=255)
    """Of the board or machine, such as Raspberry Pi 5."""
    cpu: Cores | None = None
    """Cores."""
    frequency: Frequency | None = None
    """Highest clock of a core."""
    memory: Bytes | None = None
    """Bytes of main memory."""
    disk: Bytes | None = None
    """Bytes for models and data."""


class Link(Frozen):
    """Measured or known quality of the network from this node."""

    to: Annotated[str, StringConstraints(pattern=r"^(\*|(node|cluster|datacenter|layer):[a-z0-9][-a-z0-9]{0,62})$")]
    """`node:NAME`, `cluster:NAME`, `datacenter:NAME`, `layer:LAYER` or `*`; the most specific counts."""
    latency: Duration | None = None
    """Round trip."""
    bandwidth: Bandwidth | None = None
    """Bits a second."""


class PowerSource(Frozen):
    """Where the node's energy comes from in a part of the day; the first whose window holds now counts."""

    name: Name
    """Such as grid, solar or battery."""
    windows: tuple[TimeWindow, ...] = Field(default=("00:00-24:00",), max_length=48)
    """`HH:MM-HH:MM` in UTC; may wrap around midnight."""
    price: float = Field(default=0.0, ge=0, le=1e6)
    """Money for a kilowatt-hour, in the slice's currency."""
    co2: float = Field(default=0.0, ge=0, le=1e6)
    """Grams of CO₂ for a kilowatt-hour."""

    def faults(self) -> Iterator[Fault]:
        for index, window in enumerate(self.windows):
            start, end = window.split("-")
            if start == end:
                yield Fault(f"{window} is no time at all", ("windows", index), "a later end, or 00:00-24:00")


class PowerProfile(Frozen):
    """What the node draws and what that costs."""

    idle: Power = 0.0
    """At no load."""
    max: Power = 0.0
    """At full load."""
    sources: tuple[PowerSource, ...] = Field(default=(), max_length=16)
    """Where the energy comes from; the datacenter's when empty."""

    def faults(self) -> Iterator[Fault]:
        if self.idle > self.max:
            told = f"idle {format_power(self.idle)} is over max {format_power(self.max)}"
            yield Fault(told, ("max",), f"at least {format_power(self.idle)}")
        yield from repeated((source.name for source in self.sources), ("sources",), "name")


class NodeSpec(Frozen):
    """What is described of a node."""

    layer: Layer = Layer.EDGE
    """Where in the continuum it stands."""
    cluster: Name | None = None
    """Name of its Cluster."""
    datacenter: Name | None = None
    """Name of its Datacenter; that of its cluster when left out."""
    location: Location = Location()
    """Where it stands; as its datacenter when left out."""
    mobile: bool = False
    """Whether it moves, so that its location and links are only the last known."""
    hardware: Hardware = Hardware()
    """Capacity."""
    accelerators: tuple[Accelerator, ...] = Field(default=(), max_length=64)
    """Devices that components may ask for."""
    sensors: tuple[Sensor, ...] = Field(default=(), max_length=64)
    """Sensors that components may ask for."""
    network: tuple[Link, ...] = Field(default=(), max_length=1024)
    """Quality of the network to other places."""
    power: PowerProfile = PowerProfile()
    """What it draws and what that costs."""
    price: float = Field(default=0.0, ge=0, le=1e6)
    """Money for an hour of the whole node, in the slice's currency, energy not included."""
    reserved_cpu: Cores = 0.0
    """Kept for the system; not placed on."""
    reserved_memory: Bytes = 0
    """Kept for the system; not placed on."""
    cordoned: bool = False
    """No new replicas are placed here."""
    drained: bool = False
    """Replicas are moved away; implies cordoned."""

    def faults(self) -> Iterator[Fault]:
        if self.hardware.cpu is not None and self.reserved_cpu > self.hardware.cpu:
            most = format_cores(self.hardware.cpu)
            yield Fault("more cores are reserved than there are", ("reservedCpu",), f"at most {most}")
        if self.hardware.memory is not None and self.reserved_memory > self.hardware.memory:
            most = format_bytes(self.hardware.memory)
            yield Fault("more memory is reserved than there is", ("reservedMemory",), f"at most {most}")
        yield from repeated((link.to for link in self.network), ("network",), "to")


class NodeStatus(Frozen):
    """What the control plane knows of a node."""

    uid: str = Field(default="", max_length=64)
    """Minted when the node joined; names it on the wire."""
    phase: Literal["expected", "ready", "suspect", "lost", "left"] = "expected"
    """`expected`: described but never joined."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""
    agent_version: str = Field(default="", max_length=63)
    """Version of the agent that runs there."""
    hardware: Hardware = Hardware()
    """As the agent's inventory found it."""
    accelerators: tuple[Accelerator, ...] = Field(default=(), max_length=64)
    """As the agent's inventory found them."""
    sensors: tuple[Sensor, ...] = Field(default=(), max_length=64)
    """As the agent's inventory found them."""
    gateway: str = Field(default="", max_length=1024)
    """URL of the node's inference gateway."""
    mechanisms: tuple[str, ...] = Field(default=(), max_length=64)
    """Mechanisms that work there."""
    desired_generation: int = 0
    """Newest desired document that was published for it."""
    observed_generation: int = 0
    """Newest desired document that it has begun to apply."""
    last_seen: str | None = Field(default=None, max_length=40)
    """RFC 3339 time of the last heartbeat."""


class Node(Frozen):
    """A machine with an agent."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Node"] = "Node"
    """Says that this is a Node."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: NodeSpec = NodeSpec()
    """What is wanted."""
    status: NodeStatus | None = None
    """What is; written by the control plane alone."""

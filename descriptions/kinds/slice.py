"""The Slice kind: quotas, failover timings, system targets and default policies of one control plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ..quantities import Bytes, Cores, Duration
from ..units import format_duration
from .meta import API_VERSION, Condition, Fault, Frozen, Layer, Metadata, PluginUse, Relation


class Quotas(Frozen):
    """Upper bounds over all applications of the slice; none when left out."""

    cpu: Cores | None = None
    """Cores that replicas may reserve together."""
    memory: Bytes | None = None
    """Bytes that replicas may reserve together."""
    replicas: int | None = Field(default=None, ge=0)
    """Number of replicas."""
    applications: int | None = Field(default=None, ge=0)
    """Number of applications."""
    nodes: int | None = Field(default=None, ge=0)
    """Number of nodes that may join."""


class Timings(Frozen):
    """Heartbeat and lease of nodes; suspect after three heartbeats, lost after the lease."""

    heartbeat: Duration = Field(default=5.0, ge=0.1, le=3600)
    """A node says that it lives once in this time, ± 10 %; three missed make it suspect."""
    lease: Duration = Field(default=30.0, ge=0.5, le=86400)
    """A node that was not heard for this long is lost; at least three heartbeats."""

    def faults(self) -> Iterator[Fault]:
        if self.lease < 3 * self.heartbeat:
            told = f"a lease of {format_duration(self.lease)} is short of three heartbeats"
            yield Fault(told, ("lease",), f"at least {format_duration(3 * self.heartbeat)}")


class Failover(Timings):
    """When nodes count as lost and what follows."""

    layers: dict[Layer, Timings] = Field(
        default_factory=lambda: {Layer.FAR_EDGE: Timings(heartbeat=15.0, lease=120.0)}, max_length=4
    )
    """Other timings for a layer."""
    replace_after: Duration | Literal["never"] = 60.0
    """Wait after a node is lost before its replicas are placed elsewhere; a component may say otherwise."""
    storm_share: float = Field(default=0.55, gt=0, le=1)
    """When more than this share of a site vanishes together, nothing is evicted and an alarm is raised."""
    evictions_per_minute: int = Field(default=60, ge=1, le=1_000_000)
    """Most replicas of lost nodes that are placed elsewhere in a minute."""


class SystemTarget(Frozen):
    """A goal for the whole slice."""

    metric: Literal["energy", "cost", "co2"]
    """Watts, money an hour, grams of CO₂ an hour."""
    relation: Relation = Relation.LOWER_OR_EQUAL
    """How the measured value must stand to the target."""
    target: float = Field(ge=0)
    """In the unit of the metric."""
    weight: float = Field(default=1.0, ge=0, le=1000)
    """Importance among the targets."""


class Adaptation(Frozen):
    """Brakes on changes made by policies."""

    interval: Duration = Field(default=5.0, ge=0.1, le=3600)
    """Longest time between two looks; events cause earlier ones."""
    cooldown: Duration = 60.0
    """Between two adaptations of one component."""
    blast_radius: float = Field(default=0.25, gt=0, le=1)
    """Largest share of the slice's replicas (at least one) that adaptation may have in motion at once."""


class TelemetrySettings(Frozen):
    """How often nodes measure when no policy asks for more."""

    interval: Duration = Field(default=15.0, ge=0.1, le=3600)
    """Between two measurements of a node."""
    window: Duration = Field(default=300.0, ge=1, le=86400)
    """How far back windows reach on the control plane."""


class SliceSpec(Frozen):
    """Settings of one control plane."""

    quotas: Quotas = Quotas()
    """Upper bounds over all applications."""
    failover: Failover = Failover()
    """When nodes count as lost and what follows."""
    targets: tuple[SystemTarget, ...] = Field(default=(), max_length=8)
    """Goals for the whole slice, weighed by policies such as cheapest and greenest."""
    policies: tuple[PluginUse, ...] = Field(default=(PluginUse(use="balanced"),), max_length=16)
    """Placement policies of applications that name none."""
    adaptation: Adaptation = Adaptation()
    """Brakes on changes made by policies."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """How often nodes measure and how long it is kept."""
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")
    """Of every price in the slice, as ISO 4217 has it."""


class SliceStatus(Frozen):
    """The slice as a whole."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""
    epoch: int = 0
    """Counts restores of the database; orders desired documents before their generation does."""
    nodes: int = 0
    """Nodes described or joined."""
    ready_nodes: int = 0
    """Nodes that are heard and take replicas."""
    replicas: int = 0
    """Replicas that run."""


class Slice(Frozen):
    """A part of the continuum with a control plane of its own."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Slice"] = "Slice"
    """Says that this is a Slice."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: SliceSpec = SliceSpec()
    """What is wanted."""
    status: SliceStatus | None = None
    """What is; written by the control plane alone."""

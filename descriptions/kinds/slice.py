"""The Slice kind: quotas, failover timings, system targets and default policies of one control plane."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..quantities import Bytes, Cores, Duration
from .meta import API_VERSION, Condition, Frozen, Layer, Metadata, PluginUse, Relation


class Quotas(Frozen):
    """Upper bounds over all applications of the slice; none when left out."""

    cpu: Cores | None = None
    memory: Bytes | None = None
    replicas: int | None = Field(default=None, ge=0)
    applications: int | None = Field(default=None, ge=0)
    nodes: int | None = Field(default=None, ge=0)


class Timings(Frozen):
    """Heartbeat and lease of nodes; suspect after three heartbeats, lost after the lease."""

    heartbeat: Duration = Field(default=5.0, ge=0.1, le=3600)
    lease: Duration = Field(default=30.0, ge=0.5, le=86400)


class Failover(Timings):
    """When nodes count as lost and what follows."""

    layers: dict[Layer, Timings] = Field(default_factory=lambda: {Layer.FAR_EDGE: Timings(heartbeat=15.0, lease=120.0)})
    """Other timings for a layer."""
    replace_after: Duration | Literal["never"] = 60.0
    """Wait after a node is lost before its replicas are placed elsewhere; a component may say otherwise."""
    storm_share: float = Field(default=0.55, gt=0, le=1)
    """When more than this share of a site vanishes together, nothing is evicted and an alarm is raised."""
    evictions_per_minute: int = Field(default=60, ge=1, le=1_000_000)


class SystemTarget(Frozen):
    """A goal for the whole slice."""

    metric: Literal["energy", "cost", "co2"]
    """Watts, money an hour, grams of CO₂ an hour."""
    relation: Relation = Relation.LOWER_OR_EQUAL
    target: float = Field(ge=0)
    weight: float = Field(default=1.0, ge=0, le=1000)


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
    window: Duration = Field(default=300.0, ge=1, le=86400)
    """How far back windows reach on the control plane."""


class SliceSpec(Frozen):
    """Settings of one control plane."""

    quotas: Quotas = Quotas()
    failover: Failover = Failover()
    targets: tuple[SystemTarget, ...] = Field(default=(), max_length=8)
    policies: tuple[PluginUse, ...] = Field(default=(PluginUse(use="balanced"),), max_length=16)
    """Placement policies of applications that name none."""
    adaptation: Adaptation = Adaptation()
    telemetry: TelemetrySettings = TelemetrySettings()
    currency: str = Field(default="EUR", max_length=8)


class SliceStatus(Frozen):
    """The slice as a whole."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    epoch: int = 0
    nodes: int = 0
    ready_nodes: int = 0
    replicas: int = 0


class Slice(Frozen):
    """A part of the continuum with a control plane of its own."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Slice"] = "Slice"
    metadata: Metadata
    spec: SliceSpec = SliceSpec()
    status: SliceStatus | None = None

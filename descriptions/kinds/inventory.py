"""The Datacenter and Cluster kinds: how nodes are grouped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .meta import API_VERSION, Condition, Frozen, Layer, Metadata, Name
from .node import Link, Location, PowerSource


class DatacenterSpec(Frozen):
    """A site."""

    layer: Layer | None = None
    """Layer of nodes in it that name none themselves."""
    location: Location = Location()
    """Where it stands."""
    provider: str | None = Field(default=None, max_length=63)
    """Who runs it."""
    power_sources: tuple[PowerSource, ...] = Field(default=(), max_length=16)
    """For nodes that describe none."""
    network: tuple[Link, ...] = Field(default=(), max_length=1024)
    """For nodes that describe none."""


class ClusterSpec(Frozen):
    """A group of nodes, Kubernetes or bare."""

    datacenter: Name | None = None
    """Name of the Datacenter that it stands in."""
    nodes: tuple[Name, ...] = Field(default=(), max_length=10_000)
    """Members beside the nodes that name this cluster themselves."""


class GroupStatus(Frozen):
    """Summary of the members."""

    nodes: int = 0
    """Members."""
    ready_nodes: int = 0
    """Members that are heard and take replicas."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""


class Datacenter(Frozen):
    """A site of nodes; failures of a site are judged together."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Datacenter"] = "Datacenter"
    """Says that this is a Datacenter."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: DatacenterSpec = DatacenterSpec()
    """What is wanted."""
    status: GroupStatus | None = None
    """What is; written by the control plane alone."""


class Cluster(Frozen):
    """A group of nodes."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Cluster"] = "Cluster"
    """Says that this is a Cluster."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: ClusterSpec = ClusterSpec()
    """What is wanted."""
    status: GroupStatus | None = None
    """What is; written by the control plane alone."""

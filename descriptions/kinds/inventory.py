"""The Datacenter and Cluster kinds: how nodes are grouped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .meta import API_VERSION, Condition, Frozen, Layer, Metadata, Name
from .node import Link, Location, PowerSource


class DatacenterSpec(Frozen):
    """A site."""

    layer: Layer | None = None
    location: Location = Location()
    provider: str | None = Field(default=None, max_length=63)
    power_sources: tuple[PowerSource, ...] = Field(default=(), max_length=16)
    """For nodes that describe none."""
    network: tuple[Link, ...] = Field(default=(), max_length=1024)
    """For nodes that describe none."""


class ClusterSpec(Frozen):
    """A group of nodes, Kubernetes or bare."""

    datacenter: Name | None = None
    nodes: tuple[Name, ...] = Field(default=(), max_length=10_000)
    """Members beside the nodes that name this cluster themselves."""


class GroupStatus(Frozen):
    """Summary of the members."""

    nodes: int = 0
    ready_nodes: int = 0
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)


class Datacenter(Frozen):
    """A site of nodes; failures of a site are judged together."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Datacenter"] = "Datacenter"
    metadata: Metadata
    spec: DatacenterSpec = DatacenterSpec()
    status: GroupStatus | None = None


class Cluster(Frozen):
    """A group of nodes."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Cluster"] = "Cluster"
    metadata: Metadata
    spec: ClusterSpec = ClusterSpec()
    status: GroupStatus | None = None

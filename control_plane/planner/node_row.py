"""One node of a snapshot as the row that `table.py` makes columns of: what is described wins over what was found."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ...descriptions.kinds import Cluster, Datacenter, Node
from ...descriptions.kinds.node import Accelerator, Hardware, Link, PowerSource, Sensor
from ...descriptions.messages.reported import MechanismReport
from ...policies.request import millis_of
from ...policies.view import Device, LinkFacts, NodeFacts
from .snapshot import NodeState

DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Tariff:
    """A power source with its windows in minutes of the UTC day; `start > end` wraps around midnight."""

    windows: tuple[tuple[int, int], ...]
    price_per_kwh: float
    co2_g_per_kwh: float

    def holds_at(self, minute: int) -> bool:
        """Whether one of the windows holds `minute`; the end is not part of a window."""
        return any(
            start <= minute < end if start < end else minute >= start or minute < end for start, end in self.windows
        )


@dataclass(frozen=True)
class Groups:
    """Which cluster and datacenter nodes belong to."""

    cluster_of: Mapping[str, str]
    """Node name → cluster that lists it."""
    datacenter_of: Mapping[str, str]
    """Cluster name → its datacenter."""
    datacenters: Mapping[str, Datacenter]
    clusters: tuple[Cluster, ...]
    """What this was made of."""
    sites: tuple[Datacenter, ...]
    """What this was made of."""


@dataclass(frozen=True)
class NodeRow:
    """Everything that placement knows of a node but what stands on it."""

    state: NodeState
    facts: NodeFacts
    cpu_millis: int
    """-1 where neither the description nor the inventory says."""
    memory_bytes: int
    """-1 where unknown."""
    disk_bytes: int
    """-1 where unknown."""
    latitude: float
    longitude: float
    links: tuple[LinkFacts, ...]
    tariffs: tuple[Tariff, ...]

    @property
    def node(self) -> Node:
        """The description."""
        return self.state.node

    @property
    def mechanisms(self) -> tuple[MechanismReport, ...]:
        """As reported; those known by name only where there is no report."""
        if self.state.mechanisms or self.node.status is None:
            return self.state.mechanisms
        return tuple(MechanismReport(name) for name in self.node.status.mechanisms)

    @cached_property
    def digest(self) -> bytes:
        """Of everything that is text or a table of its own; numbers are in the columns. 16 bytes."""
        told = (self.facts, self.state.uid, self.state.phase, self.links, self.tariffs, self.mechanisms)
        spec = self.node.spec
        return hashlib.blake2b(repr((told, spec.cordoned, spec.drained)).encode(), digest_size=16).digest()

    def tariff_at(self, minute: int) -> Tariff | None:
        """The power source that counts in a minute of the UTC day: the first with a window that holds it."""
        for tariff in self.tariffs:
            if tariff.holds_at(minute):
                return tariff
        return None


def groups_of(clusters: tuple[Cluster, ...], datacenters: tuple[Datacenter, ...]) -> Groups:
    """Index clusters and datacenters."""
    return Groups(
        cluster_of={node: cluster.metadata.name for cluster in clusters for node in cluster.spec.nodes},
        datacenter_of={cluster.metadata.name: cluster.spec.datacenter or "" for cluster in clusters},
        datacenters={datacenter.metadata.name: datacenter for datacenter in datacenters},
        clusters=clusters,
        sites=datacenters,
    )


def row_of(state: NodeState, groups: Groups) -> NodeRow:
    """Read one node."""
    spec, name = state.node.spec, state.node.metadata.name
    cluster = spec.cluster or groups.cluster_of.get(name, "")
    site = groups.datacenters.get(datacenter := spec.datacenter or groups.datacenter_of.get(cluster, ""))
    found = state.node.status.hardware if state.node.status else Hardware()
    cpu, memory, disk = (
        _first(getattr(spec.hardware, quantity), getattr(found, quantity)) for quantity in ("cpu", "memory", "disk")
    )
    location = spec.location
    return NodeRow(
        state=state,
        facts=_facts(state.node, cluster, datacenter, found),
        cpu_millis=-1 if cpu is None else max(0, millis_of(cpu) - millis_of(spec.reserved_cpu)),
        memory_bytes=-1 if memory is None else max(0, int(memory) - spec.reserved_memory),
        disk_bytes=-1 if disk is None else int(disk),
        latitude=math.nan if location.latitude is None else location.latitude,
        longitude=math.nan if location.longitude is None else location.longitude,
        links=_links(spec.network or (site.spec.network if site else ())),
        tariffs=_tariffs(spec.power.sources or (site.spec.power_sources if site else ())),
    )


def _facts(node: Node, cluster: str, datacenter: str, found: Hardware) -> NodeFacts:
    spec = node.spec
    accelerators = spec.accelerators or (node.status.accelerators if node.status else ())
    return NodeFacts(
        name=node.metadata.name,
        layer=spec.layer.value,
        cluster=cluster,
        datacenter=datacenter,
        architecture=spec.hardware.architecture or found.architecture or "",
        mobile=spec.mobile,
        labels=node.metadata.labels,
        accelerators=tuple(_device(one) for one in accelerators),
        sensors=tuple(_device(one) for one in spec.sensors),
    )


def _device(described: Accelerator | Sensor) -> Device:
    memory_bytes = described.memory if isinstance(described, Accelerator) else 0
    return Device(described.type, described.model or "", described.count, memory_bytes)


def _first(described: float | None, found: float | None) -> float | None:
    return described if described is not None else found


def _links(described: tuple[Link, ...]) -> tuple[LinkFacts, ...]:
    return tuple(
        LinkFacts(
            link.to,
            math.nan if link.latency is None else link.latency,
            math.nan if link.bandwidth is None else link.bandwidth,
        )
        for link in described
    )


def _tariffs(sources: tuple[PowerSource, ...]) -> tuple[Tariff, ...]:
    return tuple(Tariff(tuple(_minutes(one) for one in s.windows), s.price, s.co2) for s in sources)


def _minutes(window: str) -> tuple[int, int]:
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in window.split("-"))
    return start, end

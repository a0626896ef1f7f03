"""What a policy may know: one moment of the slice, read-only.

The planner makes a `View` for each decision and keeps it current between the replicas of one need; the policy process
makes the same from what it is sent. Nothing in it does I/O or changes anything. `NodeTable` and `NodeView` are the
nodes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from ..descriptions.kinds.application import Application
from ..descriptions.kinds.slice import Slice
from ..descriptions.mechanism import Options, Status
from ..descriptions.messages.reported import MechanismReport
from .network import LinkFacts, Network, Reach
from .node_table import BoolArray, FloatArray, IntArray, LabelColumn, NodeTable
from .node_view import Device, NodeFacts, NodeView
from .reading import NO_METRICS, Metrics, Reading, Statistic
from .relations import Relations
from .request import Request

__all__ = [
    "BoolArray", "Device", "FloatArray", "IntArray", "LabelColumn", "LinkFacts", "MechanismOffer", "Network",
    "NodeFacts", "NodeTable", "NodeView", "Reach", "Reading", "Replica", "Replicas", "Request", "View",
]  # fmt: skip


LOG_MAX = 100_000
"""Changes of the replicas that are remembered; whoever is behind more copies all."""


class Replica(NamedTuple):
    """One replica that is there or was just decided; not one that stops, is lost or is being replaced."""

    id: str
    """Empty for one that was decided a moment ago."""
    application: str
    component: str
    node: str
    row: int
    """Of its node in the node table."""
    is_ready: bool


class Replicas:
    """The slice's replicas by component; the planner adds while it decides.

    `log` keeps what changed, oldest first, for those who keep a copy elsewhere; `epoch` counts how often it was cut.
    """

    def __init__(self) -> None:
        self.log: list[tuple[bool, Replica]] = []
        self.epoch = 0
        self._by_component: dict[tuple[str, str], list[Replica]] = {}
        self._components: dict[str, set[str]] = {}

    def add(self, replica: Replica) -> None:
        """Count one more, after the others of its component."""
        self._of(replica).append(replica)
        self._note(True, replica)

    def insert(self, replica: Replica) -> None:
        """Count one more, in the order of ids."""
        insort(self._of(replica), replica)
        self._note(True, replica)

    def remove(self, application: str, component: str, replica_id: str) -> Replica | None:
        """Count one less; give back which it was."""
        for replica in self.of(application, component):
            if replica.id == replica_id:
                self.take_back(replica)
                return replica
        return None

    def take_back(self, replica: Replica) -> None:
        """Count one less, the last of those that are equal."""
        present = self._of(replica)
        for at in range(len(present) - 1, -1, -1):
            if present[at] == replica:
                del present[at]
                self._note(False, replica)
                return

    def of(self, application: str, component: str) -> list[Replica]:
        """Replicas of one component; not to be changed."""
        return self._by_component.get((application, component), _NONE)

    def of_application(self, application: str) -> list[Replica]:
        """Replicas of all components of an application, by component."""
        components = sorted(self._components.get(application, ()))
        return [replica for component in components for replica in self.of(application, component)]

    def all(self) -> list[Replica]:
        """Every replica, by application and component."""
        return [replica for key in sorted(self._by_component) for replica in self._by_component[key]]

    def _note(self, is_added: bool, replica: Replica) -> None:
        if len(self.log) >= LOG_MAX:
            self.log.clear()
            self.epoch += 1
        self.log.append((is_added, replica))

    def _of(self, replica: Replica) -> list[Replica]:
        present = self._by_component.get((replica.application, replica.component))
        if present is None:
            present = self._by_component[replica.application, replica.component] = []
            self._components.setdefault(replica.application, set()).add(replica.component)
        return present


_NONE: list[Replica] = []


@dataclass(frozen=True)
class MechanismOffer:
    """What a mechanism offers on a node and what is set there."""

    name: str
    options: Options
    status: Status


class View(msgspec.Struct, frozen=True, eq=False):
    """The slice as one decision sees it."""

    now_s: float
    """Monotonic clock of the control plane; only differences mean anything."""
    wall: datetime
    """UTC."""
    seed: int
    """For policies that want chance: the same decision gets the same seed again."""
    slice: Slice
    application: Application
    """Whose component is being decided or analysed."""
    request: Request
    """What one replica of the component being decided takes; nothing while analysing."""
    relations: Relations
    """Which components of the application refer to which."""
    nodes: NodeTable
    network: Network
    replicas: Replicas
    metrics: Metrics = NO_METRICS
    reports: Mapping[str, tuple[MechanismReport, ...]] = {}
    """Node name → its mechanisms as reported; `mechanisms` reads them."""

    def node(self, name: str) -> NodeView | None:
        """One node by name."""
        row = self.nodes.row_of.get(name)
        return None if row is None else self.nodes[row]

    def rtt_s(self, a: str, b: str) -> float | None:
        """Round trip in seconds between two nodes by name; 0 on the same node, None where no link covers the pair."""
        rows = self.nodes.row_of
        return self.network.rtt_s(rows[a], rows[b]) if a in rows and b in rows else None

    def bandwidth_bps(self, a: str, b: str) -> float | None:
        """Bits a second between two nodes by name; infinite on the same node, None where no link covers the pair."""
        rows = self.nodes.row_of
        return self.network.bandwidth_bps(rows[a], rows[b]) if a in rows and b in rows else None

    def replicas_of(self, component: str, application: str = "") -> tuple[Replica, ...]:
        """Replicas of a component, of the view's own application unless another is named."""
        return tuple(self.replicas.of(application or self.application.metadata.name, component))

    def reading(
        self,
        metric: str,
        statistic: Statistic = "mean",
        window_s: float = 30.0,
        *,
        node: str = "",
        component: str = "",
    ) -> Reading | None:
        """What was measured, over all nodes or one, over all components or one (`application.component`).

        None when nothing fresh was. A plugin reads what its `metrics` declare, nothing else.
        """
        return self.metrics.read(metric, statistic, window_s, node=node, component=component)

    def mechanisms(self, node: str) -> tuple[MechanismOffer, ...]:
        """The mechanisms of a node; one whose report can't be read offers nothing and says so."""
        return tuple(_offer(report) for report in self.reports.get(node, ()))


def _offer(report: MechanismReport) -> MechanismOffer:
    try:
        options = msgspec.json.decode(report.options, type=Options)
        status = msgspec.json.decode(report.status, type=Status)
    except msgspec.DecodeError as error:
        return MechanismOffer(report.name, Options(reason=f"its report can't be read: {error}"), Status())
    return MechanismOffer(report.name, options, status)

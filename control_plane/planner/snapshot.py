"""What planning reads and what it gives back: an immutable snapshot of committed rows in, a proposal out.

The driver builds a `Snapshot` at one resource version; `decide.py` turns it and the `Need`s found by `reconcile.py`
into a `PlanProposal`; the plan core re-validates that against newer rows before it commits. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ...descriptions.kinds import Application, Cluster, Datacenter, Model, Node, Policy, Slice
from ...descriptions.messages.reported import MechanismReport
from ...policies.reading import Metrics, NoMetrics, Reading, Statistic
from ..placement import Placement, Reservation

Cause = Literal["initial", "scale", "update", "replace", "move", "drain"]


@dataclass(frozen=True)
class NodeState:
    """A node with what is known of it now."""

    node: Node
    """Spec as described; `status.hardware` as found. What is described wins."""
    uid: str
    phase: Literal["expected", "ready", "suspect", "lost", "left"]
    mechanisms: tuple[MechanismReport, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All that a decision may depend on."""

    version: int
    """Resource version of the newest row in it."""
    now_s: float
    """Driver's monotonic clock."""
    wall: datetime
    """UTC; only for price and CO₂ windows."""
    slice: Slice
    nodes: tuple[NodeState, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    datacenters: tuple[Datacenter, ...] = ()
    applications: tuple[Application, ...] = ()
    models: tuple[Model, ...] = ()
    policies: tuple[Policy, ...] = ()
    placements: tuple[Placement, ...] = ()
    metrics: Metrics = field(default_factory=NoMetrics)


@dataclass(frozen=True)
class Need:
    """Replicas of one component that must be placed."""

    application: str
    component: str
    count: int
    cause: Cause
    replaces: tuple[str, ...] = ()
    """Replica ids that the new ones replace, in order; their reservations still count until they stop."""
    avoid: tuple[str, ...] = ()
    """Node names that must not be chosen."""
    node: str = ""
    """Only this node, where an adaptation policy named it; still filtered."""

    @property
    def key(self) -> str:
        """`application.component`."""
        return f"{self.application}.{self.component}"


@dataclass(frozen=True)
class Assignment:
    """A replica to be made on a node."""

    node_uid: str
    node_name: str
    replaces: str = ""
    reserved: Reservation = field(default_factory=Reservation)
    """Goes into the Placement row as it is: capacity is accounted by it as long as the row exists."""


@dataclass(frozen=True)
class Decision:
    """The answer to one need. "No node fits" is an answer: `unplaced` > 0 and the record says why."""

    id: str
    need: Need
    assignments: tuple[Assignment, ...]
    unplaced: int
    summary: str
    """One sentence for people."""
    record: bytes
    """Encoded decision record (`record.py`): what replay needs, winner, runner-up, counts per constraint."""


@dataclass(frozen=True)
class PolicyFault:
    """A policy raised, overran or answered nonsense, so the built-in decided; for events and the Policy's status."""

    policy: str
    message: str
    strikes: int
    """In a row; at three it is fenced until it is loaded again."""
    fenced: bool = False


@dataclass(frozen=True)
class PlanProposal:
    """Decisions over one snapshot; worthless until the plan core has validated and committed them."""

    base_version: int
    decisions: tuple[Decision, ...]
    faults: tuple[PolicyFault, ...] = ()


__all__ = [
    "Assignment",
    "Cause",
    "Decision",
    "Metrics",
    "Need",
    "NoMetrics",
    "NodeState",
    "PlanProposal",
    "PolicyFault",
    "Reading",
    "Snapshot",
    "Statistic",
]

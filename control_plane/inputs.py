"""What happens to the control plane, as data: every event that `core.py` and the cores below it handle.

Drivers make them (`run.py` from MQTT, the store, the planner and the clock; `sim/` from its simulated ones). Each has
an id that every effect it causes repeats. Messages of the wire and rows come in already decoded and validated; a
deadline is an event like any other (`TimerFired`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..descriptions.kinds import (
    Application,
    Cluster,
    Datacenter,
    Mechanism,
    Model,
    Node,
    Policy,
    Rollout,
    Secret,
    Slice,
)
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import EventBatch, Reported, State
from .component_state import ComponentState, DesiredMark, Revision
from .effects import Timer
from .placement import Placement
from .planner.snapshot import PlanProposal

RowValue = (
    Slice | Datacenter | Cluster | Node | Application | Model | Policy | Mechanism | Secret | Rollout
    | Placement | Revision | ComponentState | DesiredMark
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A committed row; `value` is None when it was deleted."""

    kind: str
    name: str
    value: RowValue | None
    version: int = 0
    """Resource version."""


@dataclass(frozen=True)
class Event:
    """Something that happened; `id` is repeated on each effect that it causes."""

    id: str


@dataclass(frozen=True)
class Started(Event):
    """The control plane leads, with these rows. Always the first event, and only once."""

    fence: int
    epoch: int
    rows: tuple[Row, ...]
    positions: tuple[tuple[str, str, int], ...] = ()
    """Node uid, stream and its last stored seq."""
    wall_offset_s: float = 0.0
    """Wall clock minus the driver's monotonic clock; for `createdS` of rows alone, never for a decision."""


@dataclass(frozen=True)
class RowsChanged(Event):
    """Others than the core committed these rows, in this order: people over the API, enrolment."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Committed(Event):
    """A `Commit` is on disk."""

    commit: str
    version: int
    """Resource version of the database after it."""
    generations: tuple[tuple[str, int], ...] = ()
    """Node uid and generation of each `DesiredDraft` of the commit."""


@dataclass(frozen=True)
class HeartbeatSeen(Event):
    """On `up/hb`; the driver has checked that the topic's uid is the message's."""

    heartbeat: Heartbeat


@dataclass(frozen=True)
class StateSeen(Event):
    """A birth or will on `up/state`."""

    state: State


@dataclass(frozen=True)
class ReportSeen(Event):
    """On `up/reported`."""

    reported: Reported


@dataclass(frozen=True)
class BatchSeen(Event):
    """Durable events of a node on `up/ev/<stream>`."""

    batch: EventBatch


@dataclass(frozen=True)
class StreamStored(Event):
    """What a `StoreStream` asked for is on disk; `position` is the last applied seq of the stream."""

    node: str
    stream: str
    position: int


@dataclass(frozen=True)
class CanaryEchoed(Event):
    """The broker gave back our own canary."""

    seq: int


@dataclass(frozen=True)
class LinkChanged(Event):
    """The link to the broker came up or went down."""

    connected: bool


@dataclass(frozen=True)
class LoadMeasured(Event):
    """How far the driver is behind: 0 is normal, each level halves the rate of `tel/lo`."""

    level: int


@dataclass(frozen=True)
class PlanProposed(Event):
    """The answer to an `AskPlanner`."""

    plan: str
    proposal: PlanProposal


@dataclass(frozen=True)
class PlanFailed(Event):
    """The planner broke down over an `AskPlanner`; its needs are asked again after a pause."""

    plan: str
    reason: str


@dataclass(frozen=True)
class NodesScored(Event):
    """The answer to an `AskScores`."""

    application: str
    component: str
    scores: tuple[tuple[str, float], ...]
    """Node name and score, more is better; a node on which the component may not stand is left out."""


@dataclass(frozen=True)
class ScaleWanted(Event):
    """Adaptation wants this many replicas of a component with `scaling`."""

    application: str
    component: str
    replicas: int
    reason: str


@dataclass(frozen=True)
class MoveWanted(Event):
    """Adaptation wants a replica to stand elsewhere."""

    replica: str
    node: str
    """Name of the node that it should go to; empty leaves the choice to the planner."""
    reason: str
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True)
class SettingWanted(Event):
    """Adaptation wants a lasting setting of a mechanism for a component."""

    application: str
    component: str
    mechanism: str
    verb: str
    arguments: str
    """JSON object; empty takes the setting back."""
    reason: str
    target: str = ""
    """Replica id, `application.component`, or empty for the nodes that the component stands on."""
    node: str = ""
    """Name of the one node that it is meant for; empty means all nodes of the component."""


@dataclass(frozen=True)
class MetricsWanted(Event):
    """Active policies read these metrics; nodes measure them at least this often."""

    intervals: tuple[tuple[str, float], ...]
    """Metric name and seconds."""


@dataclass(frozen=True)
class RolloutWanted(Event):
    """An operator pauses, resumes or aborts a rollout."""

    rollout: str
    verb: Literal["pause", "resume", "abort"]


@dataclass(frozen=True)
class EpochBumped(Event):
    """The answer to a `BumpEpoch`."""

    epoch: int


@dataclass(frozen=True)
class TimerFired(Event):
    """A deadline asked for by `WakeAt` has come."""

    timer: Timer

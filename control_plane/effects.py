"""What the control plane wants done, as data: every effect that `core.py` and the cores below it return.

Drivers perform them in the order given and report what came of it as events (`inputs.py`). Each effect repeats the id
of the event that caused it. What has to be on disk before anyone hears of it is a `Commit`; the core says what to
publish only after the driver's `Committed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..descriptions.kinds import Rollout
from ..descriptions.kinds.application import ApplicationStatus
from ..descriptions.kinds.inventory import GroupStatus
from ..descriptions.kinds.node import NodeStatus
from ..descriptions.kinds.plugin import PluginStatus
from ..descriptions.kinds.slice import SliceStatus
from ..descriptions.messages.desired import Desired, DesiredSpec
from ..descriptions.messages.lease import Ack, Lease, Routes
from ..descriptions.messages.reported import NodeEvent
from .component_state import ComponentState, Revision
from .placement import Placement
from .planner.snapshot import Decision, Need

TimerKind = Literal["node", "canary", "component", "plan", "status"]


@dataclass(frozen=True, order=True)
class Timer:
    """A deadline; asking for the same timer again moves it."""

    kind: TimerKind
    key: str = ""


@dataclass(frozen=True)
class Happening:
    """Something that people should read in `shoal get events`."""

    reason: str
    """CamelCase and stable: `NodeLost`, `ReplicaPlaced`."""
    message: str
    kind: str = ""
    name: str = ""
    severity: Literal["info", "warning"] = "info"
    application: str = ""
    node: str = ""


@dataclass(frozen=True)
class Put:
    """Write a row that the control plane alone writes."""

    value: Placement | Revision | ComponentState | Rollout


@dataclass(frozen=True)
class Delete:
    """Delete a row that the control plane alone writes."""

    kind: str
    name: str


Status = ApplicationStatus | NodeStatus | SliceStatus | GroupStatus | PluginStatus


@dataclass(frozen=True)
class PutStatus:
    """Replace the status of an object whose spec belongs to people; nothing happens if the object is gone."""

    kind: str
    name: str
    status: Status


Write = Put | Delete | PutStatus


@dataclass(frozen=True)
class DesiredDraft:
    """What a node should run from this commit on; the commit gives it a generation in the same transaction."""

    node_uid: str
    digest: str
    spec: DesiredSpec


@dataclass(frozen=True)
class Effect:
    """Something to do, caused by the event `id`."""

    id: str


@dataclass(frozen=True)
class Commit(Effect):
    """Write all of this in one transaction under the fence, then report `Committed`. Commits keep their order.

    A commit that fails ends the driver's leadership: the core has gone on as if it had succeeded, so the driver starts
    again from the rows.
    """

    commit: str
    """Names it in `Committed`."""
    writes: tuple[Write, ...] = ()
    desired: tuple[DesiredDraft, ...] = ()
    decisions: tuple[Decision, ...] = ()
    forget_streams: tuple[str, ...] = ()
    """Node uids that are gone: their stream positions and desired marks go too."""


@dataclass(frozen=True)
class Tell(Effect):
    """Let people read it; may be joined with others like it or dropped under a flood, but is counted."""

    happening: Happening


@dataclass(frozen=True)
class SendLease(Effect):
    """Publish on `down/lease`, QoS 0."""

    lease: Lease


@dataclass(frozen=True)
class SendDesired(Effect):
    """Seal and publish on `down/desired`, QoS 1, retained; over 64 KiB, keep it for the API and publish its URL."""

    desired: Desired


@dataclass(frozen=True)
class ClearDesired(Effect):
    """Clear the retained document of a node that is gone."""

    node_uid: str


@dataclass(frozen=True)
class SendRoutes(Effect):
    """Publish on `_/routes/<model>`, QoS 1, retained."""

    routes: Routes


@dataclass(frozen=True)
class SendAck(Effect):
    """Publish on `down/ack`, QoS 1."""

    node_uid: str
    ack: Ack


@dataclass(frozen=True)
class SendCanary(Effect):
    """Publish `seq` on `_/canary`, QoS 0; its echo is a `CanaryEchoed`."""

    seq: int


@dataclass(frozen=True)
class StoreStream(Effect):
    """Append events and move the stream from `after` to `upto` in one transaction, then report `StreamStored`.

    When the stream is elsewhere (another process was faster), nothing is written and `StreamStored` says where it is.
    """

    node: str
    stream: str
    after: int
    upto: int
    events: tuple[NodeEvent, ...]


@dataclass(frozen=True)
class AskPlanner(Effect):
    """Decide these needs over a snapshot taken now (`core.snapshot`); ends as `PlanProposed` or `PlanFailed`."""

    plan: str
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class AskScores(Effect):
    """Score these nodes for a component; the answer is `NodesScored`."""

    application: str
    component: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class AnswerAction(Effect):
    """What came of a `ScaleWanted`, `MoveWanted` or `SettingWanted`; `id` is that event's."""

    reason: str = ""
    """Why it was refused; empty when it is committed."""


@dataclass(frozen=True)
class AnswerRollout(Effect):
    """What came of a `RolloutWanted`; `id` is that event's."""

    reason: str = ""
    """Why it was refused; empty when it is committed."""


@dataclass(frozen=True)
class BumpEpoch(Effect):
    """Nodes know newer documents than the database does: it is a restored one. Count that, then `EpochBumped`."""

    generation_min: int
    """Generations given from now on exceed this."""
    epoch_min: int = 0
    """And so does the epoch exceed this: the database may have been restored more than once."""


@dataclass(frozen=True)
class WakeAt(Effect):
    """Report `TimerFired` at `at_s` of the driver's monotonic clock; replaces the same timer's earlier deadline."""

    at_s: float
    timer: Timer

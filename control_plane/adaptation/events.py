"""What adaptation is told and what it gives back: frozen events in, frozen effects out.

The control plane's driver makes a `Looked` at least every `adaptation.interval`, after a `LookAt` and after events that
matter (a rollout ended, demand for something scaled to zero); policies were asked over the same snapshot before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...policies.actions import Action
from ..planner.snapshot import Snapshot
from .record import AdaptationRecord


@dataclass(frozen=True)
class PolicyPlan:
    """What one adaptation policy wants after `analyze` and `plan` over the snapshot of the look."""

    policy: str
    """Name of the Policy object, or of the plugin where an application names it."""
    weight: float
    actions: tuple[Action, ...]
    """In the policy's own order of importance."""


@dataclass(frozen=True)
class Looked:
    """The state at one moment, with what policies make of it."""

    id: str
    snapshot: Snapshot
    plans: tuple[PolicyPlan, ...] = ()
    scales: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(application, component) → replicas that adaptation wanted last (`ComponentState.scale`), where it has."""


@dataclass(frozen=True)
class DemandSeen:
    """A gateway or queue has work for a component that has no replica: it is woken at the next look."""

    id: str
    application: str
    component: str
    waiting: float = 1.0
    """Requests, or whatever the scaling signal counts."""


@dataclass(frozen=True)
class ActionCommitted:
    """The plan core committed an action: it shows in snapshots from `version` on."""

    id: str
    action: str
    """Id of the `Act`."""
    version: int


@dataclass(frozen=True)
class ActionRejected:
    """The plan core refused an action against newer rows than the look had seen."""

    id: str
    action: str
    reason: str


Event = Looked | DemandSeen | ActionCommitted | ActionRejected


@dataclass(frozen=True)
class Act:
    """Hand the action to the plan core, which checks it against the newest rows and commits it under the fence."""

    cause: str
    """Id of the event that led to it."""
    id: str
    """Of this action; answered by `ActionCommitted` or `ActionRejected`."""
    action: Action
    base_version: int
    record: AdaptationRecord


@dataclass(frozen=True)
class Explain:
    """Keep a record of something that was not done."""

    cause: str
    record: AdaptationRecord


@dataclass(frozen=True)
class PlanAgain:
    """Ask the policy again, over a newer snapshot, once `not_before_s` has come: another action went first."""

    cause: str
    policy: str
    application: str
    component: str
    not_before_s: float


@dataclass(frozen=True)
class LookAt:
    """Look again at this time of the driver's monotonic clock, if no look happens earlier."""

    cause: str
    at_s: float


Effect = Act | Explain | PlanAgain | LookAt

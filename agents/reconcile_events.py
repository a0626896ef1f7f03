"""What goes into the reconcile core and comes out of it: frozen dataclasses, an id on each event, repeated on effects.

`agents/run.py` makes events of the wire, the disk and the mechanisms; `sim/` makes them of simulated ones. Effects are
carried out in the order given: what must be durable comes before what relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..descriptions.messages.desired import Desired, MechanismSetting, ReplicaSpec, Settings
from ..mechanisms.runner import Observation
from .mark import Mark


@dataclass(frozen=True)
class SettingKey:
    """What a lasting setting changes; a later setting of the same key takes the place of an earlier one."""

    mechanism: str
    target: str
    verb: str


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DesiredReceived:
    """A desired document whose seal has been verified."""

    id: str
    desired: Desired
    sealed: bytes
    """The bytes that were verified, kept on disk as they are."""
    from_disk: bool = False
    """The last known good at start: taken even when a newer one was seen once and is lost."""


@dataclass(frozen=True)
class FetchFailed:
    """The document behind a URL could not be had; it is tried again."""

    id: str
    desired: Desired
    """Of the effect that failed."""
    error: str


@dataclass(frozen=True)
class Observed:
    """All instances of one runner, in one look made after its last start or stop."""

    id: str
    mechanism: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class StartFinished:
    """What came of `StartReplica`."""

    id: str
    replica: str
    digest: str
    observation: Observation | None
    """None when it failed."""
    error: str = ""
    refused: bool = False
    """It will not work here, so trying again is for later."""


@dataclass(frozen=True)
class SettingFinished:
    """What came of `ApplySetting` or `UndoSetting`."""

    id: str
    key: SettingKey
    undone: bool
    outcome: Literal["done", "failed", "refused"]
    message: str = ""


@dataclass(frozen=True)
class SettingsRemembered:
    """Settings of an earlier run of the agent that are in force still, by the undo journal."""

    id: str
    keys: tuple[SettingKey, ...]


@dataclass(frozen=True)
class LeaseChanged:
    """Whether single-instance replicas may run, by the lease core."""

    id: str
    held: bool


@dataclass(frozen=True)
class FenceSeen:
    """A fence on any verified message; lower ones are refused from now on."""

    id: str
    fence: int


@dataclass(frozen=True)
class DrainRequested:
    """The node's operator wants it empty: everything stops as if drained, until `wanted` is false again."""

    id: str
    wanted: bool = True


@dataclass(frozen=True)
class Woken:
    """The time of a `WakeAt` has come."""

    id: str


Event = (
    DesiredReceived
    | FetchFailed
    | Observed
    | StartFinished
    | SettingFinished
    | SettingsRemembered
    | LeaseChanged
    | FenceSeen
    | DrainRequested
    | Woken
)


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SaveMark:
    """Make durable, before anything that follows, what may never be gone below."""

    cause: str
    mark: Mark


@dataclass(frozen=True)
class SaveDesired:
    """Write the document to the slot that is not the last known good."""

    cause: str
    sealed: bytes
    digest: str


@dataclass(frozen=True)
class PromoteDesired:
    """The document has run in health long enough: its slot is the last known good now."""

    cause: str
    digest: str


@dataclass(frozen=True)
class FetchDesired:
    """Get the sealed document at the URL, verify it, and give it back as `DesiredReceived`, else `FetchFailed`."""

    cause: str
    desired: Desired


@dataclass(frozen=True)
class Refuse:
    """A document was not accepted; count it."""

    cause: str
    reason: str


@dataclass(frozen=True)
class StartReplica:
    """Call the runner's `start`; answer with `StartFinished`."""

    cause: str
    mechanism: str
    spec: ReplicaSpec
    digest: str


@dataclass(frozen=True)
class StopReplica:
    """Call the runner's `stop`; later observations tell when it has ended."""

    cause: str
    mechanism: str
    replica: str
    digest: str
    drain_s: float


@dataclass(frozen=True)
class ApplySetting:
    """Journal the inverse, then apply; answer with `SettingFinished`."""

    cause: str
    key: SettingKey
    setting: MechanismSetting
    command_id: str


@dataclass(frozen=True)
class UndoSetting:
    """Apply the journalled inverse and strike it from the journal; answer with `SettingFinished`."""

    cause: str
    key: SettingKey


@dataclass(frozen=True)
class UseSettings:
    """Heartbeat, telemetry rates and log level have changed."""

    cause: str
    settings: Settings


@dataclass(frozen=True)
class WatchModels:
    """The models whose routes the gateway needs have changed."""

    cause: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class ReportChanged:
    """What `reports` gives has changed; publish it soon."""

    cause: str


@dataclass(frozen=True)
class RaiseEvent:
    """Put an event into the outbox."""

    cause: str
    type: str
    reason: str
    message: str
    replica: str = ""
    severity: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True)
class WakeAt:
    """Send `Woken` at this time; takes the place of an earlier `WakeAt`."""

    cause: str
    at_s: float


Effect = (
    SaveMark
    | SaveDesired
    | PromoteDesired
    | FetchDesired
    | Refuse
    | StartReplica
    | StopReplica
    | ApplySetting
    | UndoSetting
    | UseSettings
    | WatchModels
    | ReportChanged
    | RaiseEvent
    | WakeAt
)

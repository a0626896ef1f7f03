"""The Rollout kind: a change of replicas in progress; written by the control plane alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from .meta import API_VERSION, Condition, Frozen, Metadata, Name


class RolloutCause(StrEnum):
    """Why replicas change."""

    UPDATE = "update"
    MOVE = "move"
    REPLACE = "replace"
    SCALE = "scale"
    DRAIN = "drain"


class Step(Frozen):
    """One replica's change: the new one is ready before the old one stops."""

    old: str = Field(default="", max_length=200)
    """Replica id; empty when nothing is stopped."""
    new: str = Field(default="", max_length=200)
    """Replica id; empty when nothing is started."""
    phase: Literal["pending", "starting", "stopping", "done", "failed"] = "pending"
    """How far it is."""


class RolloutSpec(Frozen):
    """What changes."""

    application: Name
    """Whose replicas change."""
    component: Name
    """Which of its components."""
    cause: RolloutCause
    """Why they change."""
    decision: str = Field(default="", max_length=64)
    """Id of the decision behind it; `shoal why` explains it."""
    steps: tuple[Step, ...] = Field(default=(), max_length=10_000)
    """The changes, in order."""
    paused: bool = False
    """Steps that have begun are finished, no others start."""


class RolloutStatus(Frozen):
    """How far it is."""

    phase: Literal["running", "paused", "done", "aborted", "failed"] = "running"
    """How far the whole is."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""
    message: str = Field(default="", max_length=4096)
    """Why, where it ended early."""


class Rollout(Frozen):
    """A change of replicas in progress."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Rollout"] = "Rollout"
    """Says that this is a Rollout."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: RolloutSpec
    """What is wanted."""
    status: RolloutStatus | None = None
    """What is; written by the control plane alone."""

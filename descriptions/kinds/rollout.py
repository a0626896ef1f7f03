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


class RolloutSpec(Frozen):
    """What changes."""

    application: Name
    component: Name
    cause: RolloutCause
    decision: str = Field(default="", max_length=64)
    steps: tuple[Step, ...] = Field(default=(), max_length=10_000)
    paused: bool = False


class RolloutStatus(Frozen):
    """How far it is."""

    phase: Literal["running", "paused", "done", "aborted", "failed"] = "running"
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    message: str = Field(default="", max_length=4096)


class Rollout(Frozen):
    """A change of replicas in progress."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Rollout"] = "Rollout"
    metadata: Metadata
    spec: RolloutSpec
    status: RolloutStatus | None = None

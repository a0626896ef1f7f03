"""The Policy and Mechanism kinds: an enabled plugin with its options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .meta import API_VERSION, Condition, Frozen, LabelRequirement, Layer, Metadata, Name, PluginUse


class PolicySpec(PluginUse):
    """A policy that decides beside those that applications name."""

    enabled: bool = True
    applications: tuple[Name, ...] = Field(default=(), max_length=1024)
    """Only for these; for all when empty."""


class MechanismSpec(Frozen):
    """Settings of a mechanism on the nodes that it selects."""

    use: str = Field(max_length=63)
    options: dict[str, object] = Field(default_factory=dict, max_length=64)
    enabled: bool = True
    layers: tuple[Layer, ...] = Field(default=(), max_length=4)
    labels: tuple[LabelRequirement, ...] = Field(default=(), max_length=32)


class PluginStatus(Frozen):
    """How the plugin fares."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    strikes: int = 0
    """Failures counted against it; at three it is fenced and the built-in decides."""


class Policy(Frozen):
    """An enabled policy plugin."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Policy"] = "Policy"
    metadata: Metadata
    spec: PolicySpec
    status: PluginStatus | None = None


class Mechanism(Frozen):
    """An enabled mechanism plugin."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Mechanism"] = "Mechanism"
    metadata: Metadata
    spec: MechanismSpec
    status: PluginStatus | None = None

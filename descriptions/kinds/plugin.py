"""The Policy and Mechanism kinds: an enabled plugin with its options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .meta import API_VERSION, Condition, Frozen, LabelRequirement, Layer, Metadata, Name, PluginName, PluginUse


class PolicySpec(PluginUse):
    """A policy that decides beside those that applications name."""

    enabled: bool = True
    """False keeps the description and leaves the policy out."""
    applications: tuple[Name, ...] = Field(default=(), max_length=1024)
    """Only for these; for all when empty."""


class MechanismSpec(Frozen):
    """Settings of a mechanism on the nodes that it selects."""

    use: PluginName
    """Name under which the mechanism is registered."""
    options: dict[str, object] = Field(default_factory=dict, max_length=64)
    """Checked against the fields of the mechanism's dataclass."""
    enabled: bool = True
    """False turns it off on the selected nodes."""
    layers: tuple[Layer, ...] = Field(default=(), max_length=4)
    """Only nodes of these layers; all when empty."""
    labels: tuple[LabelRequirement, ...] = Field(default=(), max_length=32)
    """Only nodes whose labels fulfil this."""


class PluginStatus(Frozen):
    """How the plugin fares."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""
    strikes: int = 0
    """Failures counted against it; at three it is fenced and the built-in decides."""


class Policy(Frozen):
    """An enabled policy plugin."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Policy"] = "Policy"
    """Says that this is a Policy."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: PolicySpec
    """What is wanted."""
    status: PluginStatus | None = None
    """What is; written by the control plane alone."""


class Mechanism(Frozen):
    """An enabled mechanism plugin."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Mechanism"] = "Mechanism"
    """Says that this is a Mechanism."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: MechanismSpec
    """What is wanted."""
    status: PluginStatus | None = None
    """What is; written by the control plane alone."""

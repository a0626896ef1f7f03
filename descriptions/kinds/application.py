"""The Application kind: components, how each runs, where it may stand and what it must achieve."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..quantities import Bandwidth, Duration
from .meta import (
    API_VERSION,
    Condition,
    Fault,
    Frozen,
    LabelRequirement,
    Layer,
    Metadata,
    Name,
    PluginUse,
    Relation,
    repeated,
)
from .running import (
    AcceleratorRequest,
    ContainerRun,
    InferenceRun,
    Port,
    ProcessRun,
    Readiness,
    Resources,
    RestartPolicy,
    SensorRequest,
)

__all__ = [
    "AcceleratorRequest", "Affinity", "Application", "ApplicationSpec", "ApplicationStatus", "Component",
    "ContainerRun", "Disconnect", "InferenceRun", "Interaction", "OnReturn", "Placement", "Port", "ProcessRun",
    "QosTarget", "Readiness", "ReplicaStatus", "Resources", "RestartPolicy", "Scaling", "ScalingSignal",
    "SensorRequest", "Spread", "Topology", "UpdateStrategy",
]  # fmt: skip


class Topology(StrEnum):
    """The unit over which affinity and spread count."""

    NODE = "node"
    CLUSTER = "cluster"
    DATACENTER = "datacenter"
    LAYER = "layer"


class Affinity(Frozen):
    """Stand together with, or apart from, the replicas of a component."""

    component: Name
    """Of the same application."""
    topology: Topology = Topology.NODE
    """What counts as together."""
    required: bool = True
    """False makes it a preference."""


class Spread(Frozen):
    """Keep the numbers of replicas in the domains of a topology close to each other."""

    topology: Topology = Topology.NODE
    """What the numbers are counted over."""
    max_skew: int = Field(default=1, ge=1, le=1000)
    """Largest difference between the fullest and the emptiest."""
    required: bool = False
    """False makes it a preference."""


class Placement(Frozen):
    """Where replicas may stand."""

    layers: tuple[Layer, ...] = Field(default=(), max_length=4)
    """Any layer when empty."""
    nodes: tuple[Name, ...] = Field(default=(), max_length=1024)
    """Any node when empty."""
    labels: tuple[LabelRequirement, ...] = Field(default=(), max_length=32)
    """What the node's labels must fulfil."""
    affinity: tuple[Affinity, ...] = Field(default=(), max_length=16)
    """Components to stand together with."""
    anti_affinity: tuple[Affinity, ...] = Field(default=(), max_length=16)
    """Components to stand apart from; the component itself keeps its replicas apart."""
    spread: tuple[Spread, ...] = Field(default=(), max_length=4)
    """Even numbers over nodes, clusters, sites or layers."""
    colocate: tuple[Name, ...] = Field(default=(), max_length=16)
    """Components of the same application that must share a node with each replica."""


class QosTarget(Frozen):
    """A measured value that the component must keep."""

    metric: str = Field(min_length=1, max_length=255)
    """Name of a telemetry metric, such as `shoal.model.latency`."""
    statistic: Literal["last", "mean", "rate", "p50", "p95", "p99", "min", "max"] = "mean"
    """Of the samples in the window."""
    relation: Relation = Relation.LOWER_OR_EQUAL
    """How the measured value must stand to the target."""
    target: float
    """In the metric's own unit."""
    window: Duration = 30.0
    """How far back samples count."""


class ScalingSignal(Frozen):
    """What replica count follows: each replica should carry `target` of it."""

    metric: str = Field(min_length=1, max_length=255)
    """`shoal.model.requests` (rate), `shoal.model.queue`, `system.cpu.utilization`, or any other metric."""
    statistic: Literal["last", "mean", "rate", "p50", "p95", "p99", "max"] = "mean"
    """Of the samples in the window."""
    target: float = Field(gt=0)
    """What each replica should carry, in the metric's own unit."""
    window: Duration = 30.0
    """How far back samples count."""


class Scaling(Frozen):
    """Number of replicas by a signal, between two bounds."""

    min: int = Field(default=1, ge=0, le=10_000)
    """Fewest replicas; with 0 the first request waits for a start."""
    max: int = Field(ge=1, le=10_000)
    """Most replicas."""
    signal: ScalingSignal
    """What the number follows."""
    cooldown: Duration = 60.0
    """At least this long between two changes."""
    tolerance: float = Field(default=0.1, ge=0, le=1)
    """No change while the signal is within this share of its target (hysteresis)."""

    def faults(self) -> Iterator[Fault]:
        if self.min > self.max:
            yield Fault(f"min {self.min} is over max {self.max}", ("min",), f"at most {self.max}")


class Interaction(Frozen):
    """Traffic to another component of the application, with what it needs of the network."""

    to: Name
    """A component of the same application."""
    latency: Duration | None = None
    """Longest acceptable round trip between the nodes."""
    bandwidth: Bandwidth | None = None
    """Least acceptable, bits a second."""
    required: bool = True
    """False makes the targets a preference."""


class OnReturn(StrEnum):
    """Which replica stays when a lost node comes back and a replacement runs elsewhere."""

    KEEP_ORIGINAL = "keepOriginal"
    KEEP_REPLACEMENT = "keepReplacement"
    BEST_SCORE = "bestScore"


class Disconnect(Frozen):
    """What happens when the node of a replica is lost and when it returns."""

    replace_after: Duration | Literal["never"] | None = None
    """Wait after the node is declared lost; the Slice's value when left out."""
    on_return: OnReturn = OnReturn.KEEP_REPLACEMENT
    """Which replica stays when the node comes back."""


class UpdateStrategy(Frozen):
    """How replicas change to a new version of the component; make before break unless recreated."""

    type: Literal["rolling", "recreate"] = "rolling"
    """`rolling` starts the new replica first, `recreate` stops the old one first."""
    max_surge: int = Field(default=1, ge=1, le=1000)
    """How many replicas beyond the wanted number a rolling update may start at once."""
    ready_timeout: Duration = 120.0
    """A new replica that is not ready by then ends the rollout and is taken back."""


class Component(Frozen):
    """One part of an application; runs as exactly one of `inference`, `process` or `container`."""

    name: Name
    """Unique within the application."""
    inference: InferenceRun | None = None
    """Serve a model."""
    process: ProcessRun | None = None
    """Run a program."""
    container: ContainerRun | None = None
    """Run a container."""
    replicas: int = Field(default=1, ge=0, le=10_000)
    """Ignored when `scaling` is given."""
    scaling: Scaling | None = None
    """Number of replicas by a signal instead."""
    resources: Resources = Resources()
    """What one replica reserves."""
    placement: Placement = Placement()
    """Where replicas may stand."""
    sensors: tuple[SensorRequest, ...] = Field(default=(), max_length=16)
    """Sensors that the node must have."""
    accelerators: tuple[AcceleratorRequest, ...] = Field(default=(), max_length=16)
    """Accelerators that one replica occupies."""
    qos: tuple[QosTarget, ...] = Field(default=(), max_length=16)
    """Measured values that it must keep."""
    interactions: tuple[Interaction, ...] = Field(default=(), max_length=64)
    """Traffic to other components."""
    disconnect: Disconnect = Disconnect()
    """What happens when a node is lost and when it returns."""
    single_instance: bool = False
    """At most one replica runs at any instant, also during faults."""
    permitted_actions: tuple[Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-zA-Z0-9.-]{0,62})$")], ...] = (
        Field(default=("*",), max_length=64)
    )
    """What adaptation may do: verbs of mechanisms and `move`, `scale`, `update`; `*` is all, empty is none."""
    update_strategy: UpdateStrategy = UpdateStrategy()
    """How replicas change to a new version."""
    secrets: tuple[Name, ...] = Field(default=(), max_length=16)
    """Names of Secrets whose values it gets."""

    @property
    def runs(self) -> InferenceRun | ProcessRun | ContainerRun:
        """What it runs as."""
        return next(run for run in (self.inference, self.process, self.container) if run is not None)

    @property
    def replicas_max(self) -> int:
        """Most replicas that may be wanted of it."""
        return self.scaling.max if self.scaling else self.replicas

    def faults(self) -> Iterator[Fault]:
        ways = [way for way in ("inference", "process", "container") if getattr(self, way) is not None]
        if len(ways) != 1:
            told = f"{' and '.join(ways)} together" if ways else "nothing to run"
            yield Fault(told, (ways[1],) if ways else (), "exactly one of inference, process, container")
        if self.single_instance and self.replicas_max > 1:
            at = ("scaling", "max") if self.scaling else ("replicas",)
            yield Fault(f"{self.replicas_max} replicas of a single instance", at, "at most 1, as singleInstance says")
        yield from repeated((one.to for one in self.interactions), ("interactions",), "to")

    def mentions(self) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        """Every component that it names, and where."""
        for index, affinity in enumerate(self.placement.affinity):
            yield affinity.component, ("placement", "affinity", index, "component")
        for index, affinity in enumerate(self.placement.anti_affinity):
            yield affinity.component, ("placement", "antiAffinity", index, "component")
        for index, name in enumerate(self.placement.colocate):
            yield name, ("placement", "colocate", index)
        for index, interaction in enumerate(self.interactions):
            yield interaction.to, ("interactions", index, "to")


class ApplicationSpec(Frozen):
    """What the user wants to run."""

    components: tuple[Component, ...] = Field(min_length=1, max_length=10_000)
    """Its parts."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Higher is placed first when not all fits."""
    policies: tuple[PluginUse, ...] = Field(default=(), max_length=16)
    """Policies that decide for this application; the Slice's when empty."""

    def faults(self) -> Iterator[Fault]:
        names = frozenset(component.name for component in self.components)
        yield from repeated((component.name for component in self.components), ("components",), "name")
        for index, component in enumerate(self.components):
            for name, at in component.mentions():
                yield from _unfit_mention(component, name, ("components", index, *at), names)


def _unfit_mention(
    component: Component, name: str, at: tuple[str | int, ...], names: frozenset[str]
) -> Iterator[Fault]:
    """What is wrong with `component` naming `name`; only anti-affinity may mean itself."""
    if name not in names:
        yield Fault(f"no component {name!r} in this application", at, "the name of another component", name, names)
    elif name == component.name and "antiAffinity" not in at:
        yield Fault("a component with itself", at, "the name of another component")
    elif "colocate" in at and any(
        apart.required and apart.component == name and apart.topology is Topology.NODE
        for apart in component.placement.anti_affinity
    ):
        yield Fault(f"{name!r} is to share the node and to stand apart", at, "either colocate or antiAffinity")


class ReplicaStatus(Frozen):
    """One replica as the control plane knows it."""

    id: str = Field(max_length=200)
    """`<application>.<component>.<n>`."""
    component: Name
    """The component that it is one of."""
    node: str = Field(max_length=63)
    """Name of its node."""
    phase: Literal["starting", "ready", "notReady", "failed", "stopping", "unknown"]
    """How it fares; `unknown` while its node is not heard."""
    message: str = Field(default="", max_length=4096)
    """Why, where something is wrong."""
    decision: str = Field(default="", max_length=64)
    """Id of the decision that placed it; `shoal why` explains it."""
    url: str = Field(default="", max_length=2048)
    """Where it answers."""


class ApplicationStatus(Frozen):
    """What runs of it."""

    observed_generation: int = 0
    """Newest generation of the spec that was planned."""
    desired: int = 0
    """Replicas wanted."""
    ready: int = 0
    """Replicas that serve."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""
    replicas: tuple[ReplicaStatus, ...] = Field(default=(), max_length=100_000)
    """Every replica that is placed."""


class Application(Frozen):
    """A set of components that belong together."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Application"] = "Application"
    """Says that this is an Application."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: ApplicationSpec
    """What is wanted."""
    status: ApplicationStatus | None = None
    """What is; written by the control plane alone."""

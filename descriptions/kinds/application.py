"""The Application kind: components, how each runs, where it may stand and what it must achieve."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..quantities import Bandwidth, Bytes, Cores, Duration
from .meta import API_VERSION, Condition, Frozen, LabelRequirement, Layer, Metadata, Name, PluginUse, Relation

Argument = Annotated[str, StringConstraints(max_length=4096)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Resources(Frozen):
    """What one replica reserves on its node; placement never reserves more than a node has."""

    cpu: Cores = 0.0
    """Cores, also the CPU limit of a process."""
    memory: Bytes = 0
    """Bytes, also the memory limit of a process."""
    disk: Bytes = 0


class AcceleratorRequest(Frozen):
    """Accelerators that one replica occupies."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
    """`gpu`, `npu`, `tpu`, `fpga`, …"""
    model: str | None = Field(default=None, max_length=63)
    count: int = Field(default=1, ge=1, le=64)
    memory: Bytes = 0
    """Memory that each must have."""


class SensorRequest(Frozen):
    """A sensor that the node must have."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
    model: str | None = Field(default=None, max_length=63)
    count: int = Field(default=1, ge=1, le=64)


class InferenceRun(Frozen):
    """Serve a model on the node's inference gateway."""

    model: Name
    """Name of a Model object."""
    plugin: str | None = Field(default=None, max_length=63)
    """Inference plugin; by default the one for the model's format."""
    device: str = Field(default="cpu", max_length=63)
    options: dict[str, object] = Field(default_factory=dict, max_length=64)
    """Options of the inference plugin."""


class RestartPolicy(StrEnum):
    """When a process that ended is started again."""

    ALWAYS = "always"
    ON_FAILURE = "onFailure"
    NEVER = "never"


class Port(Frozen):
    """A TCP port that a process listens on."""

    name: Name
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes any free port; the process finds it in `SHOAL_PORT_<NAME>`."""


class Readiness(Frozen):
    """When a process counts as ready; without it, as soon as it runs."""

    port: Name
    """Name of one of the component's ports."""
    path: str | None = Field(default=None, max_length=1024, pattern=r"^/")
    """HTTP path that must answer 2xx; without it an accepted connection is enough."""
    timeout: Duration = 60.0
    """How long a start may take."""


class ProcessRun(Frozen):
    """Run a program that the node's operator allowed, by argument vector, without a shell."""

    command: tuple[Argument, ...] = Field(min_length=1, max_length=256)
    """The first is a program name or absolute path that the agent's configuration allows."""
    env: dict[EnvName, Argument] = Field(default_factory=dict, max_length=128)
    restart: RestartPolicy = RestartPolicy.ALWAYS
    ports: tuple[Port, ...] = Field(default=(), max_length=16)
    readiness: Readiness | None = None
    stop_grace: Duration = 5.0
    """Between SIGTERM and SIGKILL."""
    open_files: int = Field(default=256, ge=16, le=65536)


class ContainerRun(Frozen):
    """Run a container image (refused with the reason until a container mechanism exists)."""

    image: str = Field(min_length=1, max_length=512)
    command: tuple[Argument, ...] = Field(default=(), max_length=256)
    env: dict[EnvName, Argument] = Field(default_factory=dict, max_length=128)
    ports: tuple[Port, ...] = Field(default=(), max_length=16)


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
    required: bool = True
    """False makes it a preference."""


class Spread(Frozen):
    """Keep the numbers of replicas in the domains of a topology close to each other."""

    topology: Topology = Topology.NODE
    max_skew: int = Field(default=1, ge=1, le=1000)
    required: bool = False


class Placement(Frozen):
    """Where replicas may stand."""

    layers: tuple[Layer, ...] = Field(default=(), max_length=4)
    """Any layer when empty."""
    nodes: tuple[Name, ...] = Field(default=(), max_length=1024)
    """Any node when empty."""
    labels: tuple[LabelRequirement, ...] = Field(default=(), max_length=32)
    affinity: tuple[Affinity, ...] = Field(default=(), max_length=16)
    anti_affinity: tuple[Affinity, ...] = Field(default=(), max_length=16)
    spread: tuple[Spread, ...] = Field(default=(), max_length=4)
    colocate: tuple[Name, ...] = Field(default=(), max_length=16)
    """Components of the same application that must share a node with each replica."""


class QosTarget(Frozen):
    """A measured value that the component must keep."""

    metric: str = Field(min_length=1, max_length=255)
    """Name of a telemetry metric, such as `shoal.model.latency`."""
    statistic: Literal["last", "mean", "rate", "p50", "p95", "p99", "min", "max"] = "mean"
    relation: Relation = Relation.LOWER_OR_EQUAL
    target: float
    """In the metric's own unit."""
    window: Duration = 30.0


class ScalingSignal(Frozen):
    """What replica count follows: each replica should carry `target` of it."""

    metric: str = Field(min_length=1, max_length=255)
    """`shoal.model.requests` (rate), `shoal.model.queue`, `system.cpu.utilization`, or any other metric."""
    statistic: Literal["last", "mean", "rate", "p50", "p95", "p99", "max"] = "mean"
    target: float = Field(gt=0)
    window: Duration = 30.0


class Scaling(Frozen):
    """Number of replicas by a signal, between two bounds."""

    min: int = Field(default=1, ge=0, le=10_000)
    max: int = Field(ge=1, le=10_000)
    signal: ScalingSignal
    cooldown: Duration = 60.0
    """At least this long between two changes."""
    tolerance: float = Field(default=0.1, ge=0, le=1)
    """No change while the signal is within this share of its target (hysteresis)."""


class Interaction(Frozen):
    """Traffic to another component of the application, with what it needs of the network."""

    to: Name
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


class UpdateStrategy(Frozen):
    """How replicas change to a new version of the component; make before break unless recreated."""

    type: Literal["rolling", "recreate"] = "rolling"
    max_surge: int = Field(default=1, ge=1, le=1000)
    ready_timeout: Duration = 120.0
    """A new replica that is not ready by then ends the rollout and is taken back."""


class Component(Frozen):
    """One part of an application; runs as exactly one of `inference`, `process` or `container`."""

    name: Name
    inference: InferenceRun | None = None
    process: ProcessRun | None = None
    container: ContainerRun | None = None
    replicas: int = Field(default=1, ge=0, le=10_000)
    """Ignored when `scaling` is given."""
    scaling: Scaling | None = None
    resources: Resources = Resources()
    placement: Placement = Placement()
    sensors: tuple[SensorRequest, ...] = Field(default=(), max_length=16)
    accelerators: tuple[AcceleratorRequest, ...] = Field(default=(), max_length=16)
    qos: tuple[QosTarget, ...] = Field(default=(), max_length=16)
    interactions: tuple[Interaction, ...] = Field(default=(), max_length=64)
    disconnect: Disconnect = Disconnect()
    single_instance: bool = False
    """At most one replica runs at any instant, also during faults."""
    permitted_actions: tuple[Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-zA-Z0-9.-]{0,62})$")], ...] = (
        Field(default=("*",), max_length=64)
    )
    """What adaptation may do: verbs of mechanisms and `move`, `scale`, `update`; `*` is all, empty is none."""
    update_strategy: UpdateStrategy = UpdateStrategy()
    secrets: tuple[Name, ...] = Field(default=(), max_length=16)


class ApplicationSpec(Frozen):
    """What the user wants to run."""

    components: tuple[Component, ...] = Field(min_length=1, max_length=10_000)
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Higher is placed first when not all fits."""
    policies: tuple[PluginUse, ...] = Field(default=(), max_length=16)
    """Policies that decide for this application; the Slice's when empty."""


class ReplicaStatus(Frozen):
    """One replica as the control plane knows it."""

    id: str = Field(max_length=200)
    component: Name
    node: str = Field(max_length=63)
    phase: Literal["starting", "ready", "notReady", "failed", "stopping", "unknown"]
    message: str = Field(default="", max_length=4096)
    decision: str = Field(default="", max_length=64)
    """Id of the decision that placed it; `shoal why` explains it."""
    url: str = Field(default="", max_length=2048)


class ApplicationStatus(Frozen):
    """What runs of it."""

    observed_generation: int = 0
    desired: int = 0
    ready: int = 0
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    replicas: tuple[ReplicaStatus, ...] = Field(default=(), max_length=100_000)


class Application(Frozen):
    """A set of components that belong together."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Application"] = "Application"
    metadata: Metadata
    spec: ApplicationSpec
    status: ApplicationStatus | None = None

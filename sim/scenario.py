"""Reads a scenario: a fleet by layers, applications, load, faults and changes over virtual time.

`scenario.yaml` is read by the conventions of all options (camelCase, units, unknown keys are errors with their place);
applications, models and slices are the same YAML files that `shoal apply` takes. `run.py` turns a `Scenario` into a
`World`. `docs/simulation.md` lists the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..descriptions.errors import DescriptionError
from ..descriptions.kinds import Application, Kind, Slice
from ..descriptions.kinds.meta import Metadata
from ..descriptions.load import load_paths
from ..descriptions.options import option, read_options
from ..descriptions.yaml import load_yaml

SCENARIO_BYTES_MAX = 1024 * 1024
NODES_MAX = 10_000

Layer = Literal["cloud", "edge-infrastructure", "edge", "far-edge"]
FaultKind = Literal[
    "partition", "degrade", "powerCut", "agentKill", "agentPause", "clockJump", "clockRate", "diskRot", "replicaCrash",
    "brokerCrash", "controlPlaneKill", "controlPlanePause", "storeRestore", "impostor",
]  # fmt: skip


@dataclass(frozen=True)
class NetworkOptions:
    """How good a node's way to the broker is; each direction on its own dice."""

    delay_min_s: float = option(0.002, unit="duration", key="delayMin")
    delay_max_s: float = option(0.02, unit="duration", key="delayMax")
    loss: float = option(0.0, ge=0, lt=1)
    """Share of packets lost: QoS 0 is gone, the rest comes after a retransmission."""
    duplicate: float = option(0.0, ge=0, lt=1)
    """Share of QoS 1 publications that come twice."""
    reorder: float = option(0.0, ge=0, lt=1)
    """Share of publications that come out of turn."""


@dataclass(frozen=True)
class GroupOptions:
    """Nodes of one kind; named `<name>-1`, `<name>-2`, …"""

    name: str
    count: int = option(1, ge=1, le=NODES_MAX)
    layer: Layer = "edge"
    datacenter: str = ""
    cpu: float = option(4.0, unit="cores")
    memory: int = option(8 << 30, unit="bytes")
    labels: dict[str, str] = field(default_factory=dict)
    network: NetworkOptions = NetworkOptions()
    clock_drift: float = option(0.0, ge=0, le=0.5)
    """Each clock runs faster or slower by up to this share."""
    bad_disk: float = option(0.0, ge=0, le=1)
    """Probability that a power cut tears a write that was not synced."""
    boot_s: float = option(20.0, unit="duration", key="boot")
    """From power to a running agent."""


@dataclass(frozen=True)
class PointOptions:
    """Load at a moment; in between it is interpolated."""

    at_s: float = option(unit="duration", key="at")
    rate: float = option(ge=0)
    """Requests a second, over all replicas."""


@dataclass(frozen=True)
class LoadOptions:
    """Requests to one component."""

    application: str
    component: str
    points: tuple[PointOptions, ...] = ()
    service_time_s: float = option(0.02, unit="duration", key="serviceTime", gt=0)
    """One replica needs this long for one request and works on one at a time."""


@dataclass(frozen=True)
class ReplicaOptions:
    """How replicas behave on the simulated nodes."""

    start_min_s: float = option(1.0, unit="duration", key="startMin")
    start_max_s: float = option(5.0, unit="duration", key="startMax")
    fetch_s: float = option(3.0, unit="duration", key="fetch")
    """To get a model that the node does not have yet."""
    crashes_per_hour: float = option(0.0, ge=0)
    """Of each replica."""


@dataclass(frozen=True)
class TargetOptions:
    """Which nodes a fault hits: those that match all that is said, `count` of them by the seed."""

    nodes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    datacenters: tuple[str, ...] = ()
    count: int = option(0, ge=0)
    """0 means all that match."""


@dataclass(frozen=True)
class FaultOptions:
    """Something that goes wrong, once or at a rate, for a while."""

    kind: FaultKind
    at_s: float | None = option(None, unit="duration", key="at")
    per_hour: float = option(0.0, ge=0)
    """In place of `at`: this often on average, at times by the seed."""
    for_s: float = option(60.0, unit="duration", key="for")
    targets: TargetOptions = TargetOptions(count=1)
    direction: Literal["both", "up", "down"] = "both"
    """Of a partition: `up` is towards the broker."""
    network: NetworkOptions = NetworkOptions()
    """Of a degradation: what the way is like meanwhile."""
    store: Literal["kept", "rolledBack", "wiped"] = "kept"
    """What a broker comes back with."""
    by_s: float = option(0.0, key="bySeconds")
    """Of a clock jump: seconds, forwards or (negative) backwards."""
    rate: float = option(1.0, gt=0.5, lt=2.0)
    """Of a clock: its seconds in a true one."""


@dataclass(frozen=True)
class ChangeOptions:
    """What an operator does."""

    at_s: float = option(unit="duration", key="at")
    apply: tuple[Path, ...] = ()
    """Description files, beside the scenario."""
    delete: tuple[str, ...] = ()
    """`Kind/name`."""
    cordon: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    uncordon: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChaosOptions:
    """Random faults on top: each seed draws its own subset of kinds and its own rates (swarm testing)."""

    per_hour: float = option(0.0, ge=0, le=10_000)
    """Over the whole fleet; 0 is none."""
    kinds: tuple[FaultKind, ...] = ()
    """All when empty."""
    longest_s: float = option(180.0, unit="duration", key="longest")


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

    name: str = "scenario"
    duration_s: float = option(600.0, unit="duration", key="duration", gt=0)
    settle_s: float = option(600.0, unit="duration", key="settle", ge=0)
    """After that all faults are healed and everything has to come right within this time."""
    fleet: tuple[GroupOptions, ...] = ()
    descriptions: tuple[Path, ...] = ()
    """Native kinds: applications, models, a slice; relative to the scenario."""
    replicas: ReplicaOptions = ReplicaOptions()
    load: tuple[LoadOptions, ...] = ()
    faults: tuple[FaultOptions, ...] = ()
    changes: tuple[ChangeOptions, ...] = ()
    chaos: ChaosOptions = ChaosOptions()
    control_planes: int = option(1, ge=1, le=3)
    """Processes that take turns at leading."""
    control_plane_clock_drift: float = option(0.0, ge=0, le=0.5)
    keep_sessions: bool = False
    """Agents ask the broker to keep their sessions: what it queued meanwhile, however old, comes after a reconnect."""
    broker_save_s: float = option(1800.0, unit="duration", key="brokerSave")
    """How often the broker writes its store."""


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario with the descriptions that it names."""

    scenario: Scenario
    kinds: tuple[Kind, ...]
    changes: tuple[tuple[Kind, ...], ...]
    """Of each change, what it applies."""

    @property
    def slice(self) -> Slice:
        """The slice described, or one with default settings."""
        found = next((kind for kind in self.kinds if isinstance(kind, Slice)), None)
        return found or Slice(metadata=Metadata(name="sim"))

    @property
    def applications(self) -> tuple[Application, ...]:
        """Applications from the start."""
        return tuple(kind for kind in self.kinds if isinstance(kind, Application))


def load_scenario(path: Path) -> LoadedScenario:
    """Read `scenario.yaml` and the descriptions that it names; `DescriptionError` says where and what is wrong."""
    data = path.read_bytes()
    if len(data) > SCENARIO_BYTES_MAX:
        raise DescriptionError(f"{len(data)} bytes, over the limit of {SCENARIO_BYTES_MAX}", file=str(path))
    documents = load_yaml(data, file=str(path))
    if len(documents) != 1:
        raise DescriptionError(f"{len(documents)} documents", file=str(path), expected="one scenario")
    scenario = read_options(Scenario, documents[0])
    _check(scenario, str(path))
    kinds = _kinds(path.parent, scenario.descriptions)
    return LoadedScenario(scenario, kinds, tuple(_kinds(path.parent, change.apply) for change in scenario.changes))


def _kinds(folder: Path, paths: tuple[Path, ...]) -> tuple[Kind, ...]:
    return tuple(described.kind for described in load_paths([folder / path for path in paths])) if paths else ()


def _check(scenario: Scenario, file: str) -> None:
    """What types cannot say."""
    names = [group.name for group in scenario.fleet]
    if not names:
        raise DescriptionError("no nodes", file=file, path="fleet", expected="at least one group")
    if len(set(names)) < len(names):
        raise DescriptionError("two groups have one name", file=file, path="fleet")
    if sum(group.count for group in scenario.fleet) > NODES_MAX:
        raise DescriptionError(f"more than {NODES_MAX} nodes", file=file, path="fleet")
    for index, fault in enumerate(scenario.faults):
        if (fault.at_s is None) == (fault.per_hour == 0):
            expected = "either `at` or `perHour`"
            raise DescriptionError("when does it happen?", file=file, path=f"faults[{index}]", expected=expected)
    for index, load in enumerate(scenario.load):
        times = [point.at_s for point in load.points]
        if not times or times != sorted(times):
            raise DescriptionError("points are not in order of time", file=file, path=f"load[{index}].points")

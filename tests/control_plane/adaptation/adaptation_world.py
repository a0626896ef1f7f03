"""A small slice to look at: descriptions, placements and readings as tables, for the tests of adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from shoal.control_plane.adaptation import Act, Adaptation, Effect, Explain, Looked, PolicyPlan
from shoal.control_plane.placement import Phase, Placement
from shoal.control_plane.planner.snapshot import NodeState, Reading, Snapshot, Statistic
from shoal.descriptions.kinds import Application, Node, Slice
from shoal.descriptions.kinds.application import ApplicationSpec, Component, QosTarget, Scaling, ScalingSignal
from shoal.descriptions.kinds.meta import Metadata, Relation
from shoal.descriptions.kinds.node import NodeSpec
from shoal.descriptions.kinds.slice import Adaptation as Brakes
from shoal.descriptions.kinds.slice import SliceSpec
from shoal.descriptions.messages.reported import MechanismReport

WALL = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ("shop", "web")


@dataclass(frozen=True)
class Readings:
    """What was measured: (metric, node name or empty) → value and age."""

    values: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        found = self.values.get((metric, node))
        return None if found is None else Reading(found[0], found[1], 10)


def readings(age_s: float = 1.0, **values: float) -> Readings:
    """Component-wide readings; the metrics are called `load` and `latency`."""
    return Readings({(metric, ""): (value, age_s) for metric, value in values.items()})


def scaling(minimum: int = 1, maximum: int = 10, *, target: float = 10.0, cooldown: float = 60.0) -> Scaling:
    signal = ScalingSignal(metric="load", statistic="rate", target=target)
    return Scaling(min=minimum, max=maximum, signal=signal, cooldown=cooldown)


def latency(target: float = 0.02, relation: Relation = Relation.LOWER_OR_EQUAL) -> QosTarget:
    return QosTarget(metric="latency", statistic="p95", relation=relation, target=target, window=30)


def component(
    *,
    scale: Scaling | None = None,
    qos: tuple[QosTarget, ...] = (),
    permitted: tuple[str, ...] = ("*",),
    name: str = "web",
    single: bool = False,
) -> Component:
    return Component.model_validate(
        {
            "name": name,
            "process": {"command": ["run"]},
            "scaling": scale,
            "qos": qos,
            "permitted_actions": permitted,
            "single_instance": single,
        }
    )


def application(*components: Component, name: str = "shop", priority: int = 0) -> Application:
    return Application(metadata=Metadata(name=name), spec=ApplicationSpec(components=components, priority=priority))


def placement(
    ordinal: int,
    node: str = "",
    phase: Phase = "ready",
    *,
    application: str = KEY[0],
    cause: str = "initial",
    wanted: Literal["run", "drain", "stop"] = "run",
    replaces: str = "",
) -> Placement:
    """Replica `<application>.web.<ordinal>`; by default each on a node of its own."""
    name = node or f"n{ordinal}"
    return Placement(
        f"{application}.{KEY[1]}.{ordinal}",
        application,
        KEY[1],
        ordinal,
        f"uid-{name}",
        name,
        revision=1,
        phase=phase,
        cause=cause,
        wanted=wanted,
        replaces=replaces,
    )


def ready(count: int) -> tuple[Placement, ...]:
    return tuple(placement(ordinal) for ordinal in range(1, count + 1))


def node(name: str, *, mechanisms: tuple[MechanismReport, ...] = (), cordoned: bool = False) -> NodeState:
    described = Node(metadata=Metadata(name=name), spec=NodeSpec(cordoned=cordoned))
    return NodeState(described, f"uid-{name}", "ready", mechanisms)


def snapshot(
    *applications: Application,
    placements: tuple[Placement, ...] = (),
    metrics: Readings | None = None,
    nodes: tuple[NodeState, ...] | None = None,
    version: int = 1,
    blast_radius: float = 1.0,
    cooldown: float = 60.0,
) -> Snapshot:
    brakes = Brakes(blast_radius=blast_radius, cooldown=cooldown)
    if nodes is None:
        nodes = tuple(node(name) for name in ["n1", "n2", "n3", "n4", "n5"])
    return Snapshot(
        version=version,
        now_s=0.0,
        wall=WALL,
        slice=Slice(metadata=Metadata(name="s"), spec=SliceSpec(adaptation=brakes)),
        nodes=nodes,
        applications=applications,
        placements=placements,
        metrics=metrics or Readings(),
    )


def look(core: Adaptation, seen: Snapshot, now_s: float, *plans: PolicyPlan) -> list[Effect]:
    return core.handle(Looked(f"look-{now_s:g}", seen, plans), now_s)


def acts(effects: list[Effect]) -> list[Act]:
    return [effect for effect in effects if isinstance(effect, Act)]


def explained(effects: list[Effect]) -> list[tuple[str, str, str]]:
    """(source, result, rule) of every record that came with no action."""
    return [
        (effect.record.source, effect.record.result, effect.record.rule)
        for effect in effects
        if isinstance(effect, Explain)
    ]


def reasons(effects: list[Effect]) -> str:
    return "\n".join(effect.record.reason for effect in effects if isinstance(effect, Explain | Act))

"""Small scenarios, built in code: quick enough for many seeds."""

from __future__ import annotations

from typing import Any

from shoal.descriptions.kinds import Application, Kind, Slice
from shoal.descriptions.kinds.application import ApplicationSpec, Component
from shoal.descriptions.kinds.meta import Metadata
from shoal.descriptions.kinds.slice import SliceSpec
from shoal.sim.scenario import (
    ChangeOptions,
    ChaosOptions,
    FaultOptions,
    GroupOptions,
    LoadedScenario,
    LoadOptions,
    PointOptions,
    ReplicaOptions,
    Scenario,
    TargetOptions,
)
from shoal.sim.world import World

QUICK = ReplicaOptions(start_min_s=0.5, start_max_s=2.0, fetch_s=1.0)
FLEET = (
    GroupOptions("cloud", 3, "cloud", cpu=8, clock_drift=0.02),
    GroupOptions("edge", 5, "edge", "site", cpu=2, memory=4 << 30, clock_drift=0.05, bad_disk=0.5),
)


def component(name: str, **more: Any) -> Component:
    """A process component that is replaced ten seconds after its node was lost."""
    described = {
        "name": name,
        "process": {"command": ["run"]},
        "resources": {"cpu": 0.5, "memory": 1 << 28},
        "disconnect": {"replace_after": 10.0},
    }
    return Component.model_validate(described | more)


def application(*components: Component, name: str = "shop") -> Application:
    return Application(metadata=Metadata(name=name), spec=ApplicationSpec(components=components))


SCALED = {
    "scaling": {
        "min": 1,
        "max": 6,
        "signal": {"metric": "shoal.model.requests", "statistic": "rate", "target": 20, "window": 20},
        "cooldown": 20,
    }
}
SHOP = application(component("web", replicas=4), component("one", single_instance=True), component("api", **SCALED))
RUSH = LoadOptions(
    "shop", "api", (PointOptions(0.0, 10.0), PointOptions(100.0, 80.0), PointOptions(200.0, 5.0)), service_time_s=0.02
)


def scenario(
    *faults: FaultOptions,
    duration_s: float = 240.0,
    settle_s: float = 600.0,
    fleet: tuple[GroupOptions, ...] = FLEET,
    applications: tuple[Application, ...] = (SHOP,),
    changes: tuple[tuple[ChangeOptions, tuple[Application, ...]], ...] = (),
    chaos: ChaosOptions | None = None,
    load: tuple[LoadOptions, ...] = (),
    failover: dict[str, Any] | None = None,
    replicas: ReplicaOptions = QUICK,
    control_planes: int = 1,
    broker_save_s: float = 1800.0,
    keep_sessions: bool = False,
) -> LoadedScenario:
    described = Scenario(
        "small",
        duration_s,
        settle_s,
        fleet,
        replicas=replicas,
        load=load,
        faults=faults,
        changes=tuple(change for change, _ in changes),
        chaos=chaos or ChaosOptions(),
        control_planes=control_planes,
        broker_save_s=broker_save_s,
        keep_sessions=keep_sessions,
    )
    spec = SliceSpec.model_validate({"failover": failover or {}})
    kinds: tuple[Kind, ...] = (Slice(metadata=Metadata(name="small"), spec=spec), *applications)
    return LoadedScenario(described, kinds, tuple(applied for _, applied in changes))


def fault(kind: Any, at_s: float, for_s: float = 60.0, *nodes: str, **more: Any) -> FaultOptions:
    targets = more.pop("targets", TargetOptions(nodes=nodes))
    return FaultOptions(kind, at_s=at_s, for_s=for_s, targets=targets, **more)


def ended(loaded: LoadedScenario, seed: int) -> World:
    """A run to its end."""
    world = World(loaded, seed, keeps_facts=True)
    while not world.is_over:
        world.step()
    return world

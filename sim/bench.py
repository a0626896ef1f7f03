"""Measures the simulation: how many seconds of a slice of twenty nodes pass in a real one; `shoal bench sim`."""

from __future__ import annotations

import time

from ..descriptions.kinds import Application, Slice
from ..descriptions.kinds.application import ApplicationSpec, Component
from ..descriptions.kinds.meta import Metadata
from .benchmarks import Figure
from .scenario import GroupOptions, LoadedScenario, Scenario
from .world import World

NODES = 20
DURATION_S = 1800.0
ROUNDS = 3


def run() -> list[Figure]:
    """Simulated to real time at 20 nodes, and kernel steps a second; the best of three, for others use the machine."""
    ratios, steps = [], []
    for seed in range(1, ROUNDS + 1):
        world = World(quiet_day(NODES, DURATION_S), seed)
        begun_s = time.perf_counter()
        while not world.is_over:
            world.step()
        real_s = time.perf_counter() - begun_s
        assert world.violation is None, world.violation
        ratios.append(world.kernel.now_s / real_s)
        steps.append(world.kernel.steps / real_s)
    return [
        Figure("simulated to real time at 20 nodes", round(max(ratios)), "x", {">=": 1000}),
        Figure("steps", round(max(steps)), "1/s"),
    ]


def quiet_day(nodes: int, duration_s: float) -> LoadedScenario:
    """Two thirds edge, one third cloud; three replicas of each of four components; no faults, every invariant on."""
    cloud = nodes // 3
    fleet = (
        GroupOptions("cloud", cloud, "cloud", cpu=16),
        GroupOptions("edge", nodes - cloud, "edge", datacenter="site"),
    )
    components = tuple(
        Component.model_validate({"name": f"part-{number}", "process": {"command": ["run"]}, "replicas": 3})
        for number in range(1, 5)
    )
    application = Application(metadata=Metadata(name="work"), spec=ApplicationSpec(components=components))
    scenario = Scenario("bench", duration_s, 300.0, fleet)
    return LoadedScenario(scenario, (Slice(metadata=Metadata(name="bench")), application), ())

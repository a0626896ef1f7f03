"""Measures the simulation: how many seconds of a slice of twenty nodes pass in a real one; `shoal bench sim`."""

from __future__ import annotations

import time

from ..descriptions.kinds import Application, Slice
from ..descriptions.kinds.application import ApplicationSpec, Component
from ..descriptions.kinds.meta import Metadata
from .benchmarks import Figure
from .run import calm_collector
from .scenario import GroupOptions, LoadedScenario, Scenario
from .world import World

NODES = 20
DURATION_S = 1800.0
ROUNDS = 3


def run() -> list[Figure]:
    """Simulated to real time at 20 nodes, all invariants on; the best of three, for others use the machine."""
    ratios, cpu_ratios, steps = [], [], []
    for seed in range(1, ROUNDS + 1):
        world = World(quiet_day(NODES, DURATION_S), seed)
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        with calm_collector():
            while not world.is_over:
                world.step()
        real_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        assert world.violation is None, world.violation
        ratios.append(world.kernel.now_s / real_s)
        cpu_ratios.append(world.kernel.now_s / cpu_s)
        steps.append(world.kernel.steps / real_s)
    return [
        Figure("simulated to real time at 20 nodes", round(max(ratios)), "x", {">=": 1000}),
        Figure("simulated to processor time at 20 nodes", round(max(cpu_ratios)), "x"),
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

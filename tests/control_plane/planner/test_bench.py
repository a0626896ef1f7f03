"""The bench runs: every figure is a number of its unit, in a small slice."""

from __future__ import annotations

from shoal.control_plane.planner import bench
from shoal.control_plane.planner.skippy import skippy_placements_per_s


def test_every_figure_can_be_measured() -> None:
    assert bench.throughput(20, 5, 2) > 0
    assert bench.plugin_throughput(20, 3, 2) > 0
    assert bench.decision_ms(20, 20, 0.99) > 0
    assert bench.why_ms(20) > 0
    assert bench.first_sight_ms(20) > 0


def test_skippy_runs_beside_it() -> None:
    value = skippy_placements_per_s(20, 5)
    assert value is not None, "edgerun-skippy-core is a development dependency"
    assert value > 0

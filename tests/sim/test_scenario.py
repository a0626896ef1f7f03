"""Scenarios: the example loads; what is wrong in one is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import Application, Slice
from shoal.sim.scenario import SCENARIO_BYTES_MAX, load_scenario

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "03-sim" / "scenario.yaml"
GOOD = """
name: t
duration: 5m
fleet:
  - {name: edge, count: 2, layer: edge, cpu: 500m, memory: 1Gi, network: {delayMax: 50ms, loss: 0.1}}
faults:
  - {kind: partition, at: 1m, for: 30s, direction: up, targets: {layers: [edge]}}
  - {kind: powerCut, perHour: 2}
load:
  - {application: a, component: b, points: [{at: 0s, rate: 1}, {at: 1m, rate: 2}], serviceTime: 5ms}
"""


def load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    load_scenario(path)


def test_the_example() -> None:
    loaded = load_scenario(EXAMPLE)
    scenario = loaded.scenario
    assert (scenario.name, scenario.duration_s, scenario.settle_s) == ("harbour", 3600.0, 600.0)
    assert sum(group.count for group in scenario.fleet) == 20
    assert {group.layer for group in scenario.fleet} == {"cloud", "edge-infrastructure", "edge", "far-edge"}
    assert loaded.slice.metadata.name == "harbour"
    assert [one.metadata.name for one in loaded.applications] == ["cranes", "gates", "buoys"]
    assert [len(kinds) for kinds in loaded.changes] == [1, 0, 0]
    assert isinstance(loaded.changes[0][0], Application)
    assert scenario.fleet[0].network.delay_max_s == 0.04
    assert scenario.faults[-1].by_s == -31536000


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    load(tmp_path, "fleet: [{name: edge}]")
    path = tmp_path / "scenario.yaml"
    assert isinstance(load_scenario(path).slice, Slice)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(("duration: 5m", "duration: 5"), "has no unit", id="a duration without unit"),
        pytest.param(("duration: 5m", "durations: 5m"), "did you mean 'duration'?", id="unknown key"),
        pytest.param(("layer: edge", "layer: edg"), "fleet[0].layer", id="unknown layer"),
        pytest.param(("loss: 0.1", "loss: 1.5"), "fleet[0].network.loss", id="a rate over 1"),
        pytest.param(("kind: partition", "kind: partitoin"), "did you mean 'partition'?", id="unknown fault"),
        pytest.param(("at: 1m, for", "for"), "either `at` or `perHour`", id="a fault that never happens"),
        pytest.param(("perHour: 2", "perHour: 2, at: 3m"), "either `at` or `perHour`", id="a fault with two times"),
        pytest.param(("{at: 0s, rate: 1}, {at: 1m", "{at: 2m, rate: 1}, {at: 1m"), "not in order of time", id="load"),
        pytest.param(("count: 2", "count: 20000"), "fleet[0].count", id="too many nodes"),
        pytest.param(("- {name: edge", "- {name: edge}\n  - {name: edge"), "two groups have one name", id="twice"),
        pytest.param(("name: t", "name: t\nextra: &a 1"), "anchor", id="anchors"),
        pytest.param(("name: t", "name: t\n---\nname: u"), "expected one scenario", id="two documents"),
        pytest.param(("name: t", "name: t\ndescriptions: [nowhere.yaml]"), "nowhere.yaml", id="missing description"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(DescriptionError) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert told in "\n".join(str(one) for one in caught.value.all)
    assert "scenario.yaml" in str(caught.value) or "nowhere.yaml" in str(caught.value)


def test_a_fleet_is_needed_and_files_have_a_limit(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="no nodes"):
        load(tmp_path, "name: t")
    with pytest.raises(DescriptionError, match="over the limit"):
        load(tmp_path, GOOD + "#" * SCENARIO_BYTES_MAX)

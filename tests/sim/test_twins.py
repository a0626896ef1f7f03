"""Statements about two runs: one seed is one run, in any process (I24), and wall clocks decide nothing (I18)."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.sim.clock import Clock
from shoal.sim.kernel import Actor, Kernel
from shoal.sim.run import simulate
from shoal.sim.scenario import ChaosOptions, LoadedScenario, load_scenario
from shoal.sim.twins import same_seed_same_trace, wall_clocks_decide_nothing

from .small import RUSH, fault, scenario

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "03-sim" / "scenario.yaml"
CHAOS = scenario(chaos=ChaosOptions(per_hour=900, longest_s=90), load=(RUSH,), control_planes=2)


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    assert same_seed_same_trace(CHAOS, seed) == ""


def test_chance_from_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of I24: somebody uses a random source that no seed decides."""
    chance = random.Random()
    original = Kernel.after

    def jittery(kernel: Kernel, delay_s: float, actor: Actor, event: object) -> None:
        original(kernel, delay_s + chance.random() * 1e-6, actor, event)

    monkeypatch.setattr(Kernel, "after", jittery)
    assert "seed 1 gave" in same_seed_same_trace(CHAOS, 1)


def jumping() -> LoadedScenario:
    nodes = ("edge-1", "edge-2", "edge-3", "cloud-1", "cloud-2", "cloud-3")
    jumps = (1e8, -1e8, 3600.0, -3600.0, 86_400.0, -3.0)
    faults = (
        fault("clockJump", 20.0 + 15.0 * number, 5.0, node, by_s=jump)
        for number, (node, jump) in enumerate(zip(nodes, jumps, strict=True))
    )
    return scenario(
        *faults, fault("partition", 60.0, 60.0, "edge-1"), fault("powerCut", 80.0, 60.0, "cloud-1"), load=(RUSH,)
    )


@pytest.mark.parametrize("seed", range(1, 4))
def test_wall_clock_jumps_change_no_decision(seed: int) -> None:
    assert wall_clocks_decide_nothing(jumping(), seed) == ""


def test_a_lease_by_the_wall_clock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of I18: agents measure time by the wall clock."""
    monkeypatch.setattr(Clock, "monotonic_s", Clock.wall_s)
    monkeypatch.setattr(Clock, "true_s", lambda clock, wall_s: wall_s - clock.wall_s(0.0))
    assert "clock jumps change decision" in wall_clocks_decide_nothing(jumping(), 1)


def run_apart(hash_seed: str, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "shoal", "sim", "run", *arguments, "-o", "json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_the_hash_seed_of_the_interpreter_changes_nothing(tmp_path: Path) -> None:
    """The example, shortened, in two processes; sets and dicts of strings have another order in each."""
    folder = EXAMPLE.parent
    text = EXAMPLE.read_text(encoding="utf-8").replace("duration: 60m", "duration: 30m")
    for name in ("slice.yaml", "applications.yaml", "detector-v2.yaml"):
        (tmp_path / name).write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "scenario.yaml").write_text(text, encoding="utf-8")
    results = [run_apart(hash_seed, str(tmp_path / "scenario.yaml"), "--seed", "5") for hash_seed in ("0", "1")]
    assert results[0]["traceHash"] == results[1]["traceHash"]
    assert results[0]["steps"] == results[1]["steps"]
    assert results[0]["violation"] == ""


def test_the_example_holds_every_invariant() -> None:
    result = simulate(load_scenario(EXAMPLE), 8).result
    assert result.violation == ""
    assert result.settled_s is not None
    assert {placed.component: placed.ready for placed in result.placements} == {
        "buoys.filter": 4,
        "cranes.detector": 6,
        "cranes.planner": 1,
        "gates.plates": 1,
    }
    assert result.failovers
    assert result.traffic.refused_by_access >= 1
    availability = {one.component: one for one in result.availability}
    assert availability["gates.plates"].ready_share > 0.99
    assert availability["gates.plates"].missed < 0.01 * availability["gates.plates"].requests

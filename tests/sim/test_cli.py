"""`shoal sim`: summary, JSON, picture, recordings, hunting for seeds, exit codes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shoal.control_plane.storm import StormBrake
from shoal.sim.cli import app

TEXT = """
name: tiny
duration: 4m
fleet:
  - {name: edge, count: 4, layer: edge, datacenter: site}
  - {name: cloud, count: 2, layer: cloud}
descriptions: [app.yaml]
faults:
  - {kind: powerCut, at: 1m, for: 100s, targets: {datacenters: [site], count: 3}}
  - {kind: brokerCrash, at: 3m, for: 10s}
"""
APP = """
apiVersion: shoal.dev/v1
kind: Application
metadata: {name: shop}
spec:
  components:
    - name: web
      process: {command: [web]}
      replicas: 5
      disconnect: {replaceAfter: 5s}
"""

cli = CliRunner()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "app.yaml").write_text(APP, encoding="utf-8")
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def never_held(brake: StormBrake, uid: str) -> bool:
    return False


def test_a_summary_for_people(scenario: Path) -> None:
    done = cli.invoke(app, ["run", str(scenario), "--seed", "3"])
    assert done.exit_code == 0, done.output
    for told in ("tiny", "seed 3", "6 nodes", "shop.web", "5/5", "powerCut", "trace hash", "invariants held"):
        assert told in done.output, told


def test_a_summary_for_programs(scenario: Path) -> None:
    done = cli.invoke(app, ["run", str(scenario), "-o", "json"])
    result = json.loads(done.output)
    assert (result["scenario"], result["seed"], result["nodes"]) == ("tiny", 1, 6)
    assert result["placements"][0]["ready"] == 5
    assert result["faults"] == {"brokerCrash": 1, "powerCut": 1}
    assert result["violation"] == ""
    assert result["simulatedS"] >= 240.0
    assert len(result["invariants"]) >= 10
    assert result["traffic"]["packets"] > 500


def test_a_picture(scenario: Path, tmp_path: Path) -> None:
    picture = tmp_path / "run.png"
    assert cli.invoke(app, ["run", str(scenario), "--plot", str(picture)]).exit_code == 0
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 400
    assert len(data) > 20_000


def test_a_recording_is_held_against_another_run(scenario: Path, tmp_path: Path) -> None:
    recording = tmp_path / "run.json"
    assert cli.invoke(app, ["run", str(scenario), "--seed", "9", "--record", str(recording)]).exit_code == 0
    same = cli.invoke(app, ["run", str(scenario), "--replay", str(recording), "-o", "json"])
    assert same.exit_code == 0, same.output
    assert json.loads(same.output)["seed"] == 9
    kept = json.loads(recording.read_text(encoding="utf-8"))
    kept["marks"][3][2] = "0" * 32
    recording.write_text(json.dumps(kept), encoding="utf-8")
    other = cli.invoke(app, ["run", str(scenario), "--replay", str(recording)])
    assert other.exit_code == 1
    assert "the runs part between step 1500" in other.output.replace("\n", " ")


def test_another_scenario_is_no_replay(scenario: Path, tmp_path: Path) -> None:
    recording = tmp_path / "run.json"
    assert cli.invoke(app, ["run", str(scenario), "--record", str(recording)]).exit_code == 0
    scenario.write_text(TEXT.replace("at: 1m", "at: 2m"), encoding="utf-8")
    other = cli.invoke(app, ["run", str(scenario), "--replay", str(recording)])
    assert other.exit_code == 1
    assert "not the one that was recorded" in other.output.replace("\n", " ")
    recording.write_text("{}", encoding="utf-8")
    broken = cli.invoke(app, ["run", str(scenario), "--replay", str(recording)]).output
    assert "is no recording" in broken.replace("\n", " ").replace("  ", " ")


def test_a_violation_fails_with_its_story(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StormBrake, "is_held", never_held)
    done = cli.invoke(app, ["run", str(scenario), "--seed", "1"])
    assert done.exit_code == 1
    assert "I15 violated at" in done.output
    assert "seed 1, step" in done.output


def test_hunting(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = cli.invoke(app, ["hunt", str(scenario), "--seeds", "1..3"])
    assert clean.exit_code == 0, clean.output
    assert "0 of 3 seeds broke an invariant" in clean.output
    monkeypatch.setattr(StormBrake, "is_held", never_held)
    found = cli.invoke(app, ["hunt", str(scenario), "--seeds", "1..3"])
    assert found.exit_code == 1
    assert "I15 violated at" in found.output
    assert cli.invoke(app, ["hunt", str(scenario), "--seeds", "one"]).exit_code == 2


def test_what_is_checked_is_listed() -> None:
    told = cli.invoke(app, ["invariants"]).output
    for name in ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I10", "I11", "I12", "I13", "I15", "I17", "capacity"):
        assert name in told
    assert "at most one node at any instant" in told
    assert len(json.loads(cli.invoke(app, ["invariants", "-o", "json"]).output)) >= 13


def test_a_scenario_that_cannot_be_read(scenario: Path, tmp_path: Path) -> None:
    scenario.write_text(TEXT.replace("count: 4", "cuont: 4"), encoding="utf-8")
    wrong = cli.invoke(app, ["run", str(scenario)])
    assert wrong.exit_code == 2
    assert "did you mean 'count'" in wrong.output.replace("\n", " ")
    assert cli.invoke(app, ["run", str(tmp_path / "nowhere.yaml")]).exit_code == 2

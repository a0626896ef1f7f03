"""Example 04: a hot node's camera is slowed down by the policy, and let go again; nothing of it is left in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shoal.control_plane.adaptation import Act, ActionCommitted, Adaptation, Explain, Looked, PolicyPlan
from shoal.control_plane.adaptation.wanted import wanted
from shoal.control_plane.inputs import SettingWanted
from shoal.control_plane.placement import Placement
from shoal.control_plane.planner.snapshot import NodeState, Snapshot
from shoal.control_plane.planner.table import Table
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import Application, Mechanism, Node, Policy, Slice
from shoal.descriptions.load import load_paths
from shoal.descriptions.mechanism import MechanismCommand, Outcome
from shoal.descriptions.messages.codec import encode
from shoal.descriptions.messages.reported import MechanismReport
from shoal.descriptions.options import read_options
from shoal.mechanisms.checks import run_file
from shoal.mechanisms.mechanism import Mechanism as Plugin
from shoal.mechanisms.registry import make_mechanisms
from shoal.policies.checks import run_file as check_policy
from shoal.policies.loading import policy_from
from shoal.policies.policy import Policy as PolicyPlugin
from shoal.policies.reading import Reading, Statistic
from shoal.policies.request import Request
from shoal.policies.view import View

HERE = Path(__file__).resolve().parents[2] / "examples" / "04-mechanism"
NODE = "porch"
WALL = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin as an installed package names it: an entry point of the group `shoal.mechanisms`."""
    (tmp_path / "frame_rate.py").write_text((HERE / "frame_rate.py").read_text())
    info = tmp_path / "frame_rate-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: frame-rate\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[shoal.mechanisms]\nframe-rate = frame_rate:FrameRate\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def plugin(installed: Path, tmp_path: Path) -> Plugin:
    """As `agent.yaml` enables it."""
    return make_mechanisms({"frame-rate": {"file": str(tmp_path / "rate"), "fpsMax": 30}})["frame-rate"]


def described(kind: type[Application | Policy | Mechanism]) -> Iterator[Application | Policy | Mechanism]:
    return (one.kind for one in load_paths([HERE]) if isinstance(one.kind, kind))


@dataclass
class Hot:
    """What was measured on the node."""

    celsius: float = 40.0

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        if (metric, node) != ("hw.temperature", NODE):
            return None
        return Reading(self.celsius, 1.0, 6)


@dataclass
class Loop:
    """Monitor, analyze, plan, validate, execute: the real policy, adaptation and mechanism, one step a call."""

    plugin: Plugin
    policy: PolicyPlugin
    application: Application
    hot: Hot = field(default_factory=Hot)
    adaptation: Adaptation = field(default_factory=Adaptation)
    now_s: float = 0.0
    refusals: list[str] = field(default_factory=list)
    undo: list[MechanismCommand] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        options, status = self.plugin.options(), self.plugin.status()
        report = MechanismReport(
            "frame-rate", tuple(one.verb for one in options.verbs), encode(options).decode(), encode(status).decode()
        )
        node = Node.model_validate({"metadata": {"name": NODE}, "spec": {"layer": "far-edge"}})
        replica = Placement("watch.camera.1", "watch", "camera", 1, "uid-1", NODE, revision=1, phase="ready")
        return Snapshot(
            version=int(self.now_s) + 1, now_s=self.now_s, wall=WALL,
            slice=Slice.model_validate({"metadata": {"name": "s"}, "spec": {"adaptation": {"cooldown": 60}}}),
            nodes=(NodeState(node, "uid-1", "ready", (report,)),), applications=(self.application,),
            placements=(replica,), metrics=self.hot,
        )  # fmt: skip

    def look(self, celsius: float, after_s: float = 120.0) -> int:
        """One look at this temperature; gives the pictures a second that are set afterwards."""
        self.hot.celsius, self.now_s = celsius, self.now_s + after_s
        seen = self.snapshot()
        view = self.view(seen)
        actions = tuple(
            act for found in self.policy.analyze(self.application, view) for act in self.policy.plan(found, view)
        )
        for effect in self.adaptation.handle(
            Looked(f"l{self.now_s:g}", seen, (PolicyPlan("cool-cameras", 1, actions),)), self.now_s
        ):
            if isinstance(effect, Act):
                self.execute(wanted(effect))
            elif isinstance(effect, Explain):
                self.refusals.append(f"{effect.record.rule}: {effect.record.reason}")
        return self.fps

    def view(self, seen: Snapshot) -> View:
        table = Table(seen)
        return View(
            now_s=seen.now_s, wall=WALL, seed=1, slice=seen.slice, application=self.application,
            request=Request(0, 0, 0), relations=table.relations(self.application), nodes=table.nodes,
            network=table.network, replicas=table.replicas, metrics=seen.metrics, reports=table.layout.reports,
        )  # fmt: skip

    def execute(self, event: object) -> None:
        """What plan core, wire and agent do of a setting, without them."""
        assert isinstance(event, SettingWanted)
        self.adaptation.handle(ActionCommitted(f"c-{event.id}", event.id, int(self.now_s) + 1), self.now_s)
        arguments = msgspec.json.decode(event.arguments, type=dict[str, msgspec.Raw])
        command = MechanismCommand(event.id, event.verb, event.target, arguments)
        inverse = self.plugin.inverse(command)
        assert inverse is not None
        self.undo.append(inverse)
        assert self.plugin.apply(command) == Outcome(command.id, "done")

    @property
    def fps(self) -> int:
        return msgspec.json.decode(self.plugin.status().targets[0].values["fps"], type=int)


@pytest.fixture
def loop(plugin: Plugin) -> Loop:
    """The example's own descriptions and files."""
    application, policy = next(described(Application)), next(described(Policy))
    assert isinstance(application, Application)
    assert isinstance(policy, Policy)
    source = HERE / "cool_camera.py"
    loaded = policy_from(policy.spec.use, str(source), source.read_bytes())
    return Loop(plugin, read_options(loaded, policy.spec.options), application)


def test_both_plugins_keep_their_contracts() -> None:
    for report in (run_file(HERE / "frame_rate.py"), check_policy(HERE / "cool_camera.py")):
        assert report.passed, report.lines()


def test_the_mechanism_is_small() -> None:
    lines = (HERE / "frame_rate.py").read_text().partition("@dataclass")[2].splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith('"""')]
    assert len(code) <= 24


def test_a_camera_is_slowed_down_while_its_node_is_hot(loop: Loop, tmp_path: Path) -> None:
    assert loop.look(60) == 30, "all is well"
    assert loop.look(80) == 10, "over celsiusHot"
    assert (tmp_path / "rate").read_text() == "10", "what the camera program reads"
    assert loop.look(70) == 10, "within the band it stays as it is"
    assert loop.look(60) == 30, "under celsiusCool"
    assert loop.refusals == []


def test_it_is_not_changed_again_within_the_cooldown(loop: Loop) -> None:
    assert loop.look(80) == 10
    assert loop.look(60, after_s=30) == 10
    assert len(loop.refusals) == 1
    assert "it was changed 30 s ago; the Slice's adaptation.cooldown is 60 s" in loop.refusals[0]
    assert loop.look(60, after_s=31) == 30


def test_what_the_application_does_not_permit_is_not_done(loop: Loop) -> None:
    plain = json.loads(loop.application.model_dump_json(by_alias=True))
    plain["spec"]["components"][0]["permittedActions"] = ["scale"]
    loop.application = Application.model_validate(plain)
    assert loop.look(80) == 30
    assert len(loop.refusals) == 1
    assert "permits scale; setFrameRate is not among them" in loop.refusals[0]


def test_undo_gives_the_rate_of_before(loop: Loop) -> None:
    loop.look(80)
    assert loop.plugin.apply(loop.undo[-1]).state == "done"
    assert loop.fps == 30


def test_what_the_description_uses_is_what_the_package_names(installed: Path) -> None:
    mechanism = next(described(Mechanism))
    assert isinstance(mechanism, Mechanism)
    assert set(make_mechanisms({mechanism.spec.use: {"fpsMax": 25}})) == {"frame-rate"}
    with pytest.raises(DescriptionError, match=r"did you mean 'fpsMax'"):
        make_mechanisms({"frame-rate": {"fpsMaximum": 3}})


def test_the_command_line_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    from shoal.__main__ import main

    assert main(["mechanism", "test", str(HERE / "frame_rate.py")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("FrameRate: keeps the contract")
    assert main(["policy", "test", str(HERE / "cool_camera.py")]) == 0

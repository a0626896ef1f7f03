"""Which policies there are, how options are filled, and what the fence does."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.control_plane.planner.adapt import metrics_of
from shoal.control_plane.planner.decide import decide
from shoal.control_plane.planner.fence import FORGIVEN_AFTER, STRIKES_MAX, Fence
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Reading, Statistic
from shoal.descriptions.errors import DescriptionError, PluginError
from shoal.descriptions.kinds.meta import PluginUse
from shoal.policies.registry import PolicySettings

from .small_slice import app, chosen, need, node, part, snapshot

BUILT_INS = ("balanced", "binpack", "cheapest", "greenest", "nearest", "onnx", "spread", "static")


def test_the_built_ins_are_there() -> None:
    policies = Policies()
    assert policies.names() == BUILT_INS
    for name in BUILT_INS:
        info = policies.info(name)
        assert info.loaded.is_placing
        assert info.loaded.doc


@pytest.mark.parametrize(
    ("use", "path", "near"),
    [
        (PluginUse(use="ballanced"), None, "balanced"),
        (PluginUse(use="balanced", options={"laod": 1}), "laod", "load"),
        (PluginUse(use="balanced", options={"load": -1}), "load", None),
        (PluginUse(use="nearest", options={"rttMax": "soon"}), "rttMax", None),
        (PluginUse(use="onnx", options={"model": "../secret.onnx"}), None, None),
    ],
    ids=["name", "key", "range", "unit", "outside the folder"],
)
def test_wrong_uses_are_refused_precisely(use: PluginUse, path: str | None, near: str | None) -> None:
    with pytest.raises(DescriptionError) as caught:
        Policies().check(use)
    assert caught.value.path == path
    assert caught.value.nearest == near


def test_the_operator_alone_sets_some_options(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="folder is for the operator's configuration"):
        Policies().check(PluginUse(use="onnx", options={"model": "m.onnx", "folder": "/etc"}))
    policies = Policies(PolicySettings(options={"onnx": {"folder": str(tmp_path)}}))
    decider = policies.bind(PluginUse(use="onnx", options={"model": "m.onnx"}))
    assert decider.options == f'{{"folder":"{tmp_path}","model":"m.onnx"}}'


def test_a_module_is_enabled_by_the_operator_alone() -> None:
    with pytest.raises(DescriptionError):
        Policies().check(PluginUse(use="shoal.policies.spread"))
    with Policies(PolicySettings(modules={"apart": "shoal.policies.spread:Spread"})) as policies:
        policies.check(PluginUse(use="apart"))
        assert policies.info("apart").loaded.class_name == "Spread"
        there = snapshot([node("n1"), node("n2")], app(part(), policies=[{"use": "apart"}]))

        proposal = decide(there, [need(count=2)], policies)
        assert (chosen(proposal.decisions[0]), proposal.faults) == (["n1", "n2"], ())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such:Thing", "ModuleNotFoundError"),
        ("shoal.policies.spread:Gone", "AttributeError"),
        ("pathlib:Path", "is no subclass of shoal.policies.policy.Policy"),
    ],
)
def test_a_module_that_is_no_policy_is_told(target: str, message: str) -> None:
    with Policies(PolicySettings(modules={"bad": target})) as policies, pytest.raises(PluginError, match=message):
        policies.check(PluginUse(use="bad"))


def test_a_built_in_name_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "balanced.py").write_text("raise SystemExit")
    with Policies(PolicySettings(folder=tmp_path, modules={"spread": "no.such:Thing"})) as policies:
        assert policies.info("balanced").source.kind == "built-in"
        assert policies.info("spread").source.kind == "built-in"


def test_names_that_descriptions_could_not_write_are_left_out(tmp_path: Path) -> None:
    for name in ("my_own.py", "_hidden.py", "Bad Name.py", "readme.txt"):
        (tmp_path / name).write_text("")
    assert set(Policies(PolicySettings(folder=tmp_path)).names()) - set(BUILT_INS) == {"my-own"}


def test_what_active_policies_measure_is_known(tmp_path: Path) -> None:
    (tmp_path / "warm.py").write_text(
        "from dataclasses import dataclass\n"
        "from shoal.policies.policy import Policy\n"
        "from shoal.policies.reading import MetricUse\n"
        "@dataclass(frozen=True)\n"
        "class Warm(Policy):\n"
        "    'Prefer warm nodes.'\n"
        "    metrics = (MetricUse('system.temperature', 'last', 60.0, 2.0),)\n"
        "    def score(self, component, node, view):\n"
        "        reading = view.reading('system.temperature', 'last', 60.0, node=node.name)\n"
        "        return reading.value if reading else 0.0\n"
    )

    class Thermometer:
        def read(
            self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
        ) -> Reading | None:
            return Reading(70.0, 1.0, 5) if (metric, node) == ("system.temperature", "n2") else None

    with Policies(PolicySettings(folder=tmp_path)) as policies:
        there = snapshot([node("n1"), node("n2")], app(part(), policies=[{"use": "warm"}]), metrics=Thermometer())
        assert [(one.metric, one.interval_s) for one in metrics_of(there, policies)] == [("system.temperature", 2.0)]
        assert metrics_of(snapshot([], app(part())), policies) == ()
        proposal = decide(there, [need()], policies)
        assert (chosen(proposal.decisions[0]), proposal.faults) == (["n2"], ())


def test_three_strikes_fence() -> None:
    fence = Fence()
    faults = [fence.strike("bad", "no") for _ in range(STRIKES_MAX)]
    assert [one.fenced for one in faults] == [False, False, True]
    assert fence.reason("bad") == "fenced after 3 faults, the last: no"
    for _ in range(FORGIVEN_AFTER * 2):
        fence.good("bad")
    assert fence.reason("bad"), "only loading again forgives a fenced policy"
    fence.forgive("bad")
    assert fence.reason("bad") == ""


def test_many_good_answers_forgive_what_came_before() -> None:
    fence = Fence()
    for _ in range(STRIKES_MAX - 1):
        fence.strike("bad", "no")
    for _ in range(FORGIVEN_AFTER):
        fence.good("bad")
    assert fence.strikes("bad") == 0
    fence.strike("bad", "no")
    for _ in range(FORGIVEN_AFTER - 1):
        fence.good("bad")
    assert fence.strike("bad", "again").strikes == 2

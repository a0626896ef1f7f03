"""The policy that asks an ONNX model: a good one decides; with anything else the built-in does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal.control_plane.planner.decide import decide
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import PlanProposal
from shoal.policies.checks import assert_policy
from shoal.policies.features import FEATURES, feature_table
from shoal.policies.onnx import Onnx
from shoal.policies.reading import NoMetrics
from shoal.policies.registry import PolicySettings
from shoal.policies.worlds import APPLICATION, mixed

from ..control_plane.planner.small_slice import app, chosen, need, node, part, placed, snapshot


def linear(path: Path, weights: dict[str, float], *, width: int = len(FEATURES), kind: Any = TensorProto.FLOAT) -> None:
    """Save a model whose score is the weighted sum of some features."""
    matrix = np.zeros((width, 1), dtype=np.float32)
    for name, weight in weights.items():
        matrix[[one for one, _ in FEATURES].index(name), 0] = weight
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scheduler",
        [helper.make_tensor_value_info("x", kind, ["n", width])],
        [helper.make_tensor_value_info("y", kind, ["n", 1])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def decided(folder: Path, **options: str) -> PlanProposal:
    """Two nodes: n1 is empty and dear, n2 is cheap."""
    nodes = [node("n1", price=2.0), node("n2", price=0.1)]
    uses = [{"use": "onnx", "options": {"model": "m.onnx", **options}}]
    there = snapshot(nodes, app(part(cpu=1), policies=uses), placements=[placed("part", "n2", cpu=1)])
    return decide(there, [need()], Policies(PolicySettings(options={"onnx": {"folder": str(folder)}})))


def test_a_model_decides(tmp_path: Path) -> None:
    linear(tmp_path / "m.onnx", {"price_per_h": -1.0})
    proposal = decided(tmp_path)
    assert (chosen(proposal.decisions[0]), proposal.faults) == (["n2"], ())
    linear(tmp_path / "m.onnx", {"siblings": -1.0})
    os.utime(tmp_path / "m.onnx", ns=(1, 1))
    proposal = decided(tmp_path)
    assert (chosen(proposal.decisions[0]), proposal.faults) == (["n1"], ()), "a changed file is loaded again"


def test_a_model_trained_on_the_first_features_goes_on_working(tmp_path: Path) -> None:
    linear(tmp_path / "m.onnx", {"replicas": -1.0}, width=6)
    proposal = decided(tmp_path)
    assert (chosen(proposal.decisions[0]), proposal.faults) == (["n1"], ())


def test_a_model_keeps_the_contract(tmp_path: Path) -> None:
    linear(tmp_path / "m.onnx", {"cpu_share_free": 1.0, "co2_g_per_kwh": -0.01})
    assert_policy(Onnx("m.onnx", tmp_path))


def test_no_model_or_a_bad_one_lets_the_built_in_decide(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    faults = [decided(tmp_path).faults[0].message]
    path.write_bytes(b"no model")
    faults.append(decided(tmp_path).faults[0].message)
    linear(path, {}, width=len(FEATURES) + 1)
    faults.append(decided(tmp_path).faults[0].message)
    linear(path, {"price_per_h": float("inf")})
    proposal = decided(tmp_path)
    faults.append(proposal.faults[0].message)
    assert chosen(proposal.decisions[0]) == ["n1"], "as balanced would"
    starts = ["/", "InvalidProtobuf", f"m.onnx takes {len(FEATURES) + 1} features", "score of n1 is "]
    assert [fault.startswith(start) for fault, start in zip(faults, starts, strict=True)] == [True] * 4, faults


@pytest.mark.parametrize("name", ["../m.onnx", "m.txt", "", "a/b.onnx"])
def test_a_description_names_no_file_outside_the_folder(tmp_path: Path, name: str) -> None:
    assert "is not a model's file name" in decided(tmp_path, model=name).faults[0].message


def test_the_feature_table_is_what_it_says() -> None:
    view = mixed(40, NoMetrics()).of("classify")
    table = feature_table(APPLICATION.spec.components[1], view.nodes, view)
    assert table.shape == (40, len(FEATURES))
    assert table.dtype == np.float32
    assert np.isfinite(table).all()
    columns = {name: table[:, at] for at, (name, _) in enumerate(FEATURES)}
    layers = [columns[f"is_{layer}"] for layer in ("cloud", "edge_infrastructure", "edge", "far_edge")]
    assert (np.sum(layers, axis=0) == 1).all()
    assert columns["siblings"].sum() == len(view.replicas_of("classify"))
    first = view.nodes[0]
    assert columns["cpu_share_needed"][0] == pytest.approx(500 / first.cpu / 1000)

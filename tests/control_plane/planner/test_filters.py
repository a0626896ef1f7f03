"""Each constraint refuses for its reason, with numbers, and says the smallest change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shoal.control_plane.planner.explain import why
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import NodeState, Snapshot
from shoal.descriptions.kinds import Cluster, Datacenter
from shoal.descriptions.messages.reported import MechanismReport

from .small_slice import GIB, MIB, app, model, node, part, placed, snapshot


def failures(there: Snapshot, name: str = "n1", component: str = "part") -> list[tuple[str, str, str]]:
    told = why(there, "app", component, name, policies=Policies())
    return [(one.constraint, one.reason, one.change) for one in told.nodes[0].failures]


NODE_CASES: dict[str, tuple[NodeState, dict[str, Any], tuple[str, str, str]]] = {
    "suspect": (
        node("n1", phase="suspect"),
        part(),
        ("phase", "suspect: heartbeats are missing", "restore its connection"),
    ),
    "lost": (node("n1", phase="lost"), part(), ("phase", "lost: its lease has ended", "restore its connection")),
    "expected": (
        node("n1", phase="expected"),
        part(),
        ("phase", "described but never joined", "start its agent and join it"),
    ),
    "left": (node("n1", phase="left"), part(), ("phase", "has left the slice", "join it again")),
    "cordoned": (node("n1", cordoned=True), part(), ("cordon", "cordoned", "uncordon it")),
    "drained": (node("n1", drained=True), part(), ("cordon", "being drained", "uncordon it")),
    "layer": (
        node("n1", layer="edge"),
        part(placement={"layers": ["cloud", "far-edge"]}),
        ("layers", "is in layer edge, needs one of cloud, far-edge", "allow layer edge"),
    ),
    "name": (
        node("n1"),
        part(placement={"nodes": ["n2"]}),
        ("nodes", "is not among the nodes n2", "add n1 to placement.nodes"),
    ),
    "label missing": (
        node("n1"),
        part(placement={"labels": [{"key": "zone", "values": ["eu"]}]}),
        ("label zone", "has no label zone, needs eu", "label it zone=eu"),
    ),
    "label other": (
        node("n1", labels={"zone": "us"}),
        part(placement={"labels": [{"key": "zone", "values": ["eu", "uk"]}]}),
        ("label zone", "label zone=us, needs one of eu, uk", "label it zone=eu"),
    ),
    "label not in": (
        node("n1", labels={"zone": "us"}),
        part(placement={"labels": [{"key": "zone", "operator": "NotIn", "values": ["us"]}]}),
        ("label zone", "label zone=us, needs none of us", "remove its label zone=us"),
    ),
    "label exists": (
        node("n1"),
        part(placement={"labels": [{"key": "ssd", "operator": "Exists"}]}),
        ("label ssd", "has no label ssd, needs any value", "give it a label ssd"),
    ),
    "label does not exist": (
        node("n1", labels={"spot": ""}),
        part(placement={"labels": [{"key": "spot", "operator": "DoesNotExist"}]}),
        ("label spot", "label spot=, needs none", "remove its label spot="),
    ),
    "label gt": (
        node("n1", labels={"rank": "3"}),
        part(placement={"labels": [{"key": "rank", "operator": "Gt", "values": ["3"]}]}),
        ("label rank", "label rank=3, needs more than 3", "give label rank more than 3"),
    ),
    "label lt not a number": (
        node("n1", labels={"rank": "low"}),
        part(placement={"labels": [{"key": "rank", "operator": "Lt", "values": ["3"]}]}),
        ("label rank", "label rank=low, needs less than 3", "give label rank less than 3"),
    ),
    "cpu": (node("n1"), part(cpu=5), ("cpu", "needs 5, 4 of 4 are free", "free 1 of cpu")),
    "memory": (
        node("n1", hardware={"memory": GIB}, reserved_memory=256 * MIB),
        part(memory=888 * MIB),
        ("memory", "needs 888Mi, 768Mi of 768Mi are free", "free 120Mi of memory"),
    ),
    "disk": (
        node("n1", hardware={"disk": GIB}),
        part(disk=3 * GIB),
        ("disk", "needs 3Gi, 1Gi of 1Gi are free", "free 2Gi of disk"),
    ),
    "memory unknown": (
        node("n1", hardware={"memory": None}),
        part(memory=MIB),
        ("memory", "needs 1Mi, and how much the node has is not known", "describe the node's memory"),
    ),
    "accelerators": (
        node("n1", accelerators=[{"type": "gpu", "model": "a2"}]),
        part(accelerators=[{"type": "gpu", "count": 2}]),
        ("accelerators", "needs 2 gpu; 1 of 1 suitable ones are free", "free or add 1 more"),
    ),
    "accelerator memory": (
        node("n1", accelerators=[{"type": "gpu", "model": "a2", "memory": 8 * GIB}]),
        part(accelerators=[{"type": "gpu", "memory": 16 * GIB}]),
        ("accelerators", "needs 1 gpu with 16Gi; 0 of 0 suitable ones are free", "add one of this kind"),
    ),
    "sensors": (
        node("n1", sensors=[{"type": "camera", "model": "c1"}]),
        part(sensors=[{"type": "camera", "model": "c2"}]),
        ("sensors camera", "needs 1 camera c2, has 0", "attach and describe 1 camera c2"),
    ),
    "mechanism": (
        node("n1", mechanisms=()),
        part(),
        ("mechanism", "does not offer the mechanism process", "enable the mechanism process on it"),
    ),
    "mechanism gives a reason": (
        node("n1", mechanisms=(MechanismReport("process", options='{"reason": "no folder is allowed"}'),)),
        part(),
        ("mechanism", "mechanism process: no folder is allowed", ""),
    ),
    "container": (
        node("n1"),
        part(container={"image": "nginx"}),
        (
            "mechanism",
            "no mechanism runs containers here; `process` and `inference` components are possible",
            "enable the mechanism container on it",
        ),
    ),
}


@pytest.mark.parametrize("case", NODE_CASES.values(), ids=NODE_CASES.keys())
def test_a_node_is_refused_for_its_reason(case: tuple[NodeState, dict[str, Any], tuple[str, str, str]]) -> None:
    state, component, expected = case
    assert failures(snapshot([state], app(component))) == [expected]


def test_every_failing_constraint_is_told_not_only_the_first() -> None:
    state = node("n1", phase="suspect", cordoned=True, layer="cloud")
    where = {"layers": ["edge"], "labels": [{"key": "zone", "values": ["eu"]}]}
    component = part(cpu=9, memory=99 * GIB, placement=where)
    told = [name for name, _, _ in failures(snapshot([state], app(component)))]
    assert told == ["phase", "cordon", "layers", "label zone", "cpu", "memory"]


def test_a_model_that_nobody_described_is_a_reason_on_every_node() -> None:
    there = snapshot([node("n1")], app(part(inference={"model": "digits"})))
    assert failures(there) == [("model", "the Model digits is not described", "apply the Model digits")]
    assert failures(replace(there, models=(model(),))) == []


INFERENCE = '{"verbs": [{"verb": "restart"}], "runs": ["onnx"]}'


@pytest.mark.parametrize(
    ("format_", "plugin", "expected"),
    [
        ("onnx", None, []),
        ("onnx", "openvino", ["inference plugin openvino is not on it, onnx is"]),
        ("tflite", None, ["inference plugin litert is not on it, onnx is"]),
        ("tflite", "onnx", []),
    ],
)
def test_the_inference_plugin_must_be_on_the_node(format_: str, plugin: str | None, expected: list[str]) -> None:
    state = node("n1", mechanisms=(MechanismReport("inference", ("serve",), INFERENCE),))
    component = part(inference={"model": "digits", "plugin": plugin})
    there = snapshot([state], app(component), models=[model(format=format_)])
    assert [reason for _, reason, _ in failures(there)] == expected


def test_a_models_memory_counts_where_the_component_gives_none() -> None:
    component = part(inference={"model": "digits"})
    there = snapshot([node("n1")], app(component), models=[model(memory=9 * GIB)])
    assert failures(there) == [("memory", "needs 9Gi, 8Gi of 8Gi are free", "free 1Gi of memory")]


def test_affinity_follows_the_other_component() -> None:
    components = app(part("a"), part("part", placement={"affinity": [{"component": "a", "topology": "cluster"}]}))
    nodes = [node("n1", cluster="x"), node("n2", cluster="y"), node("n3")]
    nothing = snapshot(nodes, components)
    assert failures(nothing) == [("affinity a", "no replica of a is placed yet", "place a first")]
    there = replace(nothing, placements=(placed("a", "n2"),))
    assert failures(there, "n2") == []
    assert failures(there, "n1") == [
        ("affinity a", "must share its cluster with a, which is on cluster y", "place a replica of a here")
    ]
    assert [name for name, _, _ in failures(there, "n3")] == ["affinity a"]


def test_anti_affinity_holds_both_ways() -> None:
    components = app(part("a", placement={"antiAffinity": [{"component": "part", "topology": "node"}]}), part("part"))
    there = snapshot([node("n1"), node("n2")], components, placements=[placed("a", "n1")])
    assert failures(there, "n2") == []
    (failure,) = failures(there, "n1")
    assert failure[:2] == ("antiAffinity a", "a must not share its node with a; 1 on n1")
    there = replace(there, placements=(placed("part", "n1"),))
    (failure,) = failures(there, "n1", "a")
    assert failure[:2] == ("antiAffinity part", "a must not share its node with part; 1 on n1")


def test_a_node_in_no_domain_is_apart_from_everything_and_together_with_nothing() -> None:
    apart = app(part("a"), part("part", placement={"antiAffinity": [{"component": "a", "topology": "datacenter"}]}))
    there = snapshot([node("n1"), node("n2")], apart, placements=[placed("a", "n1")])
    assert failures(there, "n1") == []


def test_colocated_components_share_the_node() -> None:
    there = snapshot([node("n1"), node("n2")], app(part("a"), part("part", placement={"colocate": ["a"]})))
    there = replace(there, placements=(placed("a", "n2"),))
    assert failures(there, "n2") == []
    assert failures(there, "n1")[0][:2] == ("colocate a", "must share its node with a, which is on n2")


def test_required_spread_keeps_the_skew() -> None:
    component = part(replicas=3, placement={"spread": [{"topology": "cluster", "required": True}]})
    nodes = [node("n1", cluster="x"), node("n2", cluster="y"), node("n3")]
    other = part("other")
    there = snapshot(nodes, app(component, other))
    # `why` decides all replicas again, so the first one sees empty domains.
    assert failures(there, "n1") == []
    assert failures(there, "n3") == [("spread cluster", "is in no cluster", "describe its cluster")]


def test_interactions_need_a_described_link_that_is_short_enough() -> None:
    components = app(part("part", interactions=[{"to": "a", "latency": 0.02, "bandwidth": 1e6}]), part("a"))
    near, far = (
        {"to": "node:n0", "latency": 0.01, "bandwidth": 1e9},
        {"to": "node:n0", "latency": 0.045, "bandwidth": 1e3},
    )
    nodes = [node("n0"), node("n1", network=[near]), node("n2", network=[far]), node("n3")]
    there = snapshot(nodes, components, placements=[placed("a", "n0")])
    assert failures(there, "n0") == failures(there, "n1") == []
    assert [reason for _, reason, _ in failures(there, "n2")] == [
        "to the nearest a (n0): 45ms of round trip, over 20ms and 1kbps of bandwidth, under 1Mbps"
    ]
    assert [reason for _, reason, _ in failures(there, "n3")] == ["no link to the nearest a (n0) is described"]


def test_the_called_component_goes_within_reach_of_its_callers() -> None:
    components = app(part("caller", interactions=[{"to": "part", "latency": 0.02}]), part("part"))
    nodes = [
        node("n0"),
        node("n1", network=[{"to": "*", "latency": 0.01}]),
        node("n2", network=[{"to": "*", "latency": 1}]),
    ]
    there = snapshot(nodes, components, placements=[placed("caller", "n0")])
    assert failures(there, "n1") == []
    assert failures(there, "n2")[0][1] == "from the nearest caller (n0): 1s of round trip, over 20ms"


@pytest.mark.parametrize(
    ("quotas", "constraint", "reason"),
    [
        ({"cpu": 2.5}, "quota cpu", "the slice's quota of 2.5 is used up to 2, needs 1"),
        ({"memory": GIB}, "quota memory", "the slice's quota of 1Gi is used up to 1Gi, needs 512Mi"),
        ({"replicas": 1}, "quota replicas", "the slice's quota of 1 replica is used up to 1 replica, needs 1 replica"),
    ],
    ids=["cpu", "memory", "replicas"],
)
def test_quotas_of_the_slice_hold_on_every_node(quotas: dict[str, Any], constraint: str, reason: str) -> None:
    components = app(part(cpu=1, memory=512 * MIB), part("other"))
    there = snapshot(
        [node("n1"), node("n2")],
        components,
        slice_={"quotas": quotas},
        placements=[placed("other", "n1", cpu=2, memory=GIB)],
    )
    assert [failures(there, name)[0][:2] for name in ("n1", "n2")] == [(constraint, reason)] * 2


def test_clusters_and_datacenters_come_from_all_who_name_them() -> None:
    clusters = [Cluster.model_validate({"metadata": {"name": "x"}, "spec": {"datacenter": "d", "nodes": ["n1"]}})]
    datacenters = [
        Datacenter.model_validate(
            {"metadata": {"name": "d"}, "spec": {"network": [{"to": "node:n2", "latency": 0.005}]}}
        )
    ]
    components = app(part("part", interactions=[{"to": "a", "latency": 0.01}]), part("a"))
    there = snapshot(
        [node("n1"), node("n2")], components, clusters=clusters, datacenters=datacenters, placements=[placed("a", "n2")]
    )
    assert failures(there, "n1") == []

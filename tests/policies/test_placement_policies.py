"""Each built-in prefers and refuses what it says, and keeps the contract that plugins must keep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Snapshot
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.options import read_options
from shoal.policies import IN_TREE
from shoal.policies.balanced import Balanced
from shoal.policies.checks import assert_policy, check_policy
from shoal.policies.nearest import Nearest
from shoal.policies.policy import Policy
from shoal.policies.reading import NoMetrics
from shoal.policies.registry import load
from shoal.policies.static import Static
from shoal.policies.worlds import APPLICATION, mixed

from ..control_plane.planner.small_slice import GIB, app, chosen, need, node, part, placed, snapshot

PLANNER = Planner(Policies())


def nodes_chosen(there: Snapshot, count: int = 1, component: str = "part") -> list[str]:
    return chosen(PLANNER.decide(there, [need(component, count)]).decisions[0])


@pytest.mark.parametrize("name", sorted(IN_TREE.keys() - {"onnx"}))
def test_built_ins_keep_the_contract_for_plugins(name: str) -> None:
    policy = load(IN_TREE[name])()
    assert_policy(policy)
    assert len(check_policy(policy)) >= 5


@pytest.mark.parametrize(
    "policy",
    [Balanced(load=0.5, spread=0.0), Balanced(latency=0.0), Nearest(rtt_max=0.02), Static(nodes=("node-0001",))],
    ids=repr,
)
def test_with_other_options_too(policy: Policy) -> None:
    assert_policy(policy)


def using(*uses: dict[str, Any]) -> dict[str, Any]:
    return {"policies": list(uses)}


def test_binpack_fills_one_node_after_the_other() -> None:
    there = snapshot([node("n1"), node("n2")], app(part(cpu=2), **using({"use": "binpack"})))
    assert nodes_chosen(there, 4) == ["n1", "n1", "n2", "n2"]


def test_binpack_prefers_what_is_in_use() -> None:
    rows = [placed("other", "n2", cpu=1)]
    there = snapshot(
        [node("n1"), node("n2")], app(part(cpu=1), part("other"), **using({"use": "binpack"})), placements=rows
    )
    assert nodes_chosen(there) == ["n2"]


def test_spread_goes_over_datacenters_then_clusters_then_nodes() -> None:
    nodes = [
        node("n1", datacenter="p", cluster="x"),
        node("n2", datacenter="p", cluster="x"),
        node("n3", datacenter="p", cluster="y"),
        node("n4", datacenter="q", cluster="z"),
    ]
    there = snapshot(nodes, app(part(), **using({"use": "spread"})))
    assert nodes_chosen(there, 6) == ["n1", "n4", "n3", "n4", "n2", "n4"]


def test_spread_takes_the_least_used_of_equals() -> None:
    rows = [placed("other", "n1")]
    there = snapshot([node("n1"), node("n2")], app(part(), part("other"), **using({"use": "spread"})), placements=rows)
    assert nodes_chosen(there) == ["n2"]


def test_nearest_goes_to_the_component_it_talks_to() -> None:
    links = {"n1": 0.03, "n2": 0.01, "n3": 0.02}
    nodes = [node("n0")] + [node(name, network=[{"to": "node:n0", "latency": rtt}]) for name, rtt in links.items()]
    parts = (part(interactions=[{"to": "source"}]), part("source"))
    there = snapshot(
        nodes[1:] + nodes[:1], app(*parts, **using({"use": "nearest"})), placements=[placed("source", "n0")]
    )
    assert nodes_chosen(there) == ["n0"], "the same node is nearest"
    away = snapshot(there.nodes[:3], *there.applications, placements=there.placements)
    assert nodes_chosen(away) == ["n1"], "without a link to anything all are equal"
    cordoned = snapshot([*nodes[1:], node("n0", cordoned=True)], *there.applications, placements=there.placements)
    assert nodes_chosen(cordoned) == ["n2"]
    # The other way round: a component that is called goes to its callers.
    callee = app(part("source"), part("caller", interactions=[{"to": "source"}]), **using({"use": "nearest"}))
    there = snapshot(cordoned.nodes, callee, placements=[placed("caller", "n0")])
    assert nodes_chosen(there, component="source") == ["n2"]


def test_nearest_refuses_what_is_too_far() -> None:
    nodes = [node("n0", cordoned=True), node("n1", network=[{"to": "node:n0", "latency": 0.03}]), node("n2")]
    uses = using({"use": "nearest", "options": {"to": ["n0"], "rttMax": "20ms"}})
    told = PLANNER.why(snapshot(nodes, app(part(), **uses)), "app", "part")
    reasons = {one.node: [f.reason for f in one.failures if f.constraint == "policy nearest"] for one in told.nodes}
    assert reasons == {
        "n0": [],
        "n1": ["round trip 30ms, rttMax is 20ms"],
        "n2": ["no link is described, rttMax is 20ms"],
    }


def test_static_takes_turns_in_the_order_of_the_list() -> None:
    nodes = [node(f"n{at}") for at in range(1, 5)]
    uses = using({"use": "static", "options": {"nodes": ["n1"], "components": {"part": ["n3", "n2"]}}})
    there = snapshot(nodes, app(part(), part("other"), **uses))
    assert nodes_chosen(there, 3) == ["n3", "n2", "n3"]
    assert nodes_chosen(there, 2, "other") == ["n1", "n1"]


def tariff(*sources: tuple[str, float, float]) -> dict[str, object]:
    return {
        "idle": 10.0,
        "max": 110.0,
        "sources": [
            {"name": f"s{at}", "windows": [window], "price": price, "co2": co2}
            for at, (window, price, co2) in enumerate(sources)
        ],
    }


DAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
NIGHT = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(("wall", "expected"), [(DAY, "n1"), (NIGHT, "n2")], ids=["day", "night"])
def test_greenest_follows_the_sun(wall: datetime, expected: str) -> None:
    solar = tariff(("08:00-18:00", 0.3, 20.0), ("18:00-08:00", 0.3, 400.0))
    wind = tariff(("00:00-24:00", 0.3, 150.0))
    nodes = [node("n1", power=solar), node("n2", power=wind), node("n3")]
    there = snapshot(nodes, app(part(cpu=1), **using({"use": "greenest"})), wall=wall)
    assert nodes_chosen(there) == [expected]


@pytest.mark.parametrize(("wall", "expected"), [(DAY, "n2"), (NIGHT, "n1")], ids=["day", "night"])
def test_cheapest_follows_the_tariff(wall: datetime, expected: str) -> None:
    night = tariff(("22:00-06:00", 0.05, 300.0), ("06:00-22:00", 0.5, 300.0))
    nodes = [node("n1", power=night), node("n2", power=tariff(("00:00-24:00", 0.2, 300.0)))]
    there = snapshot(nodes, app(part(cpu=1), **using({"use": "cheapest"})), wall=wall)
    assert nodes_chosen(there) == [expected]


def test_cheapest_counts_the_share_of_the_node() -> None:
    nodes = [node("n1", price=0.5), node("n2", price=1.0, hardware={"cpu": 64.0, "memory": 256 * GIB})]
    there = snapshot(nodes, app(part(cpu=1, memory=GIB), **using({"use": "cheapest"})))
    assert nodes_chosen(there) == ["n2"]


def test_a_target_of_the_slice_that_is_missed_counts_too() -> None:
    nodes = [
        node("n1", price=0.1, power=tariff(("00:00-24:00", 0.1, 500.0))),
        node("n2", price=0.2, power=tariff(("00:00-24:00", 0.1, 10.0))),
    ]
    application = app(part(cpu=1), **using({"use": "cheapest"}))
    assert nodes_chosen(snapshot(nodes, application)) == ["n1"]
    far = {"targets": [{"metric": "co2", "target": 1000, "weight": 5}]}
    assert nodes_chosen(snapshot(nodes, application, slice_=far)) == ["n1"]
    missed = {"targets": [{"metric": "co2", "target": 2, "weight": 5}]}
    assert nodes_chosen(snapshot(nodes, application, slice_=missed)) == ["n2"]


def test_balanced_weighs_load_distance_and_siblings() -> None:
    near = [{"to": "node:n0", "latency": 0.001}]
    nodes = [node("n0", cordoned=True), node("n1", network=near), node("n2", hardware={"cpu": 8.0, "memory": 16 * GIB})]
    parts = (part(cpu=1, memory=GIB, interactions=[{"to": "source"}]), part("source"))
    there = snapshot(nodes, app(*parts), placements=[placed("source", "n0")])
    assert nodes_chosen(there) == ["n1"], "close to what it talks to"
    heavy = app(*parts, **using({"use": "balanced", "options": {"latency": 0}}))
    assert nodes_chosen(snapshot(nodes, heavy, placements=there.placements)) == ["n2"], "the emptier one"
    apart = app(*parts, **using({"use": "balanced", "options": {"spread": 3}}))
    rows = [*there.placements, placed("part", "n1")]
    assert nodes_chosen(snapshot(nodes, apart, placements=rows)) == ["n2"], "apart from its sibling"


def test_balanced_one_by_one_is_what_it_is_all_at_once() -> None:
    """`score` and `score_all` do the same operations on the same numbers."""
    view = mixed(200, NoMetrics()).of("classify")
    component = APPLICATION.spec.components[1]
    policy = Balanced(load=0.7, spread=1.3, latency=0.9)
    one_by_one = [policy.score(component, one, view) for one in view.nodes]
    assert np.array_equal(policy.score_all(component, view.nodes, view), np.array(one_by_one))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(DescriptionError):
        read_options(Balanced, {"load": -1})

"""Comparing nodes for replicas that are there: which of two stays, and where one would be better off."""

from __future__ import annotations

from dataclasses import replace

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Snapshot

from .small_slice import GIB, app, need, node, part, placed, snapshot


def three() -> Snapshot:
    """n3 is the largest; the component runs on the smallest, which it fills."""
    nodes = [
        node("n1", hardware={"cpu": 1.0}),
        node("n2", hardware={"cpu": 4.0}),
        node("n3", hardware={"cpu": 8.0, "memory": 16 * GIB}),
    ]
    return snapshot(nodes, app(part(cpu=1)), placements=[placed("part", "n1", cpu=1)])


def test_scores_are_as_though_none_were_there() -> None:
    scored = Planner(Policies()).scores(three(), "app", "part", ["n2", "n1", "gone"])
    assert [name for name, _ in scored] == ["n2", "n1"]
    assert scored[0][1] > scored[1][1] == 0.0


def test_a_node_that_refuses_has_no_score() -> None:
    there = replace(three(), nodes=(node("n1", cordoned=True), *three().nodes[1:]))
    assert [name for name, _ in Planner(Policies()).scores(there, "app", "part", ["n1", "n2"])] == ["n2"]
    assert Planner(Policies()).scores(there, "app", "gone", ["n1"]) == ()


def test_the_better_node_is_another_one_with_a_higher_total() -> None:
    planner, there = Planner(Policies()), three()
    assert planner.better_node(there, there.placements[0]) == "n3"
    best = replace(there, placements=(placed("part", "n3", cpu=1),))
    assert planner.better_node(best, best.placements[0]) == ""
    equal = snapshot([node("n1"), node("n2")], app(part(cpu=1)), placements=[placed("part", "n2", cpu=1)])
    assert planner.better_node(equal, equal.placements[0]) == "", "an equal one is not worth a move"
    assert planner.decide(there, [need()]) == Planner(Policies()).decide(there, [need()]), "asking changes nothing"

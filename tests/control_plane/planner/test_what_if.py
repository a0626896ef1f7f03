"""`what-if` tells what a change would do to replicas, and nothing that would happen anyway."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from shoal.control_plane.planner.decide import Planner, decide
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Snapshot
from shoal.control_plane.planner.what_if import changed_snapshot, outdated, what_if
from shoal.descriptions.kinds import Kind, Slice

from .random_slices import slices
from .small_slice import GIB, app, committed, need, node, part, snapshot

POLICIES = Policies()


def running(*parts: dict[str, Any], nodes: int = 3) -> Snapshot:
    """An application that runs where it was decided."""
    there = snapshot([node(f"n{at}") for at in range(1, nodes + 1)], app(*parts))
    needs = [need(one["name"], one.get("replicas", 1)) for one in parts]
    return committed(there, decide(there, needs, POLICIES))


def changes(
    there: Snapshot, *changed: Kind, removed: tuple[tuple[str, str], ...] = ()
) -> list[tuple[str, str, str, str]]:
    told = what_if(there, changed, removed, policies=POLICIES)
    return [(one.change, one.replica, one.before, one.after) for one in told.changes]


def test_nothing_changed_changes_nothing() -> None:
    there = running(part(cpu=1, replicas=2))
    told = what_if(there, there.applications, policies=POLICIES)
    assert told.changes == ()
    assert told.summary == "No replica would change."


def test_more_replicas_start_and_fewer_stop() -> None:
    there = running(part(cpu=1, replicas=2))
    assert changes(there, app(part(cpu=1, replicas=3))) == [("start", "", "", "n3")]
    assert changes(there, app(part(cpu=1, replicas=1))) == [("stop", "app.part.2", "n2", "")]
    assert changes(there, app(part("other"))) == [
        ("stop", "app.part.1", "n1", ""),
        ("stop", "app.part.2", "n2", ""),
        ("start", "", "", "n1"),
    ]


def test_another_description_brings_each_replica_to_it() -> None:
    there = running(part(cpu=1, replicas=2))
    told = what_if(there, [app(part(cpu=2, replicas=2))], policies=POLICIES)
    assert sorted((one.change, one.before) for one in told.changes) == [("move", "n1"), ("move", "n2")]
    assert {one.reason for one in told.changes} == {"its description changes"}
    # What stood where it may not stand any more goes elsewhere.
    assert changes(there, app(part(cpu=1, replicas=2, placement={"nodes": ["n3"]}))) == [
        ("move", "app.part.1", "n1", "n3"),
        ("move", "app.part.2", "n2", "n3"),
    ]


def test_a_drained_node_is_left() -> None:
    there = running(part(cpu=1))
    drained = node("n1", drained=True).node
    told = what_if(there, [drained], policies=POLICIES)
    assert [(one.change, one.before, one.after, one.reason) for one in told.changes] == [
        ("move", "n1", "n2", "its node is drained")
    ]
    assert told.summary == "1 replica would move."


def test_a_removed_node_takes_its_replicas_along() -> None:
    there = running(part(cpu=1))
    assert changes(there, removed=(("Node", "n1"),)) == [("start", "", "", "n2")]
    assert changes(there, removed=(("Application", "app"),)) == [("stop", "app.part.1", "n1", "")]


def test_a_new_node_takes_what_found_none() -> None:
    there = running(part(cpu=3, replicas=2), nodes=1)
    assert changes(there, node("n2").node) == [("start", "", "", "n2")]


def test_what_finds_no_node_is_told_with_the_reason() -> None:
    there = running(part(cpu=1))
    told = what_if(there, [app(part(cpu=1, replicas=20))], policies=POLICIES)
    unplaced = [one for one in told.changes if one.change == "unplaced"]
    assert len(unplaced) == told.unplaced == 8
    assert unplaced[0].reason == "8 replicas of app.part found no node: of 3 nodes fail 3 cpu"


def test_what_would_happen_anyway_is_not_told() -> None:
    there = running(part(cpu=3, replicas=4))
    assert len(there.placements) == 3
    # The fourth replica finds no node with the change as without it, whatever the reason says.
    assert changes(there, Slice.model_validate({"metadata": {"name": "slice"}, "spec": {"currency": "CHF"}})) == []
    assert changes(there, node("n4", cordoned=True).node) == []
    told = what_if(there, [app(part(cpu=3, replicas=6))], policies=POLICIES)
    assert [one.change for one in told.changes] == ["unplaced"] * 2


def test_policies_may_change_too() -> None:
    there = running(part(cpu=1))
    other = Slice.model_validate({"metadata": {"name": "slice"}, "spec": {"policies": [{"use": "binpack"}]}})
    more = app(part(cpu=1, replicas=2))
    assert changes(there, more) == [("start", "", "", "n2")]
    assert changes(there, more, other) == [("start", "", "", "n1")]


def test_only_what_runs_differently_is_outdated() -> None:
    there = running(part(), part("other"))
    same = changed_snapshot(there, [app(part(replicas=5), part("other"), priority=3)])
    assert outdated(there, same) == frozenset()
    other = changed_snapshot(there, [app(part(), part("other", memory=GIB))])
    assert outdated(there, other) == {("app", "other")}


@settings(max_examples=50)
@given(slices)
def test_the_present_is_left_alone(there: Snapshot) -> None:
    planner = Planner(POLICIES)
    before = there, list(there.placements)
    planner.what_if(there, there.applications)
    drained = [
        state.node.model_copy(update={"spec": state.node.spec.model_copy(update={"drained": True})})
        for state in there.nodes
    ]
    told = planner.what_if(there, drained)
    assert (there, list(there.placements)) == before
    assert all(one.after not in {state.node.metadata.name for state in there.nodes} for one in told.changes)

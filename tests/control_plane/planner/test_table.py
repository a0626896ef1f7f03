"""What a planner keeps from the snapshot before is read again when it has changed, and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import NodeState, Snapshot
from shoal.control_plane.planner.table import Table
from shoal.descriptions.kinds import Cluster
from shoal.descriptions.kinds.node import Hardware, NodeStatus
from shoal.policies.node_table import COLUMNS

from .small_slice import GIB, app, chosen, need, node, part, placed, snapshot

DAY, NIGHT = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 23, tzinfo=UTC)


def nodes_after(first: Snapshot, then: Snapshot, count: int = 1) -> list[str]:
    """What a planner that has seen `first` chooses over `then`."""
    planner = Planner(Policies())
    planner.decide(first, [need(count=count)])
    return chosen(planner.decide(then, [need(count=count)]).decisions[0])


def with_status(state: NodeState, **status: Any) -> NodeState:
    return replace(state, node=state.node.model_copy(update={"status": NodeStatus(**status)}))


def test_the_hour_changes_the_tariff() -> None:
    def power(window: str) -> dict[str, Any]:
        source = {"name": "sun", "windows": [window], "co2": 10.0}
        return {"max": 100.0, "sources": [source, {"name": "grid", "co2": 400.0}]}

    nodes = [node("n1", power=power("20:00-06:00")), node("n2", power=power("06:00-20:00"))]
    there = snapshot(nodes, app(part(cpu=1), policies=[{"use": "greenest"}]), wall=DAY)
    assert nodes_after(there, there) == ["n2"]
    assert nodes_after(there, replace(there, wall=NIGHT)) == ["n1"]


@pytest.mark.parametrize(
    "changed",
    [
        {"phase": "suspect"},
        {"mechanisms": ()},
        {"uid": "u-anew"},
    ],
    ids=["phase", "mechanisms", "uid"],
)
def test_a_state_that_changes_around_the_same_node_is_read(changed: dict[str, Any]) -> None:
    there = snapshot([node("n1"), node("n2")], app(part(cpu=3)), placements=[placed("part", "n2", cpu=3)])
    if "uid" in changed:  # what stood on the old one is not on the new one
        there = replace(there, placements=(placed("part", "n1", cpu=3), *there.placements))
    after = replace(there, nodes=(replace(there.nodes[0], **changed), there.nodes[1]))
    assert nodes_after(there, after) == (["n1"] if "uid" in changed else [])


def test_an_edited_description_counts_for_replicas_without_a_reservation_alone() -> None:
    there = snapshot([node("n1")], app(part(cpu=1), part("other", cpu=3)))
    smaller = app(part(cpu=2), part("other", cpu=1))
    unknown = replace(there, placements=(placed("other", "n1", reserved=None),))
    full = replace(unknown, applications=(app(part(cpu=2), part("other", cpu=3)),))
    assert nodes_after(full, full) == []
    assert nodes_after(full, replace(unknown, applications=(smaller,))) == ["n1"]
    known = replace(there, placements=(placed("other", "n1", cpu=4),))
    assert nodes_after(known, replace(known, applications=(smaller,))) == []


def test_columns_are_kept_while_nothing_but_heartbeats_change_a_node() -> None:
    found = {"hardware": Hardware(memory=2 * GIB)}
    state = with_status(node("n1", hardware={"memory": None}), **found, last_seen="1")
    first = Table(snapshot([state, node("n2")]))
    later = with_status(state, **found, last_seen="2", observed_generation=9)
    again = Table(replace(first.snapshot, nodes=(later, first.snapshot.nodes[1])), first)
    assert again.layout is first.layout
    grown = with_status(state, hardware=Hardware(memory=4 * GIB))
    assert Table(replace(first.snapshot, nodes=(grown, first.snapshot.nodes[1])), again).layout is not first.layout


def test_clusters_are_read_again_when_they_change() -> None:
    def cluster(name: str, *nodes: str) -> Cluster:
        return Cluster.model_validate({"metadata": {"name": name}, "spec": {"nodes": nodes}})

    clusters = [cluster("x", "a"), cluster("y", "b")]
    there = snapshot([node("a"), node("b")], app(part()), clusters=clusters)
    first = Table(there)
    assert [one.cluster for one in first.nodes] == ["x", "y"]
    assert Table(replace(there, version=8), first).layout is first.layout
    moved = replace(there, clusters=(cluster("z", "a", "b"),))
    assert [one.cluster for one in Table(moved, first).nodes] == ["z", "z"]


def test_what_is_described_wins_over_what_was_found() -> None:
    state = with_status(node("n1", hardware={"cpu": None, "memory": 2 * GIB}), hardware=Hardware(cpu=2.0, memory=GIB))
    (row,) = Table(snapshot([state])).nodes
    assert (row.cpu, row.memory_bytes) == (2.0, 2 * GIB)


def test_every_column_has_a_row_for_each_node() -> None:
    table = Table(snapshot([node("n2"), node("n1"), node("n3")]))
    assert table.nodes.names == ("n1", "n2", "n3")
    assert {len(getattr(table.nodes, name)) for name in COLUMNS} == {3}
    assert table.digest() == Table(snapshot([node("n3"), node("n1"), node("n2")])).digest()
    assert table.digest() != Table(snapshot([node("n1"), node("n2"), node("n3", cordoned=True)])).digest()

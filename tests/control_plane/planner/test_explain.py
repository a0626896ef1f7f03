"""`why` tells every failing constraint of every node, every score, and what would bring a replica to a node."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.control_plane.planner.decide import Planner, decide
from shoal.control_plane.planner.explain import why
from shoal.control_plane.planner.explanation import Explanation
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Need, Snapshot
from shoal.descriptions.errors import RefusedError

from .random_slices import slices
from .small_slice import GIB, MIB, app, committed, need, node, part, placed, snapshot

POLICIES = Policies()


def told(there: Snapshot, name: str = "", component: str = "part") -> Explanation:
    return why(there, "app", component, name, policies=POLICIES)


def three_nodes() -> Snapshot:
    nodes = [
        node("n1", hardware={"cpu": 8.0, "memory": 16 * GIB}),
        node("n2"),
        node("n3", hardware={"memory": GIB}, cordoned=True),
    ]
    return snapshot(nodes, app(part(cpu=1, memory=1144 * MIB)))


def test_the_full_table_is_best_first_and_the_refused_last() -> None:
    explanation = told(three_nodes())
    assert [(one.node, one.feasible, one.rank) for one in explanation.nodes] == [
        ("n1", True, 1),
        ("n2", True, 2),
        ("n3", False, None),
    ]
    assert explanation.would_choose == ("n1",)
    assert [(one.constraint, one.nodes) for one in explanation.counts] == [("cordon", 1), ("memory", 1)]
    assert [(one.name, one.version, one.weight, one.options) for one in explanation.policies] == [
        ("balanced", "1", 1.0, "{}")
    ]
    first, second, _ = explanation.nodes
    assert [(score.policy, score.scaled) for score in first.scores] == [("balanced", 1.0)]
    assert [(score.policy, score.scaled) for score in second.scores] == [("balanced", 0.0)]
    assert explanation.summary == "2 of 3 nodes can take a replica of app.part; n1 would be chosen."


def test_the_smallest_change_lifts_all_that_fails() -> None:
    (refused,) = told(three_nodes(), "n3").nodes
    assert refused.change == "uncordon it and free 120Mi of memory"
    assert told(three_nodes(), "n3").summary == (
        "n3 can't take a replica of app.part: cordon: cordoned; memory: needs 1144Mi, 1Gi of 1Gi are free. "
        "To change that: uncordon it and free 120Mi of memory."
    )


def test_the_smallest_change_of_a_node_that_ranks_behind_is_more_replicas() -> None:
    explanation = told(three_nodes(), "n2")
    assert explanation.nodes[0].change == "raise replicas to 2"
    assert explanation.summary == (
        "n2 could take a replica of app.part; it ranks 2 of 2 with 0.000, and n1 would be chosen before it. "
        "To change that: raise replicas to 2."
    )


@settings(max_examples=100)
@given(slices, st.data())
def test_the_smallest_change_holds_when_it_is_made(there: Snapshot, data: st.DataObject) -> None:
    """ "Raise replicas to N" is true: with N replicas the node gets one, with N - 1 it does not."""
    keys = [(one.metadata.name, one_part.name) for one in there.applications for one_part in one.spec.components]
    application, component = data.draw(st.sampled_from(keys))
    explanation = why(there, application, component, policies=POLICIES)
    planner = Planner(POLICIES)
    for one in explanation.nodes:
        if one.change.startswith("raise replicas to "):
            wanted = int(one.change.rpartition(" ")[2])
            table = planner.table(there)
            mine = [row.id for row in table.running(application, component) if not row.lost]
            alone = replace(there, placements=tuple(row for row in there.placements if row.id not in mine))
            for count, expected in ((wanted, True), (wanted - 1, False)):
                got = decide(alone, [Need(application, component, count, "initial")], POLICIES).decisions[0]
                assert (one.node in [a.node_name for a in got.assignments]) == expected


@settings(max_examples=100)
@given(slices, st.data())
def test_what_why_would_choose_is_what_decide_chooses(there: Snapshot, data: st.DataObject) -> None:
    keys = [(one.metadata.name, one_part.name) for one in there.applications for one_part in one.spec.components]
    application, component = data.draw(st.sampled_from(keys))
    alone = replace(
        there, placements=tuple(r for r in there.placements if (r.application, r.component) != (application, component))
    )
    explanation = why(alone, application, component, policies=POLICIES)
    count = len(explanation.would_choose) + explanation.unplaced
    decision = decide(alone, [Need(application, component, count, "initial")], POLICIES).decisions[0]
    assert explanation.would_choose == tuple(one.node_name for one in decision.assignments)
    feasible = [one for one in explanation.nodes if one.feasible]
    assert [one.rank for one in feasible] == list(range(1, len(feasible) + 1))
    assert all(bool(one.failures) != one.feasible for one in explanation.nodes)


def test_a_running_component_is_explained_without_itself() -> None:
    there = three_nodes()
    after = committed(there, decide(there, [need()], POLICIES))
    explanation = told(after, "n1")
    (one,) = explanation.nodes
    assert (one.running, one.chosen, one.feasible) == (1, 1, True)
    assert explanation.running_on == ("n1",)
    assert explanation.summary == (
        "n1 runs 1 replica of app.part: it ranks 1 of 2 with 1.000 and would be chosen for 1 replica again."
    )


def test_what_a_component_holds_itself_does_not_stand_in_its_way() -> None:
    there = snapshot([node("n1")], app(part(cpu=3)), placements=[placed("part", "n1", cpu=3)])
    assert told(there, "n1").nodes[0].feasible


def test_what_runs_on_a_node_that_refuses_now_is_told_so() -> None:
    there = replace(three_nodes(), placements=(placed("part", "n3"),))
    assert told(there, "n3").summary.startswith(
        "n3 runs 1 replica of app.part, which stay until something moves them, but it can't take"
    )


def test_nothing_fits_names_the_closest() -> None:
    there = snapshot([node("n1", cordoned=True), node("n2", phase="lost", cordoned=True)], app(part()))
    assert told(there).summary == (
        "No node can take a replica of app.part: of 2 nodes fail 2 cordon, 1 phase. Closest is n1: uncordon it."
    )


def test_asking_changes_nothing() -> None:
    there = three_nodes()
    planner = Planner(POLICIES)
    before = planner.decide(there, [need(count=4)])
    planner.why(there, "app", "part")
    planner.why(there, "app", "part", "n3")
    assert planner.decide(there, [need(count=4)]) == before


@pytest.mark.parametrize(
    ("component", "name", "message"),
    [("gone", "", "app has no component gone"), ("part", "n9", "there is no node n9")],
)
def test_what_the_snapshot_does_not_know_is_refused(component: str, name: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        told(three_nodes(), name, component)


def test_the_answer_travels_as_json() -> None:
    explanation = told(three_nodes())
    data = msgspec.json.encode(explanation)
    assert b'"wouldChoose":["n1"]' in data
    assert msgspec.json.decode(data, type=Explanation) == explanation

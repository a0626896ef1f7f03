"""Safety and liveness: never over capacity, never on a refused node, whatever fits is placed, the same again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.control_plane.placement import Placement, Reservation
from shoal.control_plane.planner.decide import Planner, decide
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.round import Round, Trial
from shoal.control_plane.planner.snapshot import Need, NodeState, PlanProposal, Snapshot
from shoal.control_plane.planner.table import Table

from .random_slices import seeds, slices_with_needs
from .small_slice import (
    GIB,
    MIB,
    app,
    chosen,
    committed,
    need,
    node,
    part,
    placed,
    policy,
    record_of,
    snapshot,
)

POLICIES = Policies()
many = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def capacity_of(state: NodeState) -> tuple[int, int, int]:
    hardware = state.node.spec.hardware
    return round((hardware.cpu or 0) * 1000), hardware.memory or 0, hardware.disk or 0


def held_by(rows: Iterable[tuple[str, Reservation]]) -> dict[str, Counter[str]]:
    """Per node name: millicores, bytes and accelerators."""
    held: dict[str, Counter[str]] = {}
    for name, one in rows:
        total = held.setdefault(name, Counter())
        total.update(cpu=one.cpu_millis, memory=one.memory_bytes, disk=one.disk_bytes)
        total.update({f"{a.type}/{a.model}/{a.memory_bytes}": a.count for a in one.accelerators})
    return held


def reserved_by(there: Snapshot, row: Placement) -> Reservation:
    """What a committed replica holds, by its row or else by its description."""
    if row.reserved is not None:
        return row.reserved
    (described,) = (
        part
        for one in there.applications
        if one.metadata.name == row.application
        for part in one.spec.components
        if part.name == row.component
    )
    model = next((one for one in there.models if described.inference), None)
    memory = described.resources.memory or (model.spec.memory or 0 if model else 0)
    return Reservation(round(described.resources.cpu * 1000), memory, described.resources.disk)


def check_capacity(there: Snapshot, proposal: PlanProposal) -> None:
    """What the proposal adds fits into what committed replicas leave, whatever replaces what."""
    before = held_by((row.node_name, reserved_by(there, row)) for row in there.placements)
    added = held_by((one.node_name, one.reserved) for d in proposal.decisions for one in d.assignments)
    for state in there.nodes:
        name = state.node.metadata.name
        more, total = added.get(name, Counter()), before.get(name, Counter()) + added.get(name, Counter())
        limits: dict[str, int] = dict(zip(("cpu", "memory", "disk"), capacity_of(state), strict=True))
        for one in state.node.spec.accelerators:
            kind = f"{one.type}/{one.model or ''}/{one.memory}"
            limits[kind] = limits.get(kind, 0) + one.count
        assert all(total[what] <= limits.get(what, 0) for what in more if more[what]), (name, total, limits)


@many
@given(slices_with_needs, seeds)
def test_never_over_capacity(count_case: Callable[[], None], drawn: tuple[Snapshot, list[Need]], seed: int) -> None:
    there, needs = drawn
    count_case()
    proposal = decide(there, needs, POLICIES, seed)
    check_capacity(there, proposal)
    # Nor when the next proposal builds on what was committed.
    after = committed(there, proposal)
    check_capacity(after, decide(after, [replace(one, replaces=()) for one in needs], POLICIES, seed))


@many
@given(slices_with_needs)
def test_never_on_a_refused_node_and_whatever_fits_is_placed(
    count_case: Callable[[], None], drawn: tuple[Snapshot, list[Need]]
) -> None:
    there, needs = drawn
    table = Table(there)
    current = Round(table, POLICIES, 0)
    for one in needs:
        found = table.component(one.application, one.component)
        assert found is not None
        count_case()
        for replica in range(one.count):
            # One replica at a time: what the need would see at that moment.
            step = replace(one, count=1, replaces=one.replaces if replica == 0 else ())
            looks: list[list[bool]] = []
            trial = current.run(step, *found, look=lambda trial, seen=looks: seen.append(_fits(trial)))  # type: ignore[misc]
            (fits,) = looks
            assert len(trial.rows) == (1 if any(fits) else 0)
            assert all(fits[row] for row in trial.rows)
            current.close_trial(trial)


def _fits(trial: Trial) -> list[bool]:
    refused = dict(trial.scoring.refusals)
    return [
        not trial.evaluation.failures(row) and not any(mask[row] for mask in refused.values())
        for row in range(len(trial.question.table.nodes))
    ]


@many
@given(slices_with_needs, seeds)
def test_same_seed_same_answer_whatever_the_order(
    count_case: Callable[[], None], drawn: tuple[Snapshot, list[Need]], seed: int
) -> None:
    there, needs = drawn
    count_case()
    shuffled = Random(seed)
    other = replace(
        there,
        nodes=tuple(shuffled.sample(there.nodes, len(there.nodes))),
        applications=tuple(shuffled.sample(there.applications, len(there.applications))),
        placements=tuple(shuffled.sample(there.placements, len(there.placements))),
    )
    again = decide(other, shuffled.sample(needs, len(needs)), POLICIES, seed)
    assert again == decide(there, needs, POLICIES, seed)


@many
@given(slices_with_needs, slices_with_needs, seeds)
def test_columns_kept_from_snapshot_to_snapshot_change_nothing(
    count_case: Callable[[], None],
    first: tuple[Snapshot, list[Need]],
    second: tuple[Snapshot, list[Need]],
    seed: int,
) -> None:
    count_case()
    planner = Planner(POLICIES)
    there, needs = first
    for _ in range(2):
        proposal = planner.decide(there, needs, seed)
        assert proposal == decide(there, needs, Policies(), seed)
        there = committed(there, proposal)
        needs = [replace(one, replaces=()) for one in needs]
    changed = replace(second[0], version=there.version)
    assert planner.decide(changed, second[1], seed) == decide(changed, second[1], Policies(), seed)


@given(st.data())
@settings(max_examples=100)
def test_replicas_of_one_need_are_placed_as_one_by_one(data: st.DataObject) -> None:
    """Ranks kept up to date between replicas give what deciding each replica anew gives."""
    there, needs = data.draw(slices_with_needs)
    for one in needs:
        whole = decide(there, [replace(one, replaces=())], POLICIES, 3).decisions[0]
        table = Table(there)
        found = table.component(one.application, one.component)
        assert found is not None
        singles: list[str] = []
        for left in range(one.count, 0, -1):
            current = Round(table, POLICIES, 3)
            step = replace(one, replaces=(), count=left)
            trial = current.open_trial(step, *found, {})
            current.choose(trial, 1)
            current.close_trial(trial)
            singles += [table.nodes.names[row] for row in trial.rows]
        assert chosen(whole) == singles


def test_replicas_go_to_the_emptiest_nodes_and_apart() -> None:
    nodes = [node("n1"), node("n2", hardware={"cpu": 16.0, "memory": 32 * GIB}), node("n3")]
    there = snapshot(nodes, app(part(cpu=1, memory=GIB)))
    (decision,) = decide(there, [need(count=3)], POLICIES).decisions
    assert chosen(decision) == ["n2", "n1", "n3"]
    assert decision.summary == "3 replicas of app.part placed on n2, n1, n3"


def test_no_node_fits_is_an_answer_with_counts() -> None:
    nodes = [node("n1", layer="cloud"), node("n2", cordoned=True), node("n3", hardware={"memory": GIB})]
    there = snapshot(nodes, app(part(memory=2 * GIB, placement={"layers": ["edge"]})))
    (decision,) = decide(there, [need(count=2)], POLICIES).decisions
    assert decision.assignments == ()
    assert decision.unplaced == 2
    assert decision.summary == ("2 replicas of app.part found no node: of 3 nodes fail 1 cordon, 1 layers, 1 memory")
    assert record_of(decision).counts == {"cordon": 1, "layers": 1, "memory": 1}


def test_what_does_not_fit_any_more_is_told_with_the_counts_of_that_moment() -> None:
    there = snapshot([node("n1"), node("n2")], app(part(cpu=3)))
    (decision,) = decide(there, [need(count=3)], POLICIES).decisions
    assert chosen(decision) == ["n1", "n2"]
    assert decision.unplaced == 1
    assert record_of(decision).counts == {"cpu": 2}
    assert decision.summary.endswith("no node for the rest: of 2 nodes fail 2 cpu")


def test_an_empty_slice_is_no_error() -> None:
    (decision,) = decide(snapshot([], app(part())), [need()], POLICIES).decisions
    assert decision.summary == "1 replica of app.part found no node: the slice has no nodes"


def test_a_need_that_nobody_describes_is_answered() -> None:
    there = snapshot([node("n1")], app(part()))
    decisions = decide(there, [need("gone"), need("part", application="gone")], POLICIES).decisions
    assert [one.summary for one in decisions] == [
        "app.gone is not described in version 7",
        "gone.part is not described in version 7",
    ]
    assert [one.unplaced for one in decisions] == [1, 1]


def test_higher_priority_is_placed_first() -> None:
    low, high = app(part(cpu=3), name="a-low"), app(part(cpu=3), name="b-high", priority=5)
    there = snapshot([node("n1")], low, high)
    proposal = decide(there, [need(application="a-low"), need(application="b-high")], POLICIES)
    assert {one.need.application: chosen(one) for one in proposal.decisions} == {"a-low": [], "b-high": ["n1"]}


def test_a_replaced_replica_holds_its_node_until_it_is_gone() -> None:
    there = snapshot([node("n1"), node("n2")], app(part(cpu=3)), placements=[placed("part", "n1", cpu=3)])
    moving = need(replaces=("app.part.1",), cause="move")
    (decision,) = decide(there, [moving], POLICIES).decisions
    assert chosen(decision) == ["n2"]
    assert decision.assignments[0].replaces == "app.part.1"
    assert decision.assignments[0].reserved == Reservation(cpu_millis=3000)
    full = replace(there, nodes=there.nodes[:1])
    assert decide(full, [moving], POLICIES).decisions[0].unplaced == 1


def test_a_replaced_replica_is_no_sibling_of_its_successor() -> None:
    alone = part(placement={"antiAffinity": [{"component": "part"}]})
    there = snapshot([node("n1")], app(alone), placements=[placed("part", "n1")])
    assert decide(there, [need()], POLICIES).decisions[0].unplaced == 1
    assert chosen(decide(there, [need(replaces=("app.part.1",))], POLICIES).decisions[0]) == ["n1"]
    # Nor when the successor is committed and starting, and another need looks.
    successor = placed("part", "n2", 2, replaces="app.part.1", phase="starting")
    later = replace(there, nodes=(node("n1"), node("n2")), placements=(*there.placements, successor))
    assert chosen(decide(later, [need()], POLICIES).decisions[0]) == ["n1"]
    # Unless it never gets ready and is stopped: then the old one counts again.
    stopped = placed("part", "n2", 2, replaces="app.part.1", wanted="stop")
    failed = replace(later, placements=(*there.placements, stopped))
    assert chosen(decide(failed, [need()], POLICIES).decisions[0]) == ["n2"]


def test_a_stopping_replica_of_a_deleted_application_still_holds_its_node() -> None:
    there = snapshot(
        [node("n1")], app(part(cpu=3)), placements=[placed("old", "n1", application="gone", cpu=2, wanted="stop")]
    )
    assert decide(there, [need()], POLICIES).decisions[0].unplaced == 1


def test_what_stood_on_a_node_that_was_made_anew_holds_nothing() -> None:
    there = snapshot([node("n1", uid="u-second")], app(part(cpu=3)), placements=[placed("part", "n1", cpu=3)])
    assert chosen(decide(there, [need()], POLICIES).decisions[0]) == ["n1"]


def test_quotas_count_neither_lost_nor_replaced_replicas() -> None:
    rows = [placed("part", "n1", 1, lost=True), placed("part", "n1", 2)]
    there = snapshot([node("n1"), node("n2")], app(part()), placements=rows, slice_={"quotas": {"replicas": 1}})
    assert decide(there, [need()], POLICIES).decisions[0].unplaced == 1
    assert decide(there, [need(replaces=("app.part.2",))], POLICIES).decisions[0].unplaced == 0


def test_a_quota_holds_within_one_proposal() -> None:
    there = snapshot([node("n1"), node("n2")], app(part("a"), part("b")), slice_={"quotas": {"replicas": 3}})
    proposal = decide(there, [need("a", 2), need("b", 2)], POLICIES)
    assert [one.unplaced for one in proposal.decisions] == [0, 1]
    assert record_of(proposal.decisions[1]).counts == {"quota replicas": 2}


def test_required_spread_is_kept_while_replicas_are_placed() -> None:
    nodes = [node("n1", cluster="x"), node("n2", cluster="x"), node("n3", cluster="y", hardware={"cpu": 1.0})]
    spread = part(cpu=0.5, placement={"spread": [{"topology": "cluster", "maxSkew": 1, "required": True}]})
    (decision,) = decide(snapshot(nodes, app(spread)), [need(count=6)], POLICIES).decisions
    assert Counter(chosen(decision))["n3"] == 2
    assert len(decision.assignments) == 5, "the third on y does not fit, so x may be ahead by one alone"
    assert record_of(decision).counts["spread cluster"] == 2


def test_own_anti_affinity_is_kept_while_replicas_are_placed() -> None:
    nodes = [node("n1", cluster="x"), node("n2", cluster="x"), node("n3", cluster="y")]
    apart = part(placement={"antiAffinity": [{"component": "part", "topology": "cluster"}]})
    (decision,) = decide(snapshot(nodes, app(apart)), [need(count=3)], POLICIES).decisions
    assert chosen(decision) == ["n1", "n3"]
    assert decision.unplaced == 1


def test_components_that_stand_with_others_are_decided_after_them_and_thought_of_before() -> None:
    nodes = [node("n1", hardware={"cpu": 16.0}), node("n2", labels={"gpu": "yes"})]
    follower = part(
        "a-follower", cpu=1, placement={"colocate": ["leader"], "labels": [{"key": "gpu", "operator": "Exists"}]}
    )
    there = snapshot(nodes, app(follower, part("leader", cpu=1)))
    proposal = decide(there, [need("a-follower"), need("leader")], POLICIES)
    assert [(one.need.component, chosen(one)) for one in proposal.decisions] == [
        ("leader", ["n2"]),
        ("a-follower", ["n2"]),
    ]


def test_two_that_want_to_stand_together_do() -> None:
    one = part("a", placement={"affinity": [{"component": "b"}]})
    other = part("b", placement={"affinity": [{"component": "a"}]})
    proposal = decide(snapshot([node("n1"), node("n2")], app(one, other)), [need("a"), need("b")], POLICIES)
    assert [chosen(decision) for decision in proposal.decisions] == [["n1"], ["n1"]]


def test_one_that_serves_many_callers_goes_where_it_reaches_all() -> None:
    near = [{"to": "node:n1", "latency": 0.01}, {"to": "node:n2", "latency": 0.01}]
    nodes = [node("n1"), node("n2"), node("n3", network=near), node("n4", network=near[:1])]
    there = snapshot(
        nodes,
        app(part("caller", interactions=[{"to": "part", "latency": 0.02}]), part()),
        placements=[placed("caller", "n1", 1), placed("caller", "n2", 2)],
    )
    assert chosen(decide(there, [need(count=1)], POLICIES).decisions[0]) == ["n3"]
    # Two replicas may share the callers between them.
    assert len(chosen(decide(there, [need(count=2)], POLICIES).decisions[0])) == 2


def test_preferences_decide_between_equals() -> None:
    nodes = [node("n1", cluster="x"), node("n2", cluster="x"), node("n3", cluster="y")]
    soft = part(placement={"spread": [{"topology": "cluster"}]})
    rows = [placed("part", "n1")]
    assert chosen(decide(snapshot(nodes, app(soft), placements=rows), [need()], POLICIES).decisions[0]) == ["n3"]
    drawn = part(placement={"affinity": [{"component": "other", "topology": "cluster", "required": False}]})
    there = snapshot(nodes, app(drawn, part("other")), placements=[placed("other", "n3")])
    assert chosen(decide(there, [need()], POLICIES).decisions[0]) == ["n3"]


def test_policies_of_the_application_win_over_those_of_the_slice() -> None:
    nodes = [node("n1", price=1.0), node("n2", price=0.1)]
    cheap = app(part(cpu=1, memory=GIB), name="cheap", policies=[{"use": "cheapest"}])
    usual = app(part(cpu=1, memory=GIB), name="usual")
    there = snapshot(nodes, cheap, usual, slice_={"policies": [{"use": "binpack"}]})
    proposal = decide(there, [need(application="cheap"), need(application="usual")], POLICIES)
    assert [chosen(one) for one in proposal.decisions] == [["n2"], ["n2"]]
    assert [[p.name for p in record_of(one).policies] for one in proposal.decisions] == [["cheapest"], ["binpack"]]


def test_policy_objects_decide_beside_them() -> None:
    nodes = [node("n1"), node("n2")]
    extra = policy("only-n2", "static", options={"nodes": ["n2"]}, applications=["app"])
    off = policy("off", "static", options={"nodes": ["n1"]}, enabled=False)
    there = snapshot(nodes, app(part()), app(part(), name="other"), policies=[extra, off])
    proposal = decide(there, [need(), need(application="other")], POLICIES)
    assert [chosen(one) for one in proposal.decisions] == [["n2"], ["n1"]]
    assert [p.name for p in record_of(proposal.decisions[0]).policies] == ["balanced", "static"]
    assert record_of(proposal.decisions[0]).counts == {"policy static": 1}


def test_an_unknown_policy_or_wrong_options_let_the_built_in_decide_and_are_told() -> None:
    there = snapshot(
        [node("n1")], app(part(), policies=[{"use": "nearst"}, {"use": "static", "options": {"node": []}}])
    )
    proposal = decide(there, [need()], Policies())
    assert chosen(proposal.decisions[0]) == ["n1"]
    assert [one.policy for one in proposal.faults] == ["nearst", "static"]
    assert "did you mean 'nearest'?" in proposal.faults[0].message
    assert [(p.name, bool(p.fault)) for p in record_of(proposal.decisions[0]).policies] == [
        ("nearst", True),
        ("static", True),
        ("balanced", False),
    ]


def test_the_built_in_stands_in_with_the_weight_of_what_it_replaces() -> None:
    there = snapshot([node("n1")], app(part(), policies=[{"use": "gone", "weight": 3}, {"use": "cheapest"}]))
    record = record_of(decide(there, [need()], Policies()).decisions[0])
    assert [(one.name, one.weight) for one in record.policies] == [("gone", 3.0), ("cheapest", 1.0), ("balanced", 3.0)]
    assert record.scoring == ("cheapest", "balanced")


def test_weights_count() -> None:
    nodes = [node("n1", price=1.0), node("n2", price=0.1)]
    parts = part(cpu=1, memory=MIB)
    for weight, expected in ((3.0, "n2"), (0.1, "n1")):
        uses = [{"use": "cheapest", "weight": weight}, {"use": "static", "options": {"nodes": ["n1", "n2"]}}]
        assert chosen(decide(snapshot(nodes, app(parts, policies=uses)), [need()], POLICIES).decisions[0]) == [expected]

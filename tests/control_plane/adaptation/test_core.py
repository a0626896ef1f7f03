"""Adaptation as a whole: these looks give exactly these actions and records."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.control_plane.adaptation import (
    Act,
    ActionCommitted,
    ActionRejected,
    Adaptation,
    DemandSeen,
    Explain,
    LookAt,
    Looked,
    PlanAgain,
    PolicyPlan,
)
from shoal.control_plane.adaptation.memory import PENDING_S_MAX
from shoal.control_plane.adaptation.wanted import wanted
from shoal.control_plane.inputs import MoveWanted, ScaleWanted, SettingWanted
from shoal.descriptions.kinds.application import Scaling
from shoal.descriptions.messages.reported import MechanismReport
from shoal.policies.actions import Action, Move, Scale, Set

from .adaptation_world import (
    KEY,
    Readings,
    acts,
    application,
    component,
    explained,
    latency,
    look,
    node,
    placement,
    readings,
    ready,
    reasons,
    scaling,
    snapshot,
)

WEB = application(component(scale=scaling(0, 10)))


def plan(name: str, *actions: Action, weight: float = 1.0) -> PolicyPlan:
    return PolicyPlan(name, weight, actions)


def test_load_over_target_scales_up_and_says_why() -> None:
    effects = look(Adaptation(), snapshot(WEB, placements=ready(2), metrics=readings(load=38.0), version=7), 100.0)
    (act,) = effects
    assert isinstance(act, Act)
    assert (act.cause, act.id, act.base_version) == ("look-100", "look-100/1", 7)
    assert isinstance(act.action, Scale)
    assert act.action.replicas == 4
    assert act.record.rule == "signal"
    assert act.record.reason == "4 replicas: 38 of load at 10 a replica asks for 4 replicas; 2 wanted, 2 ready"


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        pytest.param(readings(), "no reading of rate of load over 30 s; 2 replicas stay", id="missing"),
        pytest.param(readings(age_s=99.0, load=500.0), "99 s old; 2 replicas stay", id="stale"),
        pytest.param(readings(load=math.nan), "not a number", id="nonsense"),
    ],
)
def test_without_a_fresh_reading_nothing_is_done_and_that_is_said_once(metrics: Readings, told: str) -> None:
    core = Adaptation()
    first = look(core, snapshot(WEB, placements=ready(2), metrics=metrics), 0.0)
    assert explained(first) == [("scaling", "held", "noReading")]
    assert told in reasons(first)
    assert look(core, snapshot(WEB, placements=ready(2), metrics=metrics), 5.0) == []


def test_scaling_down_waits_for_a_whole_window_of_low_load() -> None:
    core, quiet = Adaptation(), snapshot(WEB, placements=ready(4), metrics=readings(load=5.0))
    assert explained(look(core, quiet, 0.0)) == [("scaling", "held", "stabilisation")]
    assert look(core, quiet, 30.0) == []
    peak = look(core, snapshot(WEB, placements=ready(4), metrics=readings(load=40.0)), 40.0)
    assert acts(peak) == []
    assert acts(look(core, quiet, 90.0)) == [], "the peak at 40 s is still within the window"
    (act,) = acts(look(core, quiet, 165.0))
    assert isinstance(act.action, Scale)
    assert act.action.replicas == 1


def test_cooldown_is_kept_explained_and_looked_at_again() -> None:
    core = Adaptation()
    assert acts(look(core, snapshot(WEB, placements=ready(1), metrics=readings(load=20.0)), 0.0))
    core.handle(ActionCommitted("c", "look-0/1", 2), 0.1)
    busier = snapshot(WEB, placements=ready(2), metrics=readings(load=60.0), version=2)
    early = look(core, busier, 20.0)
    assert explained(early) == [("scaling", "refused", "cooldown")]
    assert "changed 20 s ago; scaling.cooldown is 60 s" in reasons(early)
    assert [effect.at_s for effect in early if isinstance(effect, LookAt)] == [60.0]
    assert acts(look(core, busier, 60.0))


def test_zero_is_left_on_demand_at_once() -> None:
    core, asleep = Adaptation(), snapshot(WEB, metrics=readings())
    assert acts(look(core, asleep, 0.0)) == []
    assert core.handle(DemandSeen("d", *KEY, waiting=25.0), 1.0) == [LookAt("d", 1.0)]
    (act,) = acts(look(core, asleep, 1.0))
    assert act.action == Scale(*KEY, 1, "25 wait and no replica runs")
    assert act.record.rule == "demand"
    assert "leaves room for 1" in act.record.reason


def test_waking_does_not_wait_for_the_cooldown() -> None:
    core = Adaptation()
    look(core, snapshot(WEB, placements=ready(1), metrics=readings(load=0.0)), 0.0)
    (slept,) = acts(look(core, snapshot(WEB, placements=ready(1), metrics=readings(load=0.0)), 61.0))
    assert isinstance(slept.action, Scale)
    assert slept.action.replicas == 0
    core.handle(ActionCommitted("c", slept.id, 2), 61.0)
    core.handle(DemandSeen("d", *KEY), 62.0)
    (woken,) = acts(look(core, snapshot(WEB, metrics=readings(load=0.0), version=2), 62.0))
    assert isinstance(woken.action, Scale)
    assert woken.action.replicas == 1


def test_demand_is_forgotten_when_nobody_could_meet_it() -> None:
    core = Adaptation()
    core.handle(DemandSeen("d", *KEY), 0.0)
    assert acts(look(core, snapshot(WEB, metrics=readings()), 301.0)) == []


def test_a_missed_target_is_answered_after_enough_windows() -> None:
    app = application(component(scale=scaling(1, 5), qos=(latency(),)))
    seen = snapshot(app, placements=ready(2), metrics=readings(load=20.0, latency=0.05))
    core = Adaptation()
    assert acts(look(core, seen, 0.0)) == []
    assert acts(look(core, seen, 15.0)) == [], "the same window is not counted twice"
    (act,) = acts(look(core, seen, 30.0))
    assert (act.record.source, act.record.rule) == ("qos", "target")
    assert isinstance(act.action, Scale)
    assert act.action.replicas == 3
    assert "p95 of latency over 30 s is 0.05, wanted lowerOrEqual 0.02" in act.record.reason


def test_after_an_answer_the_windows_start_again() -> None:
    app = application(component(qos=(latency(),)))
    seen = snapshot(app, placements=ready(1), metrics=readings(latency=0.05), cooldown=0)
    core = Adaptation(lambda _snapshot, _replica: "n2")
    looks = {now_s: bool(acts(look(core, seen, now_s))) for now_s in (0.0, 30.0)}
    core.handle(ActionCommitted("c", "look-30/1", 1), 30.0)
    looks |= {now_s: bool(acts(look(core, seen, now_s))) for now_s in (31.0, 60.0, 90.0)}
    assert looks == {0.0: False, 30.0: True, 31.0: False, 60.0: False, 90.0: True}


def test_a_missed_target_with_no_answer_left_is_explained() -> None:
    app = application(component(qos=(latency(),), permitted=()))
    seen = snapshot(app, placements=ready(1), metrics=readings(latency=0.05))
    core = Adaptation()
    look(core, seen, 0.0)
    (effect,) = look(core, seen, 30.0)
    assert isinstance(effect, Explain)
    assert effect.record.rule == "noResponse"
    assert effect.record.tried == (
        "scale: the description gives no `scaling`",
        "move: not among permittedActions",
        "set: no permitted setting of n1 makes it faster",
    )


def test_two_policies_on_one_component_are_ordered_and_the_later_plans_again() -> None:
    seen = snapshot(WEB, placements=ready(4), metrics=readings(load=40.0))
    plans = (
        plan("b", Scale(*KEY, 6)),
        plan("a", Scale(*KEY, 5)),
        plan("heavy", Move(*KEY, "shop.web.1", "n5"), Move(*KEY, "shop.web.2", "n5"), weight=2.0),
    )
    for order in (plans, plans[::-1]):
        effects = look(Adaptation(), seen, 0.0, *order)
        assert [(act.record.source, type(act.action)) for act in acts(effects)] == [("heavy", Move), ("heavy", Move)]
        again = [effect for effect in effects if isinstance(effect, PlanAgain)]
        assert [(one.policy, one.component, one.not_before_s) for one in again] == [
            ("a", "web", 60.0),
            ("b", "web", 60.0),
        ]
        assert explained(effects) == [("a", "deferred", "conflict"), ("b", "deferred", "conflict")]


def test_policies_go_before_the_built_in_answers() -> None:
    seen = snapshot(WEB, placements=ready(2), metrics=readings(load=60.0))
    effects = look(Adaptation(), seen, 0.0, plan("mine", Scale(*KEY, 3, "I know better")))
    assert [act.record.source for act in acts(effects)] == ["mine"]
    assert explained(effects) == [("scaling", "deferred", "conflict")]


def test_a_refused_policy_leaves_the_component_to_the_others() -> None:
    seen = snapshot(WEB, placements=ready(2), metrics=readings(load=60.0))
    effects = look(Adaptation(), seen, 0.0, plan("lost", Move(*KEY, "shop.web.9")))
    assert [act.record.source for act in acts(effects)] == ["scaling"]
    assert explained(effects) == [("lost", "refused", "unknown")]


def test_the_blast_radius_is_shared_and_important_applications_go_first() -> None:
    small = application(component(scale=scaling(1, 9)), name="small", priority=1)
    seen = snapshot(
        application(component(scale=scaling(1, 9))),
        small,
        placements=(*ready(6), *(placement(n, f"n{n}", application="small") for n in (1, 2))),
        metrics=readings(load=90.0),
        blast_radius=0.5,
    )
    effects = look(Adaptation(), seen, 0.0)
    assert [(act.action.application, act.record.reason.split(":")[0]) for act in acts(effects)] == [
        ("small", "5 replicas"),
        ("shop", "7 replicas"),
    ]


def test_replicas_in_motion_use_up_the_blast_radius() -> None:
    moving = placement(3, phase="starting", cause="scale")
    seen = snapshot(WEB, placements=(*ready(2), moving), metrics=readings(load=60.0), blast_radius=0.34)
    assert explained(look(Adaptation(), seen, 0.0)) == [("scaling", "refused", "blastRadius")]


def test_an_action_on_its_way_blocks_its_component_until_a_snapshot_shows_it() -> None:
    core = Adaptation()
    app = application(component(scale=scaling(1, 10, cooldown=0)))
    seen = snapshot(app, placements=ready(1), metrics=readings(load=20.0), version=1)
    (act,) = acts(look(core, seen, 0.0))
    assert explained(look(core, seen, 1.0)) == [("scaling", "deferred", "conflict")]
    core.handle(ActionCommitted("c", act.id, 5), 2.0)
    assert acts(look(core, seen, 3.0)) == [], "this snapshot is older than the commit"
    after = snapshot(app, placements=ready(2), metrics=readings(load=40.0), version=5)
    assert acts(look(core, after, 4.0))


def test_an_unanswered_action_is_forgotten_in_time() -> None:
    core = Adaptation()
    seen = snapshot(WEB, placements=ready(1), metrics=readings(load=20.0))
    assert acts(look(core, seen, 0.0))
    assert acts(look(core, seen, PENDING_S_MAX + 1.0))


def test_a_rejected_action_is_recorded_and_cools_nothing_down() -> None:
    core = Adaptation()
    seen = snapshot(WEB, placements=ready(1), metrics=readings(load=20.0))
    (act,) = acts(look(core, seen, 0.0))
    effects = core.handle(ActionRejected("r", act.id, "the slice's quota is used up"), 1.0)
    assert isinstance(effects[0], Explain)
    assert (effects[0].record.rule, effects[0].record.reason) == ("rejected", "the slice's quota is used up")
    assert effects[1:] == [LookAt("r", 1.0)]
    assert acts(look(core, seen, 2.0))


def test_the_same_setting_is_not_made_twice() -> None:
    knob = MechanismReport("cpu", ("set-frequency",), '{"verbs": [{"verb": "set-frequency"}]}')
    seen = snapshot(nodes=(node("n1", mechanisms=(knob,)),), cooldown=0)
    wish = Set("cpu", "set-frequency", "n1", arguments={"hz": 1.4e9})
    core = Adaptation()
    (act,) = acts(look(core, seen, 0.0, plan("greenest", wish)))
    assert act.record.verb == "set-frequency"
    core.handle(ActionCommitted("c", act.id, 1), 1.0)
    assert explained(look(core, seen, 5.0, plan("greenest", wish))) == [("greenest", "refused", "unchanged")]
    other = Set("cpu", "set-frequency", "n1", arguments={"hz": 1.0e9})
    assert acts(look(core, seen, 10.0, plan("greenest", other)))


def test_what_no_description_names_is_forgotten() -> None:
    core = Adaptation()
    look(core, snapshot(WEB, placements=ready(2), metrics=readings()), 0.0)
    look(core, snapshot(), 5.0)
    again = look(core, snapshot(WEB, placements=ready(2), metrics=readings()), 10.0)
    assert explained(again) == [("scaling", "held", "noReading")], "a new application of that name starts afresh"


def test_wanted_by_adaptation_counts_and_not_what_could_be_placed() -> None:
    seen = snapshot(WEB, placements=ready(2), metrics=readings(load=40.0))
    assert acts(Adaptation().handle(Looked("l", seen, scales={KEY: 4}), 0.0)) == []


def test_actions_become_events_of_the_core() -> None:
    def event(action: Action) -> object:
        knob = MechanismReport("cpu", ("fan",), "{}")
        nodes = (node("n1", mechanisms=(knob,)), node("n2"))
        seen = snapshot(WEB, placements=ready(2), metrics=readings(load=20.0), nodes=nodes)
        (act,) = acts(look(Adaptation(), seen, 0.0, plan("p", action)))
        return wanted(act)

    assert event(Scale(*KEY, 3, "r")) == ScaleWanted("look-0/1", *KEY, 3, "3 replicas: r")
    assert event(Move(*KEY, "shop.web.1", "n2", "r")) == MoveWanted(
        "look-0/1", "shop.web.1", "n2", "move shop.web.1 to n2: r"
    )
    found = event(Set("cpu", "fan", "n1", "shop.web.1", {"rpm": 900}, reason="r"))
    assert isinstance(found, SettingWanted)
    assert (found.application, found.component, found.target, found.node) == (*KEY, "shop.web.1", "n1")
    assert json.loads(found.arguments) == {"rpm": 900}


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.5, 90), st.one_of(st.none(), st.floats(0, 400))), min_size=1, max_size=40),
    st.integers(0, 3),
    st.integers(1, 8),
    st.integers(0, 120),
)
def test_whatever_is_measured_bounds_and_cooldown_hold(
    steps: list[tuple[float, float | None]], minimum: int, span: int, cooldown: int
) -> None:
    scale: Scaling = scaling(minimum, minimum + span, cooldown=cooldown)
    core, now_s, replicas, version = Adaptation(), 0.0, minimum, 1
    changed: list[tuple[float, int, int]] = []
    for wait_s, load in steps:
        now_s += wait_s
        metrics = readings() if load is None else readings(load=load)
        seen = snapshot(
            application(component(scale=scale)), placements=ready(replicas), metrics=metrics, version=version
        )
        for act in acts(look(core, seen, now_s)):
            assert isinstance(act.action, Scale)
            assert load is not None, "nothing may happen without a reading"
            changed.append((now_s, replicas, act.action.replicas))
            replicas, version = act.action.replicas, version + 1
            core.handle(ActionCommitted("c", act.id, version), now_s)
            assert scale.min <= replicas <= scale.max
    for (earlier_s, _, _), (later_s, before, _) in pairwise(changed):
        assert later_s - earlier_s >= cooldown or before == 0, "only waking may come sooner"


@settings(max_examples=60)
@given(st.floats(0, 120), st.integers(0, 10), st.integers(0, 30))
def test_a_constant_signal_is_followed_in_one_direction_and_then_left_alone(
    load: float, start: int, cooldown: int
) -> None:
    scale = scaling(0, 10, cooldown=cooldown)
    core, replicas, path = Adaptation(), start, [start]
    for step in range(60):
        seen = snapshot(
            application(component(scale=scale)), placements=ready(replicas), metrics=readings(load=load), version=step
        )
        for act in acts(look(core, seen, step * 5.0)):
            assert isinstance(act.action, Scale)
            core.handle(ActionCommitted("c", act.id, step + 1), step * 5.0)
            replicas = act.action.replicas
            path.append(replicas)
    assert path in (sorted(path), sorted(path, reverse=True))
    assert abs(min(load / 10, 10) - replicas) <= max(1.0, 0.1 * replicas)

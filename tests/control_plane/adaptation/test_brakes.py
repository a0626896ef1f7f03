"""Refusals: each names its rule, and the reason names the numbers and the place in the description."""

from __future__ import annotations

import pytest

from shoal.control_plane.adaptation.brakes import Allowed, Refusal, check, in_motion, motion_limit, owner_of
from shoal.control_plane.placement import Placement
from shoal.descriptions.messages.reported import MechanismReport
from shoal.policies.actions import Action, Move, Scale, Set

from .adaptation_world import application, component, node, placement, ready, scaling, snapshot

OPTIONS = '{"verbs": [{"verb": "set-frequency"}, {"verb": "restart-node", "disruptive": true}]}'
CPU = MechanismReport("cpu", ("set-frequency", "restart-node"), OPTIONS)
SCALED = component(scale=scaling(1, 5))
NODES = (node("n1", mechanisms=(CPU,)), node("n2"), node("n3", cordoned=True))


def scale(replicas: int) -> Scale:
    return Scale("shop", "web", replicas)


def move(to: str = "", replica: str = "shop.web.1") -> Move:
    return Move("shop", "web", replica, to)


def setting(verb: str = "set-frequency", target: str = "", at: str = "n1") -> Set:
    return Set("cpu", verb, at, target)


@pytest.mark.parametrize(
    ("action", "permitted", "rule", "told"),
    [
        pytest.param(scale(3), ("move",), "permittedActions",
                     "Application shop, spec.components[web].permittedActions permits move; scale is not among them",
                     id="scale not permitted"),
        pytest.param(move(), (), "permittedActions", "permits nothing; move", id="nothing permitted"),
        pytest.param(setting(target="shop.web.1"), ("scale",), "permittedActions", "set-frequency is not among",
                     id="a setting's target says on whose behalf"),
        pytest.param(setting("restart-node"), ("scale",), "permittedActions", "restart-node",
                     id="a disruptive verb on a node asks everyone there"),
        pytest.param(scale(2), ("*",), "unchanged", "2 replicas are wanted already", id="as it is"),
        pytest.param(Scale("shop", "nope", 2), ("*",), "unknown", "no component shop.nope", id="unknown component"),
        pytest.param(Scale("", "", 2), ("*",), "unknown", "no component", id="no component named"),
        pytest.param(move(replica="shop.web.9"), ("*",), "unknown", "no replica shop.web.9", id="unknown replica"),
        pytest.param(move("n9"), ("*",), "unknown", "node n9 is unknown", id="unknown node"),
        pytest.param(move("n3"), ("*",), "unknown", "n3 is cordoned", id="cordoned node"),
        pytest.param(move("n1"), ("*",), "unchanged", "runs on n1 already", id="same node"),
        pytest.param(setting("melt"), ("*",), "unknown", "offers set-frequency, restart-node, not melt",
                     id="unknown verb"),
        pytest.param(setting(at="n2"), ("*",), "unknown", "offers nothing", id="no such mechanism"),
        pytest.param(setting(at="n9"), ("*",), "unknown", "node n9 is unknown", id="setting on an unknown node"),
    ],
)  # fmt: skip
def test_refusals(action: Action, permitted: tuple[str, ...], rule: str, told: str) -> None:
    app = application(component(scale=scaling(1, 5), permitted=permitted))
    answer = check(action, snapshot(app, placements=ready(2), nodes=NODES), 2, 5)
    assert isinstance(answer, Refusal)
    assert answer.rule == rule
    assert told in answer.reason


@pytest.mark.parametrize(
    ("asked", "wanted", "free", "expected", "weight"),
    [
        pytest.param(4, 2, 9, 4, 2, id="as asked"),
        pytest.param(99, 2, 9, 5, 3, id="held to max"),
        pytest.param(0, 3, 9, 1, 2, id="held to min"),
        pytest.param(5, 1, 2, 3, 2, id="as far as the blast radius goes"),
        pytest.param(1, 5, 1, 4, 1, id="down as well"),
    ],
)
def test_scale_is_held_to_bounds_and_blast_radius(
    asked: int, wanted: int, free: int, expected: int, weight: int
) -> None:
    answer = check(scale(asked), snapshot(application(SCALED)), wanted, free)
    assert isinstance(answer, Allowed)
    assert (answer.action, answer.weight) == (scale(expected), weight)
    assert bool(answer.note) == (asked != expected)


def test_scale_needs_room_and_bounds() -> None:
    def rule(app: object, wanted: int, free: int) -> tuple[str, str]:
        answer = check(scale(3), snapshot(app), wanted, free)  # type: ignore[arg-type]
        assert isinstance(answer, Refusal)
        return answer.rule, answer.reason

    assert rule(application(SCALED), 2, 0)[0] == "blastRadius"
    assert rule(application(component()), 2, 5) == (
        "bounds", "web has a fixed number of replicas; give it `scaling` with min and max"
    )  # fmt: skip
    assert rule(application(component(scale=scaling(0, 1), single=True)), 1, 5)[0] == "bounds"


def test_a_replica_is_not_moved_twice() -> None:
    replacing = placement(2, node="n2", phase="starting", replaces="shop.web.1", cause="move")
    answer = check(move("n2"), snapshot(application(SCALED), placements=(*ready(1), replacing), nodes=NODES), 1, 5)
    assert isinstance(answer, Refusal)
    assert answer.reason == "shop.web.1 is being stopped or replaced already"


def test_a_quiet_setting_sets_nothing_in_motion_and_a_disruptive_one_counts() -> None:
    seen = snapshot(application(SCALED), placements=(placement(1, "n1"), placement(2, "n1")), nodes=NODES)
    quiet, loud = check(setting(), seen, 2, 0), check(setting("restart-node"), seen, 2, 5)
    assert isinstance(quiet, Allowed)
    assert isinstance(loud, Allowed)
    assert (quiet.weight, loud.weight) == (0, 2)
    refused = check(setting("restart-node"), seen, 2, 1)
    assert isinstance(refused, Refusal)
    assert "interrupts 2 replicas" in refused.reason


def test_options_that_cannot_be_read_count_as_disruptive() -> None:
    broken = node("n1", mechanisms=(MechanismReport("cpu", ("set-frequency",), "not json"),))
    answer = check(setting(), snapshot(application(SCALED), placements=(placement(1, "n1"),), nodes=(broken,)), 1, 5)
    assert isinstance(answer, Allowed)
    assert answer.weight == 1


@pytest.mark.parametrize(
    ("placements", "expected"),
    [
        pytest.param(ready(3), 0, id="at rest"),
        pytest.param((placement(1, phase="starting", cause="initial"),), 0, id="first placement is not adaptation"),
        pytest.param((placement(1, phase="starting", cause="scale"),), 1, id="scaling up"),
        pytest.param((placement(1, wanted="stop"),), 1, id="scaling down"),
        pytest.param((placement(1), placement(2, phase="starting", cause="move", replaces="shop.web.1")), 1,
                     id="a move counts once"),
        pytest.param((placement(1, wanted="stop"), placement(2, phase="starting", cause="move", replaces="shop.web.1")),
                     1, id="a move counts once to its end"),
        pytest.param((placement(1, phase="unknown", wanted="stop"),), 0, id="nobody waits for a lost node"),
    ],
)  # fmt: skip
def test_replicas_in_motion(placements: tuple[Placement, ...], expected: int) -> None:
    assert in_motion(snapshot(placements=placements)) == expected


@pytest.mark.parametrize(
    ("replicas", "share", "expected"),
    [
        pytest.param(20, 0.25, 5, id="share"),
        pytest.param(3, 0.25, 1, id="at least one"),
        pytest.param(0, 1.0, 1, id="none"),
    ],
)
def test_motion_limit(replicas: int, share: float, expected: int) -> None:
    assert motion_limit(snapshot(placements=ready(replicas), blast_radius=share)) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        pytest.param(scale(1), ("shop", "web"), id="scale"),
        pytest.param(setting(target="shop.web.3"), ("shop", "web"), id="replica as target"),
        pytest.param(setting(target="shop.web"), ("shop", "web"), id="component as target"),
        pytest.param(setting(), ("", ""), id="whole node"),
    ],
)
def test_owner(action: Action, expected: tuple[str, str]) -> None:
    assert owner_of(action) == expected

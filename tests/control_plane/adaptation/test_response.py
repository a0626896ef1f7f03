"""The built-in answers to a missed target, in their order: scale, move, set; and what each one needs."""

from __future__ import annotations

import json

import pytest

from shoal.control_plane.adaptation.response import respond, worst_replica
from shoal.control_plane.adaptation.settings import faster_setting
from shoal.descriptions.kinds.application import Component
from shoal.descriptions.messages.reported import MechanismReport
from shoal.policies.actions import Json, Move, Scale

from .adaptation_world import Readings, application, component, latency, node, placement, ready, scaling, snapshot


def mechanism(
    schema: dict[str, Json], value: Json = None, *, disruptive: bool = False, target: str = "shop.web.1"
) -> MechanismReport:
    options = {"verbs": [{"verb": "set-speed", "arguments": {"speed": schema}, "disruptive": disruptive}]}
    status = {"targets": [{"target": target, "values": {"speed": value}}]} if value is not None else {}
    return MechanismReport("knob", ("set-speed",), json.dumps(options), json.dumps(status))


SPEED: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": 8, "x-faster": "higher", "default": 2}


@pytest.mark.parametrize(
    ("part", "wanted", "better", "expected", "tried"),
    [
        pytest.param(component(scale=scaling(1, 3)), 2, "n5", "scale", 0, id="scale first"),
        pytest.param(component(scale=scaling(1, 2)), 2, "n5", "move", 1, id="at max: move"),
        pytest.param(component(), 2, "n5", "move", 1, id="fixed number: move"),
        pytest.param(component(scale=scaling(1, 3), permitted=("move",)), 2, "n5", "move", 1, id="scale forbidden"),
        pytest.param(component(), 2, "", "set", 2, id="nowhere better: set"),
        pytest.param(component(permitted=("set-speed",)), 2, "n5", "set", 2, id="only settings permitted"),
        pytest.param(component(permitted=("other",)), 2, "n5", None, 3, id="nothing permitted fits"),
    ],
)
def test_order(part: Component, wanted: int, better: str, expected: str | None, tried: int) -> None:
    nodes = (node("n1", mechanisms=(mechanism(SPEED),)), node("n2"))
    seen = snapshot(application(part), placements=ready(wanted), nodes=nodes)
    found = respond(seen, part, ready(wanted), "too slow", lambda _snapshot, _replica: better)
    assert (type(found.action).__name__.lower() if found.action else None) == expected
    assert len(found.tried) == tried
    if isinstance(found.action, Scale):
        assert found.action == Scale("shop", "web", 3, "too slow")
    if isinstance(found.action, Move):
        assert found.action == Move("shop", "web", "shop.web.1", "n5", "too slow")


def test_the_replica_that_misses_by_most_is_moved() -> None:
    part = component(qos=(latency(0.02),))
    metrics = Readings({("latency", "n1"): (0.03, 1.0), ("latency", "n2"): (0.09, 1.0)})
    assert worst_replica(snapshot(application(part), metrics=metrics), part, ready(3)).id == "shop.web.2"


def test_without_replicas_there_is_nothing_to_change() -> None:
    part = component(scale=scaling())
    assert respond(snapshot(application(part)), part, (), "x", lambda *_: "n1").action is None


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        pytest.param(SPEED, None, 5, id="from the default, half of the way up"),
        pytest.param(SPEED, 6, 7, id="from what is set"),
        pytest.param(SPEED, 8, None, id="at its fastest"),
        pytest.param(SPEED | {"x-faster": "lower"}, 5, 3, id="lower is faster"),
        pytest.param(SPEED | {"multipleOf": 4}, 2, 6, id="in the argument's own steps"),
        pytest.param(
            {"enum": ["slow", "mid", "fast"], "x-faster": "higher"}, "slow", "mid", id="next of an enumeration"
        ),
        pytest.param(
            {"enum": ["slow", "mid", "fast"], "x-faster": "lower"}, "slow", None, id="first of an enumeration"
        ),
        pytest.param({"type": "integer", "maximum": 8, "default": 2}, None, None, id="says nothing of speed"),
        pytest.param({"x-faster": "higher", "default": 2}, None, None, id="no bound"),
        pytest.param({"x-faster": "higher", "maximum": 8, "default": True}, None, None, id="not a number"),
    ],
)
def test_faster_setting(schema: dict[str, Json], value: Json, expected: Json) -> None:
    found = faster_setting(component(), placement(1), node("n1", mechanisms=(mechanism(schema, value),)))
    assert (dict(found.arguments)["speed"] if found else None) == expected
    if found:
        assert (found.mechanism, found.verb, found.node, found.target) == ("knob", "set-speed", "n1", "shop.web.1")


@pytest.mark.parametrize(
    ("report", "permitted"),
    [
        pytest.param(mechanism(SPEED, disruptive=True), ("*",), id="disruptive"),
        pytest.param(mechanism(SPEED), ("scale",), id="not permitted"),
        pytest.param(MechanismReport("knob", ("set-speed",), "{not json"), ("*",), id="unreadable"),
        pytest.param(MechanismReport("knob", ("set-speed",), '{"verbs": 3}'), ("*",), id="nonsense"),
    ],
)
def test_settings_that_are_left_alone(report: MechanismReport, permitted: tuple[str, ...]) -> None:
    assert faster_setting(component(permitted=permitted), placement(1), node("n1", mechanisms=(report,))) is None


def test_the_nodes_own_value_counts_where_the_replica_has_none() -> None:
    found = faster_setting(component(), placement(1), node("n1", mechanisms=(mechanism(SPEED, 6, target=""),)))
    assert found is not None
    assert dict(found.arguments) == {"speed": 7}

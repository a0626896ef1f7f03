"""Commands held against what a mechanism offers."""

from __future__ import annotations

import pytest

from shoal.descriptions.errors import RefusedError
from shoal.descriptions.mechanism import MechanismCommand, Options
from shoal.mechanisms.arguments import Json, values, verb
from shoal.mechanisms.offers import check_offer, fault_of_value
from shoal.mechanisms.samples import fitting, wrong

SPEED: dict[str, Json] = {"type": "integer", "minimum": 0, "maximum": 5}
OPTIONS = Options((verb("setSpeed", "Turn it.", speed=SPEED), verb("stop", "Stop it.")))


def told(verb_: str, **arguments: Json) -> str:
    try:
        check_offer("fan", OPTIONS, MechanismCommand("c", verb_, "", values(**arguments)))
    except RefusedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (told("setSpeed", speed=5), ""),
        (told("setSpeed"), ""),  # what is missing is the mechanism's to say
        (told("stop"), ""),
        (told("setSpeed", speed=6), "fan setSpeed: speed is 6, expected at most 5"),
        (told("setSpeed", speed="fast"), 'fan setSpeed: speed is "fast", expected integer'),
        (told("setSpeed", speed=1, colour="blue"), "fan setSpeed has no argument 'colour'"),
        (told("explode"), "fan offers setSpeed, stop here, not 'explode'"),
    ],
)
def test_commands(message: str, expected: str) -> None:
    assert message == expected


def test_why_nothing_is_offered_is_told() -> None:
    with pytest.raises(RefusedError, match=r"fan offers nothing \(no fan here\) here, not 'setSpeed'"):
        check_offer("fan", Options(reason="no fan here"), MechanismCommand("c", "setSpeed"))


@pytest.mark.parametrize(
    ("schema", "value", "fault"),
    [
        ({"type": "integer"}, 2.0, ""),
        ({"type": "integer"}, 2.5, "is 2.5, expected integer"),
        ({"type": "integer"}, True, "is true, expected integer"),
        ({"type": "number", "exclusiveMinimum": 0}, 0, "is 0, expected over 0"),
        ({"type": "number", "exclusiveMaximum": 1}, 1, "is 1, expected under 1"),
        ({"type": ["number", "null"], "minimum": 1}, None, ""),
        ({"type": ["number", "null"], "minimum": 1}, 0.5, "is 0.5, expected at least 1"),
        ({"enum": ["low", "high"]}, "high", ""),
        ({"enum": ["low", "high"]}, "medium", 'is "medium", expected one of "low", "high"'),
        ({"enum": [1]}, True, "is true, expected one of 1"),
        ({"const": 3}, 4, "is 4, expected one of 3"),
        ({"type": "string", "maxLength": 2}, "abc", "has 3 characters, expected at most 2"),
        ({"type": "string", "minLength": 2}, "a", "has 1 characters, expected at least 2"),
        ({"type": "array", "maxItems": 1}, [1, 2], "has 2 items, expected at most 1"),
        ({"type": "object"}, {"a": 1}, ""),
        ({"type": "object"}, [], "is [], expected object"),
        ({"type": "boolean"}, 0, "is 0, expected boolean"),
        ({}, {"anything": [None]}, ""),
        ({"type": "string"}, ["x" * 100], f'is ["{"x" * 58}…, expected string'),
    ],
)
def test_values(schema: dict[str, Json], value: Json, fault: str) -> None:
    assert fault_of_value(schema, value) == fault


@pytest.mark.parametrize(
    "schema",
    [
        SPEED,
        {"type": "number", "exclusiveMinimum": 0, "maximum": 4096},
        {"type": ["number", "null"], "exclusiveMinimum": 0},
        {"enum": ["a", "b"]},
        {"type": "boolean"},
        {"type": ["object", "null"]},
    ],
)
def test_what_a_check_of_plugins_tries_is_judged_alike(schema: dict[str, Json]) -> None:
    assert [fault_of_value(schema, value) for value in fitting(schema)] == [""] * len(fitting(schema))
    assert all(fault_of_value(schema, one.value) for one in wrong(schema))

"""Finds a mechanism setting that makes a component faster, where the mechanism itself says which way faster is.

The last of the built-in answers to a missed QoS target (`response.py`). A mechanism opts in by the JSON Schema keyword
`x-faster` (`higher` or `lower`) on a numeric or enumerated argument of a verb; without it nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ...descriptions.kinds.application import Component
from ...descriptions.messages.reported import MechanismReport
from ...policies.actions import Json, Set
from ..placement import Placement
from ..planner.snapshot import NodeState
from .brakes import is_permitted

Fields = Mapping[str, Json]


@dataclass(frozen=True)
class _Knob:
    verb: str
    argument: str
    schema: Fields


def faster_setting(component: Component, replica: Placement, node: NodeState) -> Set | None:
    """The first permitted, non-disruptive setting on the replica's node that is not at its fastest yet.

    Mechanisms in order of name, verbs and arguments in the order they list them. One step at a time: the next value of
    an enumeration, or half of what is left to the bound (rounded to `multipleOf`).
    """
    for report in sorted(node.mechanisms, key=lambda report: report.name):
        values = _values(report, replica)
        for knob in _knobs(report):
            value = _next(knob.schema, values.get(knob.argument, knob.schema.get("default")))
            if value is not None and is_permitted(component, knob.verb):
                return Set(
                    mechanism=report.name,
                    verb=knob.verb,
                    node=replica.node_name,
                    target=replica.id,
                    arguments={knob.argument: value},
                    application=replica.application,
                    component=replica.component,
                )
    return None


def _knobs(report: MechanismReport) -> list[_Knob]:
    options = _object(report.options)
    found = []
    for verb in _objects(options.get("verbs")):
        arguments = verb.get("arguments")
        if verb.get("disruptive") or not isinstance(arguments, dict):
            continue
        for name, schema in arguments.items():
            if isinstance(schema, dict) and schema.get("x-faster") in ("higher", "lower"):
                found.append(_Knob(str(verb.get("verb", "")), name, schema))
    return found


def _values(report: MechanismReport, replica: Placement) -> Fields:
    """What is set now for the replica, else for the node."""
    targets = {str(row.get("target", "")): row.get("values") for row in _objects(_object(report.status).get("targets"))}
    values = targets.get(replica.id) or targets.get("")
    return values if isinstance(values, dict) else {}


def _next(schema: Fields, value: Json) -> Json:
    """One step faster than `value`; None at the end of the range or where there is no telling."""
    higher = schema["x-faster"] == "higher"
    choices = schema.get("enum")
    if isinstance(choices, list):
        ordered = choices if higher else choices[::-1]
        place = ordered.index(value) if value in ordered else -1
        return ordered[place + 1] if 0 <= place < len(ordered) - 1 else None
    bound = schema.get("maximum" if higher else "minimum")
    if not _is_number(value) or not _is_number(bound):
        return None
    now, end = cast("float", value), cast("float", bound)
    step = schema.get("multipleOf", 1 if schema.get("type") == "integer" else (end - now) / 2 or 1)
    return _step_towards(now, end, abs(cast("float", step)) if _is_number(step) else 1.0)


def _step_towards(now: float, end: float, step: float) -> Json:
    if step <= 0 or abs(end - now) < step:
        return None
    steps = max(1, round((end - now) / 2 / step)) if end > now else min(-1, round((end - now) / 2 / step))
    value = now + steps * step
    return int(value) if isinstance(now, int) and float(value).is_integer() else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(text: str) -> Fields:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[dict[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

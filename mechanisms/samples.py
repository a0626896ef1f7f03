"""Makes values for a verb's arguments out of their JSON Schema: some that fit, some that must be refused.

For `checks.py`, which applies every verb that a mechanism offers. Only what options of mechanisms use is understood;
where that isn't enough to make a value, the schema's own `examples` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from .arguments import Json

Schema = Mapping[str, Json]

TYPES = ("boolean", "integer", "number", "string", "array", "object", "null")
SAMPLES_MAX = 3
OTHER: Mapping[str, Json] = {"string": "no such value", "boolean": True, "array": [[]], "object": {"no": "such"}}
"""A value of each type, for schemas that want another."""
SPAN = 10
"""Distance to the other bound where a schema gives only one."""


@dataclass(frozen=True)
class Wrong:
    """A value that the schema excludes."""

    why: str
    value: Json


def types_of(schema: Schema) -> tuple[str, ...]:
    """Types that the schema names; all of them where it names none."""
    named = schema.get("type")
    if isinstance(named, str):
        return (named,)
    return tuple(one for one in named if isinstance(one, str)) if isinstance(named, list) else TYPES


def fault_of(schema: object) -> str:
    """What is wrong with a schema; empty when nothing is."""
    if not isinstance(schema, dict):
        return "is no JSON Schema: an object is needed"
    if unknown := [one for one in types_of(schema) if one not in TYPES]:
        return f"has the unknown type {unknown[0]!r}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if _is_number(low) and _is_number(high) and cast("float", low) > cast("float", high):
        return f"has a minimum of {low} over its maximum of {high}"
    choices = schema.get("enum")
    if choices is not None and not (isinstance(choices, list) and choices):
        return "has an empty enum"
    return "" if fitting(schema) else "says too little to make a value of it; add `examples`"


def fitting(schema: Schema) -> list[Json]:
    """Up to `SAMPLES_MAX` different values that the schema allows, the least usual first."""
    found: list[Json] = []
    for value in _candidates(schema):
        if value not in found:
            found.append(value)
    return found[:SAMPLES_MAX]


def _candidates(schema: Schema) -> list[Json]:
    for word in ("examples", "enum"):
        listed = schema.get(word)
        if isinstance(listed, list) and listed:
            return [listed[-1], *listed]
    if "const" in schema:
        return [schema["const"]]
    return [value for kind in types_of(schema) for value in _of_type(kind, schema)]


def _of_type(kind: str, schema: Schema) -> list[Json]:
    match kind:
        case "boolean":
            return [True, False]
        case "integer" | "number":
            return list(_numbers(schema, kind == "integer"))
        case "string":
            length = schema.get("minLength")
            return (
                [] if "pattern" in schema or "format" in schema else ["a" * (length if isinstance(length, int) else 1)]
            )
        case "null":
            return [None]
        case "array":
            return [] if "minItems" in schema else [[]]
        case _:
            return [] if "required" in schema else [{}]


def _numbers(schema: Schema, is_whole: bool) -> list[Json]:
    """Both bounds and the middle, on whole steps."""
    step = float(_number(schema, "multipleOf") or (1.0 if is_whole else 0.0))
    low, high = _number(schema, "minimum"), _number(schema, "maximum")
    over, under = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    margin = step or 0.5
    if low is None and over is not None:
        low = over + margin
    if high is None and under is not None:
        high = under - margin
    low = low if low is not None else (high - SPAN if high is not None else 0.0)
    high = high if high is not None else low + SPAN
    middle = (low + high) / 2
    if step:
        middle = low + step * int((middle - low) / step)
    values = [value for value in (high, low, middle) if low <= value <= high]
    return [int(value) if is_whole or float(value).is_integer() else value for value in values]


def wrong(schema: Schema) -> list[Wrong]:
    """Values that the schema excludes: another type, over and under the bounds, none of the enum."""
    found = []
    kinds = types_of(schema)
    for kind, other in OTHER.items():
        if kind not in kinds and "enum" not in schema and "const" not in schema:
            found.append(Wrong(f"a {kind} in place of {' or '.join(kinds)}", other))
    if not {"integer", "number"} & set(kinds):
        found.append(Wrong(f"a number in place of {' or '.join(kinds)}", 12345))
    for word, sign in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1), ("exclusiveMaximum", 0)):
        bound = _number(schema, word)
        if bound is not None:
            value = bound + sign
            found.append(Wrong(f"{word} {bound:g}", int(value) if float(value).is_integer() else value))
    if "enum" in schema:
        found.append(Wrong("none of the enum", "no such value"))
    return found


def _number(schema: Schema, word: str) -> float | None:
    value = schema.get(word)
    return float(cast("float", value)) if _is_number(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

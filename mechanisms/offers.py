"""Holds a command against what the mechanism offers: the verb, its arguments, and the JSON Schema of each.

The agent asks before it calls a mechanism, so that a value out of range never reaches one that forgot to look. Of JSON
Schema (2020-12) the words that options of mechanisms use are checked; others are left to the mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt

import msgspec

from ..descriptions.errors import RefusedError
from ..descriptions.mechanism import MechanismCommand, Options
from .arguments import Json
from .samples import types_of

SHOWN_CHARS = 60
BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", "at least", ge),
    ("exclusiveMinimum", "over", gt),
    ("maximum", "at most", le),
    ("exclusiveMaximum", "under", lt),
)


def check_offer(mechanism: str, options: Options, command: MechanismCommand) -> None:
    """Raise `RefusedError` with the reason when the mechanism does not offer exactly this."""
    offered = {option.verb: option for option in options.verbs}
    option = offered.get(command.verb)
    if option is None:
        listed = ", ".join(sorted(offered)) or f"nothing {options.reason and f'({options.reason}) '}".strip()
        raise RefusedError(f"{mechanism} offers {listed} here, not {command.verb!r}")
    for name, raw in sorted(command.arguments.items()):
        if name not in option.arguments:
            raise RefusedError(f"{mechanism} {command.verb} has no argument {name[:SHOWN_CHARS]!r}")
        schema, value = msgspec.json.decode(option.arguments[name]), msgspec.json.decode(raw)
        fault = fault_of_value(schema, value) if isinstance(schema, dict) else ""
        if fault:
            raise RefusedError(f"{mechanism} {command.verb}: {name} {fault}")


def fault_of_value(schema: Mapping[str, Json], value: Json) -> str:
    """What is wrong with a value, to follow its name; empty when nothing is."""
    kinds = types_of(schema)
    if not any(_is_of(kind, value) for kind in kinds):
        return f"is {_shown(value)}, expected {' or '.join(kinds)}"
    listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(listed, list) and not any(_is_same(value, one) for one in listed):
        return f"is {_shown(value)}, expected one of {', '.join(map(_shown, listed))}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _fault_of_number(schema, value)
    if isinstance(value, str):
        return _fault_of_size(schema, len(value), "minLength", "maxLength", "characters")
    if isinstance(value, list):
        return _fault_of_size(schema, len(value), "minItems", "maxItems", "items")
    return ""


def _fault_of_number(schema: Mapping[str, Json], value: float) -> str:
    for word, told, holds in BOUNDS:
        bound = schema.get(word)
        if isinstance(bound, int | float) and not holds(value, bound):
            return f"is {value:g}, expected {told} {bound:g}"
    return ""


def _fault_of_size(schema: Mapping[str, Json], size: int, low: str, high: str, of: str) -> str:
    smallest, largest = schema.get(low), schema.get(high)
    if isinstance(smallest, int) and size < smallest:
        return f"has {size} {of}, expected at least {smallest}"
    if isinstance(largest, int) and size > largest:
        return f"has {size} {of}, expected at most {largest}"
    return ""


def _is_of(kind: str, value: Json) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            # JSON Schema takes 2.0 for an integer.
            return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _is_same(value: Json, other: Json) -> bool:
    """1 and True are equal in Python, not in JSON."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _shown(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"

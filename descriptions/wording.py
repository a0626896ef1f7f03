"""Says in words what a place in a kind accepts, from the kind's own types: "an integer from 0 to 65535".

`validation.py` asks for the "expected …" of an error and for the keys and values that a misspelt word may have meant.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .document import Path
from .phrases import Bounds, one_of
from .quantities import Quantity
from .units import Unit

PATTERNS = {
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$": "a name of a-z, 0-9 and '-', at most 63 long, without '-' at its ends",
    r"^[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?$": "a label of letters, digits and '-_./', starting and ending "
    "with a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]{0,127}$": "the name of an environment variable",
    r"^[0-9a-f]{64}$": "a SHA-256 digest of 64 hexadecimal digits in lower case",
    r"^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$": "a part of the day such as 08:00-20:00",
    r"^(\*|(node|cluster|datacenter|layer):[a-z0-9][-a-z0-9]{0,62})$": "node:NAME, cluster:NAME, datacenter:NAME, "
    "layer:LAYER or *",
    r"^(\*|[a-z][a-zA-Z0-9.-]{0,62})$": "* or a verb such as move, scale, update or one of a mechanism",
    r"^[a-z0-9][-a-z0-9]{0,30}$": "a short word such as gpu or camera",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "a version such as 1 or 1.4.2-rc1",
    r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$": "MODULE:CLASS",
    r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$": "the name of a plugin",
    r"^[A-Za-z0-9._-]{1,127}$": "a key of letters, digits and '._-'",
    r"^[A-Z]{3}$": "a currency such as EUR",
    r"^/": "a path that starts with '/'",
}
"""Words for the patterns of the kinds; a test sees to it that none is missing."""


@dataclass(frozen=True)
class Spot:
    """The type at one place of a kind, with its constraints."""

    type: Any
    constraints: tuple[Any, ...] = ()

    @property
    def options(self) -> tuple[Spot, ...]:
        """The spot itself, or what a union offers, without None."""
        if get_origin(self.type) in (Union, types.UnionType):
            members = (member for member in get_args(self.type) if member is not types.NoneType)
            return tuple(option for member in members for option in spot(member, self.constraints).options)
        return (self,)

    @property
    def words(self) -> str:
        """Completes "expected …"."""
        return " or ".join(dict.fromkeys(_words(option) for option in self.options))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a mapping here may have."""
        models = [option.type for option in self.options if _is_model(option.type)]
        return tuple(info.alias or name for model in models for name, info in model.model_fields.items())

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may stand here."""
        return tuple(str(choice) for option in self.options for choice in _choices(option.type))

    def step(self, part: str | int) -> Spot | None:
        """What stands one step below, or None where nothing is known of it."""
        return next((below for option in self.options if (below := _below(option.type, part))), None)


def spot(annotation: Any, constraints: tuple[Any, ...] = ()) -> Spot:
    """The spot of an annotation, `Annotated` taken apart."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        more = tuple(part for mark in marks for part in (mark.metadata if isinstance(mark, FieldInfo) else (mark,)))
        return spot(inner, (*more, *constraints))
    return Spot(annotation, constraints)


def spot_at(model: type[BaseModel], path: Path) -> Spot | None:
    """The spot at `path` of `model`."""
    here: Spot | None = Spot(model)
    for part in path:
        here = here.step(part) if here else None
    return here


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _below(annotation: Any, part: str | int) -> Spot | None:
    if _is_model(annotation):
        for name, info in annotation.model_fields.items():
            if part in (info.alias, name):
                return spot(info.annotation, tuple(info.metadata))
        return None
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and isinstance(part, int):
        return spot(arguments[0])
    if get_origin(annotation) is dict and isinstance(part, str):
        return spot(arguments[1])
    return None


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(member.value for member in annotation)
    return ()


def _words(one: Spot) -> str:
    """Words for a spot that is no union."""
    if unit := next((item.unit for item in one.constraints if isinstance(item, Quantity)), None):
        return _bounded(unit.expected, one, unit)
    if choices := _choices(one.type):
        return one_of(choices)
    if one.type is int:
        return _bounded("an integer", one, None)
    if one.type is float:
        return _bounded("a number", one, None)
    if one.type is bool:
        return "true or false"
    if get_origin(one.type) is tuple:
        return _sized("a list", "entries", one)
    if get_origin(one.type) is dict or _is_model(one.type):
        return _sized("a mapping", "keys", one)
    return _text(one)


def _text(one: Spot) -> str:
    pattern = next(_bounds(one, "pattern"), None)
    return (PATTERNS.get(pattern) or f"text like {pattern}") if pattern else _sized("text", "characters", one)


def _sized(what: str, of: str, one: Spot) -> str:
    least, most = next(_bounds(one, "min_length"), None), next(_bounds(one, "max_length"), None)
    if least and most:
        return f"{what} of {least} to {most} {of}"
    return f"{what} of at most {most} {of}" if most else what


def _bounded(what: str, one: Spot, unit: Unit | None) -> str:
    found = {name: next(_bounds(one, name), None) for name in ("ge", "gt", "le", "lt")}
    return Bounds(**found).words(what, unit)


def _bounds(one: Spot, name: str) -> Iterator[Any]:
    for item in one.constraints:
        if (bound := getattr(item, name, None)) is not None:
            yield bound

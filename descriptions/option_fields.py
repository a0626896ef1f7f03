"""Turns a frozen dataclass into a list of options: keys, types, rules and defaults.

Plugin authors declare options with `option(…)` and `unit(…)`, best imported from `options.py`, which reads values into
such dataclasses; `option_docs.py` describes them. No pydantic: the agent's own configuration is declared this way.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from .phrases import UNBOUNDED, Bounds, one_of
from .units import UNITS, Unit

UnitName: TypeAlias = Literal["cores", "bytes", "duration", "frequency", "bandwidth", "power", "energy"]


@dataclass(frozen=True)
class Rule:
    """What an option allows beyond its type."""

    doc: str = ""
    bounds: Bounds = UNBOUNDED
    unit: Unit | None = None
    is_secret: bool = False
    """Its value is never shown."""
    key: str = ""
    """Another key than the camelCase of the field's name."""


_NO_RULE = Rule()


def unit(name: UnitName) -> Unit:
    """Marks a number as a quantity that is written with its unit: `Annotated[float, unit("duration")]`."""
    return UNITS[name]


def option(
    default: Any = MISSING,
    *,
    doc: str = "",
    key: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: UnitName | None = None,
    factory: Callable[[], Any] | None = None,
    secret: bool = False,
) -> Any:
    """A dataclass field with a rule; bounds are in the Python unit and hold for each entry of a tuple.

    Without `doc` the text under the field is its documentation. `key` is for fields whose name ends in the unit:
    `lease_s: float = option(30.0, unit="duration", key="lease")` is `lease: 30s` in YAML.
    """
    rule = Rule(doc, Bounds(ge, gt, le, lt), UNITS[unit] if unit else None, secret, key)
    if factory is not None:
        return field(default_factory=factory, metadata={"option": rule}, repr=not secret)
    return field(default=default, metadata={"option": rule}, repr=not secret)


@dataclass(frozen=True)
class OptionType:
    """A type that options may have, taken apart."""

    form: Literal["record", "tuple", "mapping", "choice", "union", "plain"]
    type: Any
    """The dataclass, the Enum, or one of bool, int, float, str, Path, object."""
    inner: tuple[OptionType, ...] = ()
    choices: tuple[Any, ...] = ()
    unit: Unit | None = None
    is_optional: bool = False
    """Whether `null` stands for None."""

    def words(self, rule: Rule) -> str:
        """Completes "expected …"."""
        if self.form == "union":
            return " or ".join(one.words(rule) for one in self.inner)
        if self.form == "choice":
            return one_of(getattr(choice, "value", choice) for choice in self.choices)
        if self.form == "tuple":
            return "a list"
        if self.form != "plain":
            return "a mapping"
        if found := self.unit or rule.unit:
            return rule.bounds.words(found.expected, found)
        words = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}
        return rule.bounds.words(words.get(self.type, "a value"))


@dataclass(frozen=True)
class Option:
    """One field of a dataclass of options."""

    name: str
    key: str
    """`rttMsMax` for the field `rtt_ms_max`."""
    type: OptionType
    rule: Rule
    default: Any
    """`MISSING` where a value must be given."""

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a dataclass in the order of its fields; raises `TypeError` for a type that YAML can't fill."""
    return _options_of(cls)


@cache
def _options_of(cls: Any) -> tuple[Option, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        Option(
            info.name,
            _rule(info).key or camel(info.name),
            option_type(hints[info.name], f"{cls.__name__}.{info.name}"),
            _rule(info),
            info.default if info.default_factory is MISSING else info.default_factory(),
        )
        for info in fields(cls)
        if info.init
    )


def _rule(info: Field[Any]) -> Rule:
    rule: Rule = info.metadata.get("option", _NO_RULE)
    return rule


def camel(name: str) -> str:
    """The key outside Python: `rtt_ms_max` is `rttMsMax`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def option_type(annotation: Any, where: str) -> OptionType:
    """Take an annotation apart."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(annotation, where)
    if origin in (Union, types.UnionType):
        return _union(arguments, where)
    if origin is Literal:
        return OptionType("choice", str, choices=arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return OptionType("tuple", tuple, (option_type(arguments[0], where),))
    if origin in (dict, Mapping) and arguments[0] is str:
        return OptionType("mapping", dict, (option_type(arguments[1], where),))
    if is_dataclass(annotation):
        return OptionType("record", annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return OptionType("choice", annotation, choices=tuple(annotation))
    if annotation in (bool, int, float, str, Path, object, Any):
        return OptionType("plain", object if annotation is Any else annotation)
    raise TypeError(f"{where}: an option can't be {annotation}; see docs/descriptions.md for the types it can be")


def _annotated(annotation: Any, where: str) -> OptionType:
    inner, *marks = get_args(annotation)
    found = option_type(inner, where)
    quantity = next((mark for mark in marks if isinstance(mark, Unit)), None)
    return OptionType(found.form, found.type, found.inner, found.choices, quantity or found.unit)


def _union(arguments: tuple[Any, ...], where: str) -> OptionType:
    members = tuple(option_type(one, where) for one in arguments if one is not types.NoneType)
    is_optional = len(members) < len(arguments)
    if len(members) == 1:
        one = members[0]
        return OptionType(one.form, one.type, one.inner, one.choices, one.unit, is_optional)
    return OptionType("union", object, members, is_optional=is_optional)

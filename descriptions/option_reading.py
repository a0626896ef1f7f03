"""Turns one plain value into one dataclass of options, collecting everything that is wrong with it.

`options.py` is the way in. Types follow `option_fields.py`; a value from the environment is blamed on its variable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from .document import Document, Path, Value
from .errors import DescriptionError
from .option_fields import Option, OptionType, Rule, options_of
from .phrases import nearest, one_of, shape, shown_value
from .units import Unit

WRONG: Any = object()
"""Stands where a value could not be read; the error is noted."""


@dataclass(frozen=True)
class OptionReader:
    """Reads one document."""

    document: Document
    variables: Mapping[Path, str] = field(default_factory=dict)
    """The variable of the environment that a value came from, by path."""
    errors: list[DescriptionError] = field(default_factory=list)

    def record(self, cls: Any, value: Value, path: Path) -> Any:
        """An instance of the dataclass `cls`, or `WRONG`."""
        if not isinstance(value, dict):
            return self._wrong(shape(value), path, "a mapping")
        known = {one.key: one for one in options_of(cls)}
        before = len(self.errors)
        for key in value.keys() - known.keys():
            self._unknown(key, known, path)
        missing = [one for one in known.values() if one.is_required and one.key not in value]
        for one in missing:
            self._wrong("required and missing", (*path, one.key), one.type.words(one.rule))
        given = {one.name: self._option(one, value[one.key], path) for one in known.values() if one.key in value}
        return self._made(cls, given, path) if len(self.errors) == before else WRONG

    def _made(self, cls: Any, given: dict[str, Any], path: Path) -> Any:
        """The instance; what its own `__post_init__` refuses is an error like any other."""
        try:
            return cls(**given)
        except DescriptionError as error:
            return self._wrong(error.message, path, error.expected, error.nearest)
        except ValueError as error:
            return self._wrong(str(error), path)

    def _unknown(self, key: str, known: Mapping[str, Option], path: Path) -> None:
        near = nearest(key, known)
        expected = None if near else one_of(known) if known else "no keys"
        self.errors.append(
            self.document.error(f"unknown key {key[:64]!r}", (*path, key), of_key=True, expected=expected, nearest=near)
        )

    def _option(self, one: Option, value: Value, path: Path) -> Any:
        return self._typed(one.type, one.rule, value, (*path, one.key))

    def _typed(self, kind: OptionType, rule: Rule, value: Value, path: Path) -> Any:
        if value is None and kind.is_optional:
            return None
        match kind.form:
            case "record":
                return self.record(kind.type, value, path)
            case "union":
                return self._union(kind, rule, value, path)
            case "choice":
                return self._choice(kind, rule, value, path)
            case "tuple" if isinstance(value, list | tuple):
                return tuple(self._typed(kind.inner[0], rule, item, (*path, at)) for at, item in enumerate(value))
            case "mapping" if isinstance(value, dict):
                return {key: self._typed(kind.inner[0], rule, item, (*path, key)) for key, item in value.items()}
            case "plain":
                return self._plain(kind, rule, value, path)
        return self._wrong(shape(value), path, kind.words(rule))

    def _union(self, kind: OptionType, rule: Rule, value: Value, path: Path) -> Any:
        for member in kind.inner:
            attempt = OptionReader(self.document, self.variables)
            read = attempt._typed(member, rule, value, path)
            if not attempt.errors:
                return read
        return self._wrong(_not_allowed(value, rule), path, kind.words(rule))

    def _choice(self, kind: OptionType, rule: Rule, value: Value, path: Path) -> Any:
        for choice in kind.choices:
            plain = getattr(choice, "value", choice)
            # 1 == True in Python, so the types are compared too.
            if plain == value and type(plain) is type(value):
                return choice
        words = [str(getattr(choice, "value", choice)) for choice in kind.choices]
        near = nearest(value, words) if isinstance(value, str) else None
        return self._wrong(_not_allowed(value, rule), path, kind.words(rule), near)

    def _plain(self, kind: OptionType, rule: Rule, value: Value, path: Path) -> Any:
        if kind.type is object:
            return value
        if quantity := kind.unit or rule.unit:
            return self._quantity(kind, rule, quantity, value, path)
        if kind.type in (str, FilePath):
            is_right = isinstance(value, str) and bool(value or kind.type is str)
        elif kind.type is bool:
            is_right = isinstance(value, bool)
        else:
            numbers = int if kind.type is int else int | float
            is_right = isinstance(value, numbers) and not isinstance(value, bool)
        if not is_right:
            return self._wrong("not readable" if rule.is_secret else shape(value), path, kind.words(rule))
        made: Any = kind.type
        return self._bounded(made(value), kind, rule, value, path)

    def _quantity(self, kind: OptionType, rule: Rule, unit: Unit, value: Value, path: Path) -> Any:
        try:
            if isinstance(value, str):
                number = unit.parse(value)
            elif unit.bare and isinstance(value, int | float):
                number = unit.check(value)
            else:
                is_bare = isinstance(value, int | float) and not isinstance(value, bool)
                told = f"{value} has no unit" if is_bare else shape(value)
                return self._wrong(told, path, kind.words(rule))
        except DescriptionError as error:
            return self._wrong(error.message, path, kind.words(rule))
        return self._bounded(kind.type(number), kind, rule, value, path)

    def _bounded(self, read: Any, kind: OptionType, rule: Rule, value: Value, path: Path) -> Any:
        is_number = isinstance(read, int | float) and not isinstance(read, bool)
        if is_number and not (math.isfinite(read) and rule.bounds.allow(read)):
            return self._wrong(_not_allowed(value, rule), path, kind.words(rule))
        return read

    def _wrong(self, message: str, path: Path, expected: str | None = None, near: str | None = None) -> Any:
        above = (path[:end] for end in range(len(path), 0, -1))
        variable = next((self.variables[part] for part in above if part in self.variables), None)
        if variable:
            error = DescriptionError(message, file="environment", path=variable, expected=expected, nearest=near)
        else:
            error = self.document.error(message, path, expected=expected, nearest=near)
        self.errors.append(error)
        return WRONG


def _not_allowed(value: Value, rule: Rule) -> str:
    return f"{'the value' if rule.is_secret else shown_value(value)} is not allowed"

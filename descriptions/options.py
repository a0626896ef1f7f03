"""Turns plain values, files and environment variables into frozen dataclasses: plugin options and configuration.

The agent reads its configuration with this, so it imports no pydantic. Policies, mechanisms and inference plugins get
their options through `read_options`, programs theirs through `configure`. How options are declared is in
`option_fields.py`, how they are described in `option_docs.py`; the names that authors need are here again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from .document import Document, Path, Value
from .errors import DescriptionError
from .option_docs import OptionRow, describe, dump_options, env_name, options_schema
from .option_fields import OptionType, option, options_of, unit
from .option_reading import OptionReader
from .phrases import nearest
from .strict_json import load_json

__all__ = [
    "OptionRow",
    "configure",
    "describe",
    "dump_options",
    "option",
    "options_of",
    "options_schema",
    "read_options",
    "unit",
]

T = TypeVar("T")

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def read_options(cls: type[T], values: Mapping[str, object] | Document, path: Path = ()) -> T:
    """An instance of `cls` from a mapping with camelCase keys, or from the one at `path` of a document.

    Raises `DescriptionError` for the first thing that is wrong, with the others in `others`.
    """
    document = values if isinstance(values, Document) else Document(cast("Value", dict(values)))
    value: Any = document.value
    for part in path:
        value = value.get(part) if isinstance(value, dict) else value[part]
    return _read(cls, OptionReader(document), value, path)


def configure(cls: type[T], document: Document | None, env: Mapping[str, str], *, prefix: str) -> T:
    """A configuration from a file (or none) and the environment, which wins: `<prefix>_<SECTION>_<KEY>`.

    A variable that begins with the prefix and fits no option is an error: it would be silently without effect.
    """
    document = document or Document({})
    given = {name: text for name, text in env.items() if name.startswith(f"{prefix}_")}
    variables: dict[Path, str] = {}
    reader = OptionReader(document, variables)
    value = _overlay(cls, document.value, given, variables, prefix, ())
    for name in sorted(given):
        near = nearest(name, [row.env for row in describe(cls, prefix)])
        reader.errors.append(DescriptionError("unknown variable", file="environment", path=name, nearest=near))
    return _read(cls, reader, value, ())


def _read(cls: type[T], reader: OptionReader, value: Value, path: Path) -> T:
    read = reader.record(cls, {} if value is None else value, path)
    if reader.errors:
        first, *others = reader.errors
        first.others = tuple(others)
        raise first
    return cast("T", read)


def _overlay(
    cls: type, value: Value, given: dict[str, str], variables: dict[Path, str], prefix: str, path: Path
) -> Value:
    """`value` with what the environment says of `cls`; each variable that is used is moved to `variables`."""
    if value is not None and not isinstance(value, dict):
        return value
    merged: dict[str, Value] = dict(value or {})
    for one in options_of(cls):
        name, below = env_name(prefix, one.key), (*path, one.key)
        if one.type.form == "record":
            section = _overlay(one.type.type, merged.get(one.key), given, variables, name, below)
            if section is not None and section != {}:
                merged[one.key] = section
        elif name in given:
            variables[below] = name
            merged[one.key] = _from_text(one.type, given.pop(name))
    return merged


def _from_text(kind: OptionType, text: str) -> Value:
    """What a variable means for an option; what doesn't fit stays text and is refused by its reader."""
    if not text and kind.is_optional:
        return None
    if text[:1] in ("[", "{") and kind.form in ("tuple", "mapping", "union"):
        with contextlib.suppress(DescriptionError):
            return load_json(text).value
    if kind.form == "tuple":
        return [_from_text(kind.inner[0], part.strip()) for part in text.split(",") if part.strip()]
    if kind.form == "plain" and kind.type is bool:
        return _WORDS.get(text.lower(), text)
    if kind.unit is None and (kind.form == "choice" or kind.type in (int, float, object)):
        with contextlib.suppress(DescriptionError):
            number = load_json(text).value
            return number if isinstance(number, int | float) or kind.type is object else text
    return text

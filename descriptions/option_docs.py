"""Describes a dataclass of options: rows of the configuration page, JSON Schema, and values as YAML has them.

`docs/configuration.md`, `shoal schema` and the decision records (which keep the options of each policy) are made here.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from dataclasses import MISSING, dataclass, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from .option_fields import Option, OptionType, Rule, options_of

_CAPITAL = re.compile("(?=[A-Z])")
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}


@dataclass(frozen=True)
class OptionRow:
    """One line of the configuration page."""

    key: str
    """`api.port`."""
    env: str
    """`SHOAL_CONTROL_PLANE_API_PORT`."""
    type: str
    """In the words of an error: "an integer from 0 to 65535"."""
    default: str
    """As YAML; "required" where there is none."""
    doc: str


def describe(cls: type, prefix: str = "SHOAL") -> tuple[OptionRow, ...]:
    """A row for every option, sections taken apart; `prefix` begins the names of the variables."""
    rows: list[OptionRow] = []
    for one in options_of(cls):
        env = env_name(prefix, one.key)
        if one.type.form == "record":
            rows += [
                OptionRow(f"{one.key}.{row.key}", row.env, row.type, row.default, row.doc)
                for row in describe(one.type.type, env)
            ]
        else:
            rows.append(OptionRow(one.key, env, one.type.words(one.rule), _shown_default(one), doc_of(cls, one)))
    return tuple(rows)


def env_name(prefix: str, key: str) -> str:
    """`SHOAL_AGENT` and `logLevel` make `SHOAL_AGENT_LOG_LEVEL`."""
    return f"{prefix}_{_CAPITAL.sub('_', key).upper()}"


def doc_of(cls: type, one: Option) -> str:
    """The option's documentation: `option(doc=…)` or the text under the field."""
    return one.rule.doc or _texts_under_fields(cls).get(one.name, "")


def options_schema(cls: type) -> dict[str, Any]:
    """JSON Schema of the mapping that fills `cls`, self-contained; the dialect is 2020-12."""
    options = options_of(cls)
    schema: dict[str, Any] = {"type": "object", "title": cls.__name__, "additionalProperties": False}
    doc = inspect.getdoc(cls) or ""
    if doc and not doc.startswith(f"{cls.__name__}("):  # what dataclasses write themselves says nothing new
        schema["description"] = doc
    schema["properties"] = {one.key: _property(cls, one) for one in options}
    if required := [one.key for one in options if one.is_required]:
        schema["required"] = required
    return schema


def dump_options(options: object) -> dict[str, Any]:
    """The values of an instance as `read_options` takes them, defaults included; secrets are masked."""
    return {one.key: _plain(getattr(options, one.name), one.type, one.rule) for one in options_of(type(options))}


def _property(cls: type, one: Option) -> dict[str, Any]:
    schema = _schema(one.type, one.rule)
    if doc := doc_of(cls, one):
        schema["description"] = doc
    if one.default is not MISSING and not one.rule.is_secret:
        schema["default"] = _plain(one.default, one.type, one.rule)
    return schema


def _schema(kind: OptionType, rule: Rule) -> dict[str, Any]:
    if kind.is_optional:
        required = OptionType(kind.form, kind.type, kind.inner, kind.choices, kind.unit)
        return {"anyOf": [_schema(required, rule), {"type": "null"}]}
    match kind.form:
        case "record":
            return options_schema(kind.type)
        case "tuple":
            return {"type": "array", "items": _schema(kind.inner[0], rule)}
        case "mapping":
            return {"type": "object", "additionalProperties": _schema(kind.inner[0], rule)}
        case "union":
            return {"anyOf": [_schema(one, rule) for one in kind.inner]}
        case "choice":
            return {"enum": [getattr(choice, "value", choice) for choice in kind.choices]}
    return _plain_schema(kind, rule)


def _plain_schema(kind: OptionType, rule: Rule) -> dict[str, Any]:
    if unit := kind.unit or rule.unit:
        text = {"type": "string", "pattern": unit.pattern}
        number = {"type": "integer" if kind.type is int else "number", "minimum": 0}
        return {"anyOf": [text, number]} if unit.bare else text
    if kind.type is object:
        return {}
    words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    bounds = {word: bound for name, word in words.items() if (bound := getattr(rule.bounds, name)) is not None}
    return {"type": _JSON_TYPES[kind.type], **bounds}


def _plain(value: Any, kind: OptionType, rule: Rule) -> Any:
    """A value as YAML and JSON have it."""
    if value is None:
        return None
    if rule.is_secret:
        return "**********"
    if is_dataclass(value) and not isinstance(value, type):
        return dump_options(value)
    if isinstance(value, Enum | Path):
        return value.value if isinstance(value, Enum) else str(value)
    if isinstance(value, tuple | list):
        return [_plain(item, kind.inner[0] if kind.inner else kind, rule) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, kind.inner[0] if kind.inner else kind, rule) for key, item in value.items()}
    unit = kind.unit or rule.unit or next((one.unit for one in kind.inner if one.unit), None)
    is_text = isinstance(value, str | bool)
    return unit.format(cast("float", value)) if unit and not is_text else value


def _shown_default(one: Option) -> str:
    if one.default is MISSING:
        return "required"
    value = _plain(one.default, one.type, one.rule)
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


@cache
def _texts_under_fields(cls: type) -> dict[str, str]:
    """The string that stands under a field in the source, as Python itself doesn't keep it."""
    texts: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(parent)))
        except (OSError, TypeError, SyntaxError):
            continue  # made without a source file
        body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
        for statement, following in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    texts[statement.target.id] = inspect.cleandoc(text.value)
    return texts

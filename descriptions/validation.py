"""Turns a loaded document into a kind, or into errors that say where, what was expected and what was probably meant.

Called by `load.py`. All errors of a document are found in one pass; what pydantic reports is put into words by
`wording.py` and pinned to the line that `document.py` remembers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .document import Document, Path, Value
from .errors import DescriptionError
from .kinds import KINDS, Kind
from .kinds.meta import API_VERSION, Fault
from .wording import PATTERNS, Spot, spot_at

ERRORS_MAX = 50
"""Errors told of one document."""


def validate(document: Document) -> Kind:
    """The kind that the document describes; raises `DescriptionError` with the further ones in `others`."""
    model = _model(document)
    try:
        # By way of JSON: there pydantic is strict about types and still takes lists for tuples and text for enums.
        return model.model_validate_json(json.dumps(document.value), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise joined(_told(document, model, error)) from None


def joined(errors: Sequence[DescriptionError]) -> DescriptionError:
    """The first error, carrying the others of the same input."""
    first, *others = errors
    first.others = tuple(others)
    return first


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most probably meant, whatever its case."""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(word[:64].casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def _model(document: Document) -> type[Kind]:
    """The model that `apiVersion` and `kind` name."""
    top = document.value
    if not isinstance(top, dict):
        raise document.error(f"{what(top)}", expected="a mapping with apiVersion, kind, metadata and spec")
    version, kind = top.get("apiVersion"), top.get("kind")
    if "kind" not in top:
        raise document.error("required and missing", ("kind",), expected=f"one of {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        meant = nearest(kind, KINDS) if isinstance(kind, str) else None
        expected = None if meant else f"one of {', '.join(KINDS)}"
        raise document.error(f"unknown kind {shown_value(kind)}", ("kind",), expected=expected, nearest=meant)
    if version != API_VERSION:
        message = f"unknown version {shown_value(version)}" if "apiVersion" in top else "required and missing"
        raise document.error(message, ("apiVersion",), expected=API_VERSION)
    return KINDS[kind]


def _told(document: Document, model: type[BaseModel], error: ValidationError) -> list[DescriptionError]:
    """One error a place: the members of a union complain one by one, people want to hear it once."""
    by_place: dict[tuple[Path, str], DescriptionError] = {}
    for detail in error.errors(include_url=False)[: 4 * ERRORS_MAX]:
        path, on_key = _clean(document.value, detail)
        for one in _errors(document, model, detail, path, on_key=on_key):
            by_place.setdefault((path, one.path or ""), one)
    return sorted(by_place.values(), key=lambda one: (one.line or 0, one.column or 0))[:ERRORS_MAX]


def _clean(value: Value, detail: ErrorDetails) -> tuple[Path, bool]:
    """The location without pydantic's own words (names of union members, `[key]`), and whether it is about the key."""
    path: list[str | int] = []
    location = detail["loc"]
    for part in location:
        if _has(value, part):
            value = _at(value, (part,))
        elif detail["type"] != "missing" or part is not location[-1]:
            continue
        path.append(part)
    return tuple(path), location[-1:] == ("[key]",) or detail["type"] == "extra_forbidden"


def _errors(
    document: Document, model: type[BaseModel], detail: ErrorDetails, path: Path, *, on_key: bool
) -> Iterator[DescriptionError]:
    faults: tuple[Fault, ...] = detail.get("ctx", {}).get("faults", ())
    for fault in faults:
        meant = nearest(fault.word, fault.choices) if fault.choices else None
        yield document.error(fault.message, path + fault.at, expected=fault.expected or None, nearest=meant)
    if not faults:
        yield _error(document, model, detail, path, on_key=on_key)


def _error(
    document: Document, model: type[BaseModel], detail: ErrorDetails, path: Path, *, on_key: bool
) -> DescriptionError:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(document, spot_at(model, path[:-1]), path)
    if kind == "missing":
        here = spot_at(model, path)
        return document.error("required and missing", path, expected=here.words if here else None)
    if on_key:
        return document.error(
            f"key {str(path[-1])[:64]!r} does not fit", path, of_key=True, expected=_key_words(detail)
        )
    here, value = spot_at(model, path), _at(document.value, path)
    meant = nearest(value, here.choices) if here and isinstance(value, str) else None
    message = detail.get("ctx", {}).get("told") or _message(kind, value, is_secret=model.__name__ == "Secret")
    return document.error(message, path, expected=here.words if here else None, nearest=meant)


def _unknown_key(document: Document, above: Spot | None, path: Path) -> DescriptionError:
    keys = above.keys if above else ()
    meant = nearest(str(path[-1]), keys)
    expected = None if meant or not keys else f"one of {', '.join(keys)}"
    return document.error(f"unknown key {str(path[-1])[:64]!r}", path, of_key=True, expected=expected, nearest=meant)


def _key_words(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    pattern = str(context.get("pattern", ""))
    return PATTERNS.get(pattern) or context.get("expected") or "a shorter key"


def _message(kind: str, value: Value, *, is_secret: bool) -> str:
    """What is wrong with `value`, without the value where it may be a secret."""
    if isinstance(value, list | dict) or value is None or value == "":
        entries = (
            f" with {len(value)} entries"
            if kind in ("too_long", "too_short") and isinstance(value, list | dict)
            else ""
        )
        return what(value) + entries
    if kind == "string_too_long" and isinstance(value, str):
        return f"{len(value)} characters are too many"
    told = "the value" if is_secret else shown_value(value)
    if kind.endswith(("_type", "_from_float", "_parsing")):
        return f"{told} is {_TYPES.get(type(value), 'something else')}"
    return f"{told} is not allowed"


_TYPES: dict[type, str] = {str: "text", bool: "true or false", int: "an integer", float: "a number with a fraction"}


def what(value: Value) -> str:
    """Words for the shape of a value."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "empty" if value is None or value == "" else shown_value(value)


def shown_value(value: object) -> str:
    """A value as an error quotes it: short, on one line."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _has(value: Value, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _at(value: Value, path: Path) -> Value:
    for part in path:
        value = cast("Any", value)[part] if _has(value, part) else None
    return value

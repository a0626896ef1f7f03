"""Turns a loaded document into a kind, or into errors that say where, what was expected and what was probably meant.

Called by `load.py`. All errors of a document are found in one pass; what pydantic reports is put into words by
`wording.py` and pinned to the line that `document.py` remembers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .document import Document, Path, Value
from .errors import DescriptionError
from .kinds import KINDS, Kind, Secret
from .kinds.meta import API_VERSION, Fault
from .phrases import nearest, one_of, shape, shown_value
from .wording import PATTERNS, spot_at

M = TypeVar("M", bound=BaseModel)

ERRORS_MAX = 50
"""Errors told of one document; with thousands, the first are enough to see what is going on."""


def validate(document: Document) -> Kind:
    """The kind that the document describes; raises `DescriptionError` with the further ones in `others`."""
    return validate_as(document, _model(document))


def validate_as(document: Document, model: type[M]) -> M:
    """The document as this model, such as the body of a request; errors as `validate` tells them."""
    try:
        # By way of JSON: there pydantic is strict about types and still takes lists for tuples and text for enums.
        return model.model_validate_json(json.dumps(document.value), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise joined(_Teller(document, model).tell(error)) from None


def joined(errors: Sequence[DescriptionError]) -> DescriptionError:
    """The first error, carrying the others of the same input."""
    first, *others = errors
    first.others = tuple(others)
    return first


def _model(document: Document) -> type[Kind]:
    """The model that `apiVersion` and `kind` name."""
    top = document.value
    if not isinstance(top, dict):
        raise document.error(shape(top), expected="a mapping with apiVersion, kind, metadata and spec")
    version, kind = top.get("apiVersion"), top.get("kind")
    if "kind" not in top:
        raise document.error("required and missing", ("kind",), expected=one_of(KINDS))
    if not isinstance(kind, str) or kind not in KINDS:
        meant = nearest(kind, KINDS) if isinstance(kind, str) else None
        expected = None if meant else one_of(KINDS)
        raise document.error(f"unknown kind {shown_value(kind)}", ("kind",), expected=expected, nearest=meant)
    if version != API_VERSION:
        message = f"unknown version {shown_value(version)}" if "apiVersion" in top else "required and missing"
        raise document.error(message, ("apiVersion",), expected=API_VERSION)
    return KINDS[kind]


@dataclass(frozen=True)
class _Teller:
    """Puts what pydantic found wrong in one document into words."""

    document: Document
    model: type[BaseModel]

    def tell(self, error: ValidationError) -> list[DescriptionError]:
        """One error a place: the members of a union complain one by one, people want to hear it once."""
        by_path: dict[str | None, DescriptionError] = {}
        details = error.errors(include_url=False)
        for one in islice((one for detail in details for one in self._errors(detail)), ERRORS_MAX):
            by_path.setdefault(one.path, one)
        return sorted(by_path.values(), key=lambda one: (one.line or 0, one.column or 0))

    def _errors(self, detail: ErrorDetails) -> Iterator[DescriptionError]:
        path = self._path(detail)
        if faults := detail.get("ctx", {}).get("faults"):
            yield from (self._fault(fault, path) for fault in faults)
        elif detail["type"] == "extra_forbidden":
            yield self._unknown_key(path)
        elif detail["type"] == "missing":
            yield self._wrong("required and missing", path)
        elif detail["type"] == "too_short" and self._is_long_enough(detail, path):
            return  # pydantic counts only the entries that are right, and each wrong one is told anyway
        elif detail["loc"][-1:] == ("[key]",):
            yield self._key(detail, path)
        else:
            yield self._value(detail, path)

    def _path(self, detail: ErrorDetails) -> Path:
        """The location without pydantic's own words: names of union members, `[key]`."""
        path: list[str | int] = []
        value = self.document.value
        for index, part in enumerate(detail["loc"], start=1):
            is_absent = detail["type"] == "missing" and index == len(detail["loc"])
            if is_absent or _has(value, part):
                path.append(part)
                value = _at(value, (part,))
        return tuple(path)

    def _wrong(self, message: str, path: Path, near: str | None = None) -> DescriptionError:
        here = spot_at(self.model, path)
        return self.document.error(message, path, expected=here.words if here else None, nearest=near)

    def _fault(self, fault: Fault, path: Path) -> DescriptionError:
        meant = nearest(fault.word, fault.choices) if fault.choices else None
        return self.document.error(fault.message, path + fault.at, expected=fault.expected or None, nearest=meant)

    def _unknown_key(self, path: Path) -> DescriptionError:
        above, key = spot_at(self.model, path[:-1]), str(path[-1])
        keys = above.keys if above else ()
        meant = nearest(key, keys)
        expected = None if meant or not keys else one_of(keys)
        return self.document.error(f"unknown key {key[:64]!r}", path, of_key=True, expected=expected, nearest=meant)

    def _key(self, detail: ErrorDetails, path: Path) -> DescriptionError:
        context = detail.get("ctx", {})
        words = PATTERNS.get(str(context.get("pattern"))) or context.get("expected") or "a shorter key"
        return self.document.error(
            f"key {str(path[-1])[:64]!r} does not fit", path, of_key=True, expected=words.replace("'", "")
        )

    def _value(self, detail: ErrorDetails, path: Path) -> DescriptionError:
        here, value = spot_at(self.model, path), _at(self.document.value, path)
        message = detail.get("ctx", {}).get("told") or self._message(detail["type"], value)
        meant = nearest(value, here.choices) if here and isinstance(value, str) else None
        return self._wrong(message, path, meant)

    def _is_long_enough(self, detail: ErrorDetails, path: Path) -> bool:
        value = _at(self.document.value, path)
        return isinstance(value, list | dict) and len(value) >= detail.get("ctx", {}).get("min_length", 0)

    def _message(self, kind: str, value: Value) -> str:
        """What is wrong with `value`; a secret is not quoted."""
        told = "the value" if self.model is Secret else shown_value(value)
        if kind in ("too_long", "too_short") and isinstance(value, list | dict):
            return f"{len(value)} entries are too {'many' if kind == 'too_long' else 'few'}"
        if kind == "string_too_long" and isinstance(value, str):
            return f"{len(value)} characters are too many"
        if isinstance(value, list | dict) or value is None or value == "":
            return shape(value)
        if kind.endswith(("_type", "_from_float", "_parsing")):
            return "the value is not text" if self.model is Secret else shape(value)
        return f"{told} is not allowed"


def _has(value: Value, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _at(value: Value, path: Path) -> Value:
    for part in path:
        value = cast("Any", value)[part] if _has(value, part) else None
    return value

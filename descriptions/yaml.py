"""Turns YAML text into documents of plain values with the place of every one, and plain values into YAML text.

The only module that imports PyYAML. It reads the parser's events itself instead of loading and checking afterwards,
because what it refuses (anchors, aliases, tags, duplicate keys, deep and large documents) must not cost anything first.
Plain scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema) without hexadecimal and
octal numbers: `no`, `on`, `1:30` and `2024-01-01` are text. `load.py` and the CLI call it; the meaning is theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from .document import INT_MAX, INT_MIN, LIMITS, Document, Limits, Path, Place, Value
from .errors import DescriptionError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# https://yaml.org/spec/1.2.2/#51-character-set; checked here because the two parsers of PyYAML tell it differently.
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def load_yaml(text: str | bytes, *, file: str | None = None, limits: Limits = LIMITS) -> list[Document]:
    """Every document of the stream, empty ones left out; raises `DescriptionError` at the first that can't be read."""
    if len(text) > limits.stream_bytes_max:
        raise DescriptionError(f"{len(text)} bytes, over the limit of {limits.stream_bytes_max}", file=file)
    try:
        return list(_documents(text.decode("utf-8-sig") if isinstance(text, bytes) else text, file, limits))
    except UnicodeDecodeError as error:
        raise DescriptionError(f"byte {error.start} is not UTF-8", file=file, expected="UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        # A key without its colon is noticed a line later; everything else is noticed where it is wrong.
        mark = error.context_mark if "simple key" in (error.context or "") else error.problem_mark
        told = ", ".join(part for part in (error.problem, error.context) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise DescriptionError(f"not YAML: {told}", file=file, line=line, column=column) from None


def dump_yaml(*values: Value) -> str:
    """Block-style YAML that `load_yaml` reads back equal; several values become several documents."""
    text: str = yaml.dump_all(
        values, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )
    return text


def _documents(text: str, file: str | None, limits: Limits) -> Iterator[Document]:
    if refused := _NOT_PRINTABLE.search(text):
        place = _place_at(text, refused.start())
        message = f"character {refused.group()!a} is not allowed in YAML"
        raise DescriptionError(message, file=file, line=place.line, column=place.column)
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    count = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            count += 1
            builder = _Builder(events, file, limits, _index(event))
            if count > limits.documents_max:
                raise builder.refused(event, f"more than {limits.documents_max} documents in one file")
            document = builder.build()
            if document.value is not None:
                yield document


@dataclass
class _Builder:
    """Builds one document out of the parser's events."""

    events: Iterator[Any]
    file: str | None
    limits: Limits
    start: int
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def build(self) -> Document:
        value = self._value(next(self.events), ())
        return Document(value, self.file, self.values, self.keys)

    def refused(self, event: Any, message: str, expected: str | None = None) -> DescriptionError:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        return DescriptionError(message, file=self.file, line=line, column=column, expected=expected)

    def _value(self, event: Any, path: Path) -> Value:
        self._check(event, path)
        self.values[path] = Place(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event)

    def _check(self, event: Any, path: Path) -> None:
        if event.end_mark.index - self.start > self.limits.document_bytes_max:
            raise self.refused(event, f"a document over the limit of {self.limits.document_bytes_max} bytes")
        if isinstance(event, yaml.AliasEvent):
            raise self.refused(event, f"alias *{str(event.anchor)[:40]} is not allowed", "the value itself")
        if event.anchor is not None:
            raise self.refused(event, f"anchor &{event.anchor[:40]} is not allowed", "a value without anchors")
        if event.tag is not None:
            raise self.refused(event, f"tag {_shown_tag(event.tag)} is not allowed", "a value without tags")
        if len(path) >= self.limits.depth_max and not isinstance(event, yaml.ScalarEvent):
            raise self.refused(event, f"nested deeper than {self.limits.depth_max} levels")
        if len(self.values) >= self.limits.nodes_max:
            raise self.refused(event, f"more than {self.limits.nodes_max} values in one document")

    def _mapping(self, path: Path) -> dict[str, Value]:
        mapping: dict[str, Value] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path)
            if key in mapping:
                first = self.keys[(*path, key)]
                raise self.refused(event, f"duplicate key {key[:64]!r}, first on line {first.line}")
            self.keys[(*path, key)] = Place(event.start_mark.line + 1, event.start_mark.column + 1)
            mapping[key] = self._value(next(self.events), (*path, key))
        return mapping

    def _key(self, event: Any, path: Path) -> str:
        self._check(event, path)
        key = self._scalar(event) if isinstance(event, yaml.ScalarEvent) else None
        if isinstance(key, str):
            return key
        shown = f"key {event.value[:40]!r} is" if isinstance(event, yaml.ScalarEvent) else "a list or mapping as key is"
        raise self.refused(event, f"{shown} not text", "a text key; quote it if it is meant as text")

    def _sequence(self, path: Path) -> list[Value]:
        items: list[Value] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items))))
        return items

    def _scalar(self, event: Any) -> Value:
        text: str = event.value
        if "\0" in text:
            raise self.refused(event, "a NUL character is not allowed")
        if not event.implicit[0]:
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            if len(text) > 20 or not INT_MIN <= int(text) <= INT_MAX:
                raise self.refused(event, f"{text[:40]} does not fit in 64 bits", f"an integer up to {INT_MAX}")
            return int(text)
        if _FLOAT.fullmatch(text):
            return self._float(event, text)
        if _NOT_FINITE.fullmatch(text):
            raise self.refused(event, f"{text} is not a number", "a finite number")
        return text

    def _float(self, event: Any, text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise self.refused(event, f"{text[:40]} is too large", "a finite number")
        return number


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:40]


def _index(event: Any) -> int:
    return int(event.start_mark.index)


def _place_at(text: str, index: int) -> Place:
    before = text[:index]
    return Place(before.count("\n") + 1, index - before.rfind("\n"))


class _PlainDumper(_Dumper):  # type: ignore[misc]
    """Writes no aliases, and quotes each text that `load_yaml` would read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# YAML 1.1, which PyYAML writes, needs a point in a float; the core schema of 1.2, which we read, does not.
_PlainDumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^{_FLOAT.pattern}$"), list("-+.0123456789"))

"""One loaded document: plain values with the place of each, and the limits that every input is held to.

`yaml.py` and `strict_json.py` make documents, `load.py` turns them into kinds, `options.py` into options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .errors import DescriptionError

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | bool | None"
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Limits:
    """What one input may cost; over it the input is refused, not cut."""

    document_bytes_max: int = 256 * 1024
    stream_bytes_max: int = 16 * 1024 * 1024
    documents_max: int = 4096
    depth_max: int = 32
    nodes_max: int = 50_000
    """Scalars, lists and mappings of one document; 256 KiB of `[` and `,` would be 40 MB of Python objects."""


LIMITS = Limits()
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
"""Integers outside can't be kept by SQLite, PostgreSQL or msgpack."""


@dataclass(frozen=True)
class Place:
    """Line and column, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """A document's value, and where its values and keys are written."""

    value: Value
    file: str | None = None
    values: Mapping[Path, Place] = field(default_factory=dict)
    keys: Mapping[Path, Place] = field(default_factory=dict)
    """Place of the key by the path of its value."""

    def place(self, path: Path, *, of_key: bool = False) -> Place | None:
        """Where `path` is written; for a path that isn't there, the key of the nearest enclosing value that is."""
        if of_key and path in self.keys:
            return self.keys[path]
        if path in self.values:
            return self.values[path]
        above = (path[:length] for length in range(len(path) - 1, -1, -1))
        return next((self.keys.get(part) or self.values[part] for part in above if part in self.values), None)

    def error(
        self,
        message: str,
        path: Path = (),
        *,
        of_key: bool = False,
        expected: str | None = None,
        nearest: str | None = None,
    ) -> DescriptionError:
        """An error about `path` of this document."""
        place = self.place(path, of_key=of_key)
        return DescriptionError(
            message,
            file=self.file,
            line=place.line if place else None,
            column=place.column if place else None,
            path=shown(path) or None,
            expected=expected,
            nearest=nearest,
        )


def shown(path: Path) -> str:
    """`spec.components[0].labels["a.b/c"]`: keys that aren't plain words are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "a").isalnum() and part.isascii():
            text += f".{part[:64]}" if text else part[:64]
        else:
            text += f"[{json.dumps(part[:64], ensure_ascii=False)}]"
    return text

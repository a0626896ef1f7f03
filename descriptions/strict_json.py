"""Turns JSON text into a document of plain values, held to the same limits as YAML, with places for error messages.

Called for API bodies and `.json` files. The standard library parses (RFC 8259 without NaN, Infinity, duplicate keys and
integers over 64 bits); only an input that turns out wrong is read again, slowly, to say where.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from .document import INT_MAX, INT_MIN, LIMITS, Document, Limits, Path, Place, Value
from .errors import DescriptionError

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def load_json(text: str | bytes, *, file: str | None = None, limits: Limits = LIMITS) -> Document:
    """The one value of the text, without places; raises `DescriptionError` that says where it is wrong."""
    decoded = _decoded(text, file, limits)
    try:
        value = _DECODER.decode(decoded)
        _check(value, limits)
        return Document(value, file)
    except (ValueError, RecursionError):
        return locate(decoded, file=file, limits=limits)


def locate(text: str | bytes, *, file: str | None = None, limits: Limits = LIMITS) -> Document:
    """Parse as `load_json` does and keep the place of every value; some ten times slower."""
    scanner = _Scanner(_decoded(text, file, limits), file, limits)
    value, end = scanner.value(scanner.skip(0), ())
    if scanner.skip(end) != len(scanner.text):
        scanner.refuse(scanner.skip(end), "more text after the end of the document")
    return Document(value, file, scanner.values, scanner.keys)


def _decoded(text: str | bytes, file: str | None, limits: Limits) -> str:
    if len(text) > limits.document_bytes_max:
        raise DescriptionError(f"{len(text)} bytes, over the limit of {limits.document_bytes_max}", file=file)
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise DescriptionError(f"byte {error.start} is not UTF-8", file=file, expected="UTF-8 text") from None


def _pairs(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError
    return mapping


def _integer(text: str) -> int:
    if len(text) > 20 or not INT_MIN <= int(text) <= INT_MAX:
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)


def _check(value: Value, limits: Limits) -> None:
    """Depth, number of values and text, without recursion."""
    nodes = 0
    waiting: list[tuple[Value, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        nodes += 1
        if isinstance(item, str):
            _check_text(item)
            continue
        if not isinstance(item, dict | list):
            continue
        if depth >= limits.depth_max or nodes + len(item) > limits.nodes_max:
            raise ValueError
        if isinstance(item, dict):
            for key in item:
                _check_text(key)
        waiting.extend((child, depth + 1) for child in (item.values() if isinstance(item, dict) else item))
    if nodes > limits.nodes_max:
        raise ValueError


def _check_text(text: str) -> None:
    if not text.isascii() or "\0" in text:
        text.encode()
        if "\0" in text:
            raise ValueError


@dataclass
class _Scanner:
    """A recursive parser that knows where it is; its depth is limited."""

    text: str
    file: str | None
    limits: Limits
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def refuse(self, index: int, message: str, expected: str | None = None) -> NoReturn:
        place = self._place(index)
        raise DescriptionError(message, file=self.file, line=place.line, column=place.column, expected=expected)

    def skip(self, index: int) -> int:
        match = _SPACE.match(self.text, index)
        return match.end() if match else index

    def value(self, index: int, path: Path) -> tuple[Value, int]:
        if len(self.values) >= self.limits.nodes_max:
            self.refuse(index, f"more than {self.limits.nodes_max} values in one document")
        self.values[path] = self._place(index)
        first = self.text[index : index + 1]
        if first and first in "{[":
            if len(path) >= self.limits.depth_max:
                self.refuse(index, f"nested deeper than {self.limits.depth_max} levels")
            return self._mapping(index + 1, path) if first == "{" else self._sequence(index + 1, path)
        return self._string(index) if first == '"' else self._scalar(index)

    def _mapping(self, index: int, path: Path) -> tuple[dict[str, Value], int]:
        mapping: dict[str, Value] = {}
        index = self.skip(index)
        while not self._at(index, "}") or mapping:
            key, end = self._string(index)
            if key in mapping:
                self.refuse(index, f"duplicate key {key[:64]!r}, first on line {self.keys[(*path, key)].line}")
            self.keys[(*path, key)] = self._place(index)
            end = self.skip(end)
            if not self._at(end, ":"):
                self.refuse(end, "not JSON: a key without its value", "':'")
            mapping[key], end = self.value(self.skip(end + 1), (*path, key))
            index = self.skip(end)
            if self._at(index, "}"):
                break
            index = self._comma(index, "'}'")
        return mapping, index + 1

    def _sequence(self, index: int, path: Path) -> tuple[list[Value], int]:
        items: list[Value] = []
        index = self.skip(index)
        while not self._at(index, "]") or items:
            item, end = self.value(index, (*path, len(items)))
            items.append(item)
            index = self.skip(end)
            if self._at(index, "]"):
                break
            index = self._comma(index, "']'")
        return items, index + 1

    def _comma(self, index: int, closing: str) -> int:
        if not self._at(index, ","):
            self.refuse(index, f"not JSON: {self._shown(index)}", f"',' or {closing}")
        return self.skip(index + 1)

    def _string(self, index: int) -> tuple[str, int]:
        if not self._at(index, '"'):
            self.refuse(index, f"not JSON: {self._shown(index)}", "a text key in double quotes")
        try:
            text, end = scanstring(self.text, index + 1, True)
            text.encode()
        except json.JSONDecodeError as error:
            self.refuse(error.pos, f"not JSON: {error.msg.removesuffix(' at')}")
        except UnicodeEncodeError:
            self.refuse(index, "half of a surrogate pair is not a character")
        if "\0" in text:
            self.refuse(index, "a NUL character is not allowed")
        return text, end

    def _scalar(self, index: int) -> tuple[Value, int]:
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, index):
                return meaning, index + len(word)
        match = _NUMBER.match(self.text, index)
        if match is None:
            self.refuse(index, f"not JSON: {self._shown(index)}", "a value")
        return self._number(match), match.end()

    def _number(self, match: re.Match[str]) -> int | float:
        text = match.group()
        if match.group(1) or match.group(2):
            if not math.isfinite(float(text)):
                self.refuse(match.start(), f"{text[:40]} is too large", "a finite number")
            return float(text)
        if len(text) > 20 or not INT_MIN <= int(text) <= INT_MAX:
            self.refuse(match.start(), f"{text[:40]} does not fit in 64 bits", f"an integer up to {INT_MAX}")
        return int(text)

    def _at(self, index: int, character: str) -> bool:
        return self.text.startswith(character, index)

    def _shown(self, index: int) -> str:
        return (
            f"unexpected {self.text[index : index + 12]!r}" if index < len(self.text) else "unexpected end of the text"
        )

    def _place(self, index: int) -> Place:
        line = bisect_right(self._lines, index)
        return Place(line, index - self._lines[line - 1] + 1)

    @cached_property
    def _lines(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

"""Turns files, folders, standard input and request bodies into kinds, and kinds back into plain values.

Called by the CLI (`apply`, `what-if`), the northbound API and the examples. All errors of one input are told at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .document import LIMITS, Document, Limits
from .errors import DescriptionError
from .kinds import Kind
from .strict_json import load_json, locate
from .validation import joined, validate
from .yaml import load_yaml

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


@dataclass(frozen=True)
class Described:
    """A kind and the document that it was written in."""

    kind: Kind
    document: Document

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name: what tells the objects of a slice apart."""
        return self.kind.kind, self.kind.metadata.name


def load_paths(paths: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> tuple[Described, ...]:
    """Every kind in the files, in the folders' `.yaml`, `.yml` and `.json` files by name, and in `-`, standard input.

    Raises `DescriptionError` with all that is wrong in all of them; an object described twice is wrong.
    """
    errors: list[DescriptionError] = []
    found: list[Described] = []
    for path in paths:
        try:
            for file in _files(path):
                _load_file(file, stdin, found, errors)
        except DescriptionError as error:
            errors += error.all
    errors += _twice(found)
    if errors:
        raise joined(errors)
    return tuple(found)


def load_text(text: str | bytes, *, file: str | None = None, limits: Limits = LIMITS) -> tuple[Described, ...]:
    """Every kind in one text: YAML, or JSON where the file's name says so."""
    errors: list[DescriptionError] = []
    found: list[Described] = []
    for document in _documents(text, file, limits):
        try:
            found.append(Described(validate(document), document))
        except DescriptionError as error:
            errors += error.all
    if errors:
        raise joined(errors)
    return tuple(found)


def load_body(body: bytes, *, limits: Limits = LIMITS) -> Kind:
    """The kind in the JSON body of a request."""
    document = load_json(body, limits=limits)
    try:
        return validate(document)
    except DescriptionError:
        return validate(locate(body, limits=limits))


def kind_of(value: Mapping[str, Any]) -> Kind:
    """The kind in a plain value, such as the result of a merge patch."""
    return validate(Document(dict(value)))


def dump(kind: Kind) -> dict[str, Any]:
    """The plain value of a kind: camelCase, quantities as text, without what isn't set; `kind_of` reads it back equal.

    Only a Secret doesn't come back: its values are masked.
    """
    return kind.model_dump(mode="json", by_alias=True, exclude_none=True)


def _files(path: str | Path) -> list[str | Path]:
    if str(path) == STDIN or not Path(path).is_dir():
        return [path]
    files = sorted(file for file in Path(path).iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise DescriptionError(
            "nothing to read in this folder", file=str(path), expected=f"{', '.join(SUFFIXES)} files"
        )
    return [*files]


def _load_file(
    path: str | Path, stdin: BinaryIO | None, found: list[Described], errors: list[DescriptionError]
) -> None:
    is_stdin = str(path) == STDIN
    name = "<stdin>" if is_stdin else str(path)
    try:
        text = _read(stdin or sys.stdin.buffer) if is_stdin else _read_file(Path(path))
        found += load_text(text, file=name)
    except OSError as error:
        errors.append(DescriptionError((error.strerror or str(error)).lower(), file=name))
    except DescriptionError as error:
        errors += error.all


def _read_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        return _read(stream)


def _read(stream: BinaryIO) -> bytes:
    # One byte more than allowed, so that the loader sees that it is too much; a device or pipe may never end.
    return stream.read(LIMITS.stream_bytes_max + 1)


def _documents(text: str | bytes, file: str | None, limits: Limits) -> Sequence[Document]:
    is_json = Path(file or "").suffix == ".json"
    return [locate(text, file=file, limits=limits)] if is_json else load_yaml(text, file=file, limits=limits)


def _twice(found: Sequence[Described]) -> Iterator[DescriptionError]:
    first: dict[tuple[str, str], Described] = {}
    for one in found:
        before = first.setdefault(one.key, one)
        if before is not one:
            place = before.document.place(("metadata", "name"))
            where = f"{before.document.file or 'the same input'}:{place.line if place else 1}"
            message = f"{one.key[0]} {one.key[1]} is described twice, first in {where}"
            yield one.document.error(message, ("metadata", "name"))

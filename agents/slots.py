"""Two slots on disk for the desired document, so that one whole, signed document survives any crash.

`run.py` writes here what the reconcile core accepted and reads at the start, before any network. A slot is the sealed
bytes as they were received, behind a line with their SHA-256: a torn or flipped byte is found before the seal is even
looked at. A document that proved healthy is the last known good; the next one goes to the other slot.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.codec import decode
from ..descriptions.messages.desired import Desired
from ..descriptions.signing import ENVELOPE_MAX, KeyRing, open_sealed
from .files import read_capped, write_whole

logger = logging.getLogger(__name__)

DOCUMENT_MAX = 8 * 1024 * 1024
"""Largest sealed document, fetched by URL; inline ones are far smaller."""
_MAGIC = b"shoal-desired-1 "
_HEADER = len(_MAGIC) + 64 + 1


@dataclass(frozen=True)
class Kept:
    """A valid document found in a slot."""

    path: Path
    desired: Desired
    sealed: bytes


def open_desired(keys: KeyRing, sealed: bytes, topic: str) -> Desired:
    """Verify the seal, then decode; `ProtocolError` says what is wrong."""
    body = open_sealed(keys, sealed, DOCUMENT_MAX + ENVELOPE_MAX, context=topic)
    return decode(Desired, body, DOCUMENT_MAX)


def pack(sealed: bytes) -> bytes:
    """What a slot holds: the document behind its digest."""
    return _MAGIC + hashlib.sha256(sealed).hexdigest().encode() + b"\n" + sealed


def unpack(data: bytes) -> bytes:
    """The document in a slot; `ProtocolError` when it isn't whole."""
    sealed = data[_HEADER:]
    if data != pack(sealed):
        raise ProtocolError("torn or changed on disk")
    return sealed


S = TypeVar("S")


def slot_to_replace(slots: Sequence[S], kept: Mapping[S, Desired], good_digest: str) -> S:
    """The slot that does not hold the last known good: an empty one, else the older one of those that may go."""
    empty = [slot for slot in slots if slot not in kept]
    if empty:
        return empty[0]
    older_first = sorted(slots, key=lambda slot: (kept[slot].epoch, kept[slot].generation))
    return next((slot for slot in older_first if kept[slot].digest != good_digest), older_first[0])


class Slots:
    """The two files; not safe for two writers."""

    def __init__(self, folder: Path, keys: KeyRing, topic: str) -> None:
        """`topic` is that of the node's `down/desired`, which the seal covers."""
        self.paths = (folder / "desired-a", folder / "desired-b")
        self._keys = keys
        self._topic = topic

    def save(self, sealed: bytes, good_digest: str) -> None:
        """Durably replace the slot that does not hold the last known good; the older one when neither does."""
        kept = {one.path: one.desired for one in self._valid()}
        write_whole(slot_to_replace(self.paths, kept, good_digest), pack(sealed))

    def load(self) -> tuple[Kept | None, tuple[str, ...]]:
        """The newest valid document, and what was wrong with slots that hold none."""
        problems: list[str] = []
        valid = sorted(self._valid(problems), key=lambda one: (one.desired.epoch, one.desired.generation))
        return (valid[-1] if valid else None), tuple(problems)

    def _valid(self, problems: list[str] | None = None) -> Iterator[Kept]:
        for path in self.paths:
            try:
                sealed = self._read(path)
                if sealed is not None:
                    yield Kept(path, open_desired(self._keys, sealed, self._topic), sealed)
            except (ProtocolError, TransportError) as error:
                logger.warning("slot=%s not used: %s", path.name, error)
                if problems is not None:
                    problems.append(f"{path.name}: {error}")

    def _read(self, path: Path) -> bytes | None:
        data = read_capped(path, _HEADER + DOCUMENT_MAX + ENVELOPE_MAX)
        return None if data is None else unpack(data)

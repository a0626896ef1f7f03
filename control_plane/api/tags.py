"""Entity tags and continuation tokens: the small texts that clients carry from one answer to the next request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import TypeVar

from ..store.feed import Versioned
from .refusals import InvalidError

V = TypeVar("V", bound=Versioned)

_TAG = re.compile(r'"(\d{1,18})"')


def tag(version: int) -> str:
    """The strong entity tag of an object at a version."""
    return f'"{version}"'


def parse_tag(text: str) -> int:
    """The version in a tag. A tag that we never gave matches no version, as RFC 9110 wants it."""
    parts = _TAG.fullmatch(text)
    if parts is None:
        raise InvalidError('If-Match is * or one tag as GET gave it, such as "42"')
    return int(parts[1])


def continuation(last: str) -> str:
    """An opaque token for the place behind `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def parse_continuation(token: str) -> str:
    """The place in a token. Raises `InvalidError` for one that we never gave."""
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidError("continue is not a token of an earlier page") from None


def paged(rows: Sequence[V], limit: int) -> tuple[Sequence[V], str]:
    """Of up to `limit` + 1 rows in order of version: those of this page, and the token of the next, or nothing."""
    shown = rows[:limit]
    return shown, continuation(str(shown[-1].version)) if len(rows) > limit else ""


def parse_continued_version(token: str) -> int | None:
    """The version in a token of a list that is ordered by version; None for the first page."""
    if not token:
        return None
    place = parse_continuation(token)
    if not re.fullmatch(r"\d{1,18}", place):
        raise InvalidError("continue is not a token of an earlier page")
    return int(place)

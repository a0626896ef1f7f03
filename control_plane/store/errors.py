"""What can go wrong between a caller and the database.

ShoalError
├── StoreError        the database or its disk; `failure` says which way, the message says what to do
└── RefusedError
    ├── ConflictError   the object isn't what the writer expected (HTTP 412, or 409 where no version was given)
    ├── FencedError     somebody else leads now; this process must stop committing
    └── HistoryError    a watch asked for changes that are forgotten; list again and start from there
"""

from __future__ import annotations

from enum import StrEnum

from ...descriptions.errors import RefusedError, ShoalError


class StoreFailure(StrEnum):
    """Ways a database fails, told apart because the answer differs."""

    FULL = "full"
    CORRUPT = "corrupt"
    NEWER = "newer"
    IN_USE = "in-use"
    BUSY = "busy"
    CLOSED = "closed"
    UNSUPPORTED = "unsupported"
    DUPLICATE = "duplicate"
    IO = "io"


class StoreError(ShoalError):
    """The database cannot do what was asked; nothing of the request was committed unless `in_doubt`."""

    def __init__(self, failure: StoreFailure, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.failure = failure
        self.in_doubt = in_doubt
        """True when the commit itself failed, so that only reading again tells whether it happened."""


class ConflictError(RefusedError):
    """The object is at another version than the writer expected."""

    def __init__(self, kind: str, name: str, *, expected: int | None, current: int | None) -> None:
        super().__init__(_conflict_text(kind, name, expected, current))
        self.kind = kind
        self.name = name
        self.expected = expected
        """The version the writer named; 0 = "must not exist", None = "must exist"."""
        self.current = current
        """The version in the database; None = there is no such object."""


class FencedError(RefusedError):
    """A higher fence was committed: another process leads this slice."""

    def __init__(self, *, own: int, current: int) -> None:
        super().__init__(f"fence {own} is over: {current} leads now, this process must not commit")
        self.own = own
        self.current = current


class HistoryError(RefusedError):
    """Changes since the version asked for are no longer all kept."""

    def __init__(self, *, since: int, oldest: int) -> None:
        super().__init__(
            f"changes since version {since} are forgotten; list again and watch from there (oldest: {oldest})"
        )
        self.since = since
        self.oldest = oldest


def _conflict_text(kind: str, name: str, expected: int | None, current: int | None) -> str:
    if current is None:
        return f"{kind} {name!r} does not exist"
    if expected == 0:
        return f"{kind} {name!r} exists already, at version {current}"
    return f"{kind} {name!r} is at version {current}, not {expected}: read it again and repeat the change"

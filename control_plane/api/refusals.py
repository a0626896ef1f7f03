"""Refusals with a meaning in HTTP; handlers and services raise them, `problems.py` turns them into answers.

RefusedError            409, unless it is one of these
├── UnauthorizedError   401: no token, or none that counts
├── ForbiddenError      403: the token's role may not do this
├── NotFoundError       404: there is no such object, or it isn't the caller's to know
├── InvalidError        400: the request itself is malformed
├── TooLargeError       413: over a cap
└── UnavailableError    503: cannot be done now; try again after `retry_after_s`
"""

from __future__ import annotations

from ...descriptions.errors import RefusedError


class UnauthorizedError(RefusedError):
    """No token, or none that counts. Never says which part was wrong."""


class ForbiddenError(RefusedError):
    """The principal is known and may not do this."""


class NotFoundError(RefusedError):
    """There is no such object for this principal."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist")
        self.kind = kind
        self.name = name


class InvalidError(RefusedError):
    """The request is malformed: a header, a parameter, a body that isn't what its type says."""


class TooLargeError(RefusedError):
    """Over a cap."""


class UnsupportedError(RefusedError):
    """The body is of a type, or in an encoding, that the route doesn't take."""


class RateError(RefusedError):
    """More requests than the principal may make."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(RefusedError):
    """Not possible now."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

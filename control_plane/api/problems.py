"""Turns errors into problem documents (RFC 9457): a code for programs, a sentence for people, a request id for both.

Only what was raised on purpose is told. Anything else is a mistake of ours: it is logged with its trace under the
request id, and the client learns nothing but that id.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...descriptions.errors import DescriptionError, ProtocolError, RefusedError, ShoalError, TransportError
from ..store.blobs import BlobTooLargeError, DigestError, UploadBusyError
from ..store.errors import ConflictError, FencedError, HistoryError, StoreError
from .answers import DescriptionFault, Problem
from .call import Reply
from .refusals import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RateError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from .route import PROBLEM_JSON

log = logging.getLogger(__name__)

FAULTS_MAX = 50

TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Invalid description",
    429: "Too many requests",
    431: "Header too large",
    500: "Internal error",
    503: "Unavailable",
}


@dataclass(frozen=True)
class Verdict:
    """How an error is told."""

    status: int
    code: str
    retry_after_s: float = 0.0


_BY_CLASS: tuple[tuple[type[Exception], Verdict], ...] = (
    (DescriptionError, Verdict(422, "invalid-description")),
    (ProtocolError, Verdict(422, "invalid-message")),
    (UnauthorizedError, Verdict(401, "unauthenticated")),
    (ForbiddenError, Verdict(403, "forbidden")),
    (NotFoundError, Verdict(404, "not-found")),
    (InvalidError, Verdict(400, "malformed")),
    (UnsupportedError, Verdict(415, "unsupported-media-type")),
    (TooLargeError, Verdict(413, "too-large")),
    (BlobTooLargeError, Verdict(413, "too-large")),
    (DigestError, Verdict(422, "digest-mismatch")),
    (UploadBusyError, Verdict(409, "upload-offset")),
    (HistoryError, Verdict(410, "history-gone")),
    (FencedError, Verdict(503, "not-leading", 5.0)),
    (RefusedError, Verdict(409, "refused")),
    (TransportError, Verdict(503, "transport", 2.0)),
    (StoreError, Verdict(503, "store", 2.0)),
)


def verdict_of(error: Exception) -> Verdict:
    """Status and code of an error that was raised on purpose."""
    if isinstance(error, ConflictError):
        return _conflict(error)
    if isinstance(error, RateError):
        return Verdict(429, "rate-limited", error.retry_after_s)
    if isinstance(error, UnavailableError):
        return Verdict(503, "unavailable", error.retry_after_s)
    if isinstance(error, StoreError):
        return Verdict(503, f"store-{error.failure.value}", 2.0)
    return next((verdict for kind, verdict in _BY_CLASS if isinstance(error, kind)), Verdict(500, "internal"))


def problem_reply(error: Exception, request_id: str, instance: str) -> Reply:
    """The answer for an error."""
    verdict = verdict_of(error)
    if verdict.status == 500:
        log.error("request %s failed", request_id, exc_info=error)
    elif verdict.status == 503:
        log.warning("request %s refused: %s", request_id, error)
    detail = str(error) if isinstance(error, ShoalError) else f"the server failed; its log says more under {request_id}"
    problem = Problem(
        title=TITLES[verdict.status],
        status=verdict.status,
        detail=_clean(detail),
        instance=instance,
        code=verdict.code,
        request_id=request_id,
        errors=tuple(_fault(one) for one in error.all[:FAULTS_MAX]) if isinstance(error, DescriptionError) else (),
        received=error.offset if isinstance(error, UploadBusyError) else None,
    )
    return _reply(problem, verdict)


def status_reply(status: int, code: str, detail: str, request_id: str, instance: str) -> Reply:
    """The answer for a status that the HTTP library came up with."""
    title = TITLES.get(status, "Error")
    problem = Problem(title=title, status=status, detail=detail, instance=instance, code=code, request_id=request_id)
    return _reply(problem, Verdict(status, code))


def _reply(problem: Problem, verdict: Verdict) -> Reply:
    headers = [("Cache-Control", "no-store")]
    if verdict.retry_after_s:
        headers.append(("Retry-After", str(max(1, round(verdict.retry_after_s)))))
    if verdict.status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="shoal"'))
    body = problem.model_dump_json(by_alias=True, exclude_none=True).encode()
    return Reply(body, verdict.status, tuple(headers), PROBLEM_JSON)


def _conflict(error: ConflictError) -> Verdict:
    if error.current is None:
        return Verdict(404, "not-found") if error.expected is None else Verdict(412, "precondition-failed")
    return Verdict(412, "precondition-failed") if error.expected is not None else Verdict(409, "conflict")


def _fault(error: DescriptionError) -> DescriptionFault:
    return DescriptionFault(
        message=_clean(error.message),
        path=error.path,
        line=error.line,
        column=error.column,
        expected=error.expected,
        nearest=error.nearest,
        file=error.file,
    )


def _clean(text: str) -> str:
    """Text that is safe in JSON whatever was sent: no lone surrogates, and not without end."""
    return text[:4096].encode("utf-8", "replace").decode("utf-8")

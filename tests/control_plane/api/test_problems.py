"""How errors are told: status, code and sentence by their class; what is ours to know stays ours."""

from __future__ import annotations

import logging

import msgspec
import pytest

from shoal.control_plane.api.problems import TITLES, problem_reply, status_reply, verdict_of
from shoal.control_plane.api.refusals import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RateError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from shoal.control_plane.store.blobs import BlobTooLargeError, DigestError, UploadBusyError
from shoal.control_plane.store.errors import ConflictError, FencedError, HistoryError, StoreError, StoreFailure
from shoal.descriptions.errors import DescriptionError, PluginError, ProtocolError, RefusedError, TransportError

CASES: list[tuple[Exception, int, str]] = [
    (DescriptionError("wrong"), 422, "invalid-description"),
    (ProtocolError("nonsense"), 422, "invalid-message"),
    (InvalidError("malformed"), 400, "malformed"),
    (UnauthorizedError("who?"), 401, "unauthenticated"),
    (ForbiddenError("no"), 403, "forbidden"),
    (NotFoundError("Node", "a"), 404, "not-found"),
    (RefusedError("not now"), 409, "refused"),
    (ConflictError("Node", "a", expected=1, current=2), 412, "precondition-failed"),
    (ConflictError("Node", "a", expected=1, current=None), 412, "precondition-failed"),
    (ConflictError("Node", "a", expected=None, current=None), 404, "not-found"),
    (ConflictError("Node", "a", expected=None, current=2), 409, "conflict"),
    (HistoryError(since=1, oldest=2), 410, "history-gone"),
    (TooLargeError("big"), 413, "too-large"),
    (BlobTooLargeError("big"), 413, "too-large"),
    (UnsupportedError("xml"), 415, "unsupported-media-type"),
    (DigestError("other"), 422, "digest-mismatch"),
    (UploadBusyError("elsewhere", 7), 409, "upload-offset"),
    (RateError("often", retry_after_s=0.2), 429, "rate-limited"),
    (UnavailableError("busy"), 503, "unavailable"),
    (FencedError(own=1, current=2), 503, "not-leading"),
    (TransportError("broker"), 503, "transport"),
    (StoreError(StoreFailure.FULL, "no room"), 503, "store-full"),
    (PluginError("policy", "raised"), 500, "internal"),
    (ValueError("SELECT secret FROM objects"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda case: type(case).__name__)
def test_each_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    verdict = verdict_of(error)
    assert (verdict.status, verdict.code) == (status, code)
    assert status in TITLES


@pytest.mark.parametrize(
    "error", [case[0] for case in CASES if case[1] in (429, 503)], ids=lambda case: type(case).__name__
)
def test_what_may_pass_says_when_to_come_back(error: Exception) -> None:
    headers = dict(problem_reply(error, "r1", "/v1/nodes").headers)
    assert int(headers["Retry-After"]) >= 1


def test_our_own_mistakes_are_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reply = problem_reply(ValueError("SELECT secret FROM objects"), "r1", "/v1/nodes")
    assert b"SELECT" not in reply.body
    assert b"ValueError" not in reply.body
    assert b"r1" in reply.body
    assert "SELECT secret" in caplog.text


def test_faults_come_with_their_places() -> None:
    other = DescriptionError("second", path="spec.b", line=3)
    error = DescriptionError("first", path="spec.a", line=2, column=4, expected="x", nearest="y", others=(other,))
    problem = msgspec.json.decode(problem_reply(error, "r1", "/v1/nodes/a").body)
    assert problem["errors"] == [
        {"message": "first", "path": "spec.a", "line": 2, "column": 4, "expected": "x", "nearest": "y"},
        {"message": "second", "path": "spec.b", "line": 3},
    ]
    assert problem["instance"] == "/v1/nodes/a"


def test_odd_text_is_made_sendable_and_bounded() -> None:
    reply = problem_reply(RefusedError("\ud800" + "x" * 10_000), "r1", "/")
    assert msgspec.json.decode(reply.body)["detail"] == "?" + "x" * 4095


def test_statuses_of_the_http_library_look_the_same() -> None:
    reply = status_reply(405, "method-not-allowed", "", "r1", "/x")
    assert msgspec.json.decode(reply.body)["title"] == "Method not allowed"
    assert reply.content_type == "application/problem+json"

"""Schemathesis against the real server: no 5xx, nothing that the OpenAPI document doesn't say, nothing wrong accepted.

Requests are made from the document, valid ones and broken ones, and sent to a server with real rows. Streams are left
out here (`watch` and `follow` stay false); `test_watch_api.py` is about them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shoal.control_plane.api.limits import ApiLimits
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.routes import ROUTES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
UNLIMITED = ApiLimits(rate_per_s=1e6, burst=1_000_000)
STREAMING = ("watch", "follow")


class Running:
    """A server in a thread of its own, because requests and schemathesis block."""

    def __init__(self, serve: Any) -> None:
        self.url = ""
        self.token = ""
        self._serve = serve
        self._is_up, self._is_done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with self._serve(limits=UNLIMITED) as served:
            self.url, self.token = served.url, served.tokens[Role.SLICE_ADMIN]
            await served.put_node("a")
            self._is_up.set()
            while not self._is_done.is_set():
                await asyncio.sleep(0.05)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._is_up.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join(20)


@pytest.fixture
def running(serve: Any) -> Iterator[Running]:
    with Running(serve) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("examples", [20])
def test_the_server_does_what_the_document_says(
    running: Running, examples: int, count_case: Callable[[], None]
) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    documented = {(operation.method.upper(), operation.path) for operation in operations}
    assert {(route.method, route.path) for route in ROUTES} - documented <= {("GET", "/openapi.json")}
    headers = {"Authorization": f"Bearer {running.token}"}
    with requests.Session() as session:
        for operation in operations:
            for mode in GenerationMode:
                fuzz(operation, mode, examples, session, headers, count_case)


def fuzz(
    operation: Any,
    mode: GenerationMode,
    examples: int,
    session: requests.Session,
    headers: dict[str, str],
    count_case: Callable[[], None],
) -> None:
    """Send generated requests of one kind to one route and check each answer."""
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters or operation.body):
        return  # There is nothing to get wrong.

    @settings(
        max_examples=examples,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        database=None,
        derandomize=True,
        deadline=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        wants_stream = any(name in (case.query or {}) for name in STREAMING)
        for name in STREAMING:
            if case.query and name in case.query:
                case.query[name] = "false"
        count_case()
        response = case.call(session=session, headers=headers, timeout=20)
        is_rejected = response.status_code == 413  # Schemathesis doesn't count it as a rejection.
        checks = [
            check for check in CHECKS if check is not negative_data_rejection or not (is_rejected or wants_stream)
        ]
        case.validate_response(response, checks=checks)

    send()

"""Whatever bytes come as a body, the answer is a 2xx or a problem document (invariant I22): no 5xx, no silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.control_plane.api.bodies import parse_body, well_formed
from shoal.control_plane.api.limits import ApiLimits
from shoal.control_plane.api.refusals import InvalidError
from shoal.control_plane.api.route import Route
from shoal.control_plane.api.routes import ROUTES
from shoal.control_plane.documents import to_document, written_by_people
from shoal.descriptions.errors import DescriptionError, ProtocolError

UNLIMITED = ApiLimits(rate_per_s=1e6, burst=1_000_000)
WITH_MODEL = [route for route in ROUTES if route.body is not None]
PLACES = [("PUT", "/v1/applications/a"), ("PATCH", "/v1/nodes/a"), ("POST", "/v1/what-if"), ("POST", "/v1/join-tokens")]

TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["64Mi", "250m", "20ms", "edge"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
WORDS = st.sampled_from(["metadata", "spec", "status", "components", "labels", "name", "hardware", "objects", "x"])
SHAPED = st.fixed_dictionaries(
    {"apiVersion": st.just("shoal.dev/v1") | VALUES, "kind": st.sampled_from(["Application", "Node"]) | VALUES},
    optional={
        "metadata": st.fixed_dictionaries({"name": st.just("a") | VALUES}) | VALUES,
        "spec": st.dictionaries(WORDS | TEXT, VALUES, max_size=5),
        "status": VALUES,
    },
)


def as_bytes(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError, OverflowError):
        return repr(value).encode("utf-8", "surrogatepass")


BODIES = st.binary(max_size=200) | VALUES.map(as_bytes) | SHAPED.map(as_bytes)


def refusal(read: Callable[[], object]) -> str:
    """Why the body is refused; empty when it isn't."""
    try:
        read()
    except (InvalidError, DescriptionError, ProtocolError) as error:
        return str(error) or "without a word"
    return ""


@given(body=BODIES)
@settings(max_examples=300)
def test_a_body_is_data_or_refused_with_a_reason(body: bytes) -> None:
    told = refusal(lambda: well_formed(body))
    assert told != "without a word"
    assert told or msgspec.json.decode(body) == well_formed(body).value


@pytest.mark.parametrize("route", WITH_MODEL, ids=lambda route: route.name)
@given(body=BODIES)
@settings(max_examples=40)
def test_a_body_becomes_its_model_or_is_refused_with_a_reason(route: Route[Any], body: bytes) -> None:
    told = refusal(lambda: parse_body(route, body))
    assert told != "without a word"
    assert len(told) < 20_000
    assert told or parse_body(route, body) is not None


@given(first=SHAPED.map(as_bytes), second=SHAPED.map(as_bytes))
@settings(max_examples=100)
def test_a_kind_that_was_accepted_is_stored_and_compared(first: bytes, second: bytes) -> None:
    """What passes the gate also passes the way into a row."""
    route = next(route for route in ROUTES if route.name == "applyNode")
    for body in (first, second):
        try:
            made: Any = parse_body(route, body)
        except (InvalidError, DescriptionError):
            continue
        doc, is_new = written_by_people(to_document(made), None)
        assert is_new
        assert "status" not in msgspec.json.decode(doc)


def test_no_body_breaks_the_server(serve: Any, count_case: Callable[[], None]) -> None:
    async def run() -> None:
        async with serve(limits=UNLIMITED) as served:
            await served.put_node("a")
            await asyncio.to_thread(fuzz, asyncio.get_running_loop(), served)
            assert (await served.ask("GET", "/readyz", role=None)).status == 200

    def fuzz(loop: asyncio.AbstractEventLoop, served: Any) -> None:
        @settings(
            max_examples=150,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            database=None,
        )
        @given(place=st.sampled_from(PLACES), body=BODIES)
        def send(place: tuple[str, str], body: bytes) -> None:
            count_case()
            heard = asyncio.run_coroutine_threadsafe(served.ask(*place, body), loop).result(20)
            assert heard.status < 500, heard.body
            assert heard.status < 400 or heard.code

        send()

    asyncio.run(run())

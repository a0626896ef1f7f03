"""What is too much, too deep, too slow, too often: refused with a status and a reason, and the server goes on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from shoal.control_plane.api.limits import ApiLimits
from shoal.control_plane.api.requests import WhyQuery
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.routes import WHY
from shoal.control_plane.planner.explanation import Explanation
from shoal.descriptions.errors import RefusedError

NODE = {"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {}}


@pytest.fixture
def run(serve: Any) -> Callable[..., None]:
    def running(test: Callable[[Any], Awaitable[None]], **limits: Any) -> None:
        async def within() -> None:
            async with serve(limits=ApiLimits(**limits)) as served:
                await test(served)
                assert (await served.ask("GET", "/healthz", role=None)).status == 200, "the server goes on"

        asyncio.run(within())

    return running


async def raw(served: Any, data: bytes, *, wait_s: float = 10.0) -> bytes:
    """Send bytes as they are and hear everything until the server closes or has answered."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(wait_s):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.close()


def head(served: Any, method: str, path: str, *lines: str) -> bytes:
    token = served.tokens[Role.SLICE_ADMIN]
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines, "", ""]
    ).encode()


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" " * (1024 * 1024) + b"{}", 413),
        (b'{"metadata": {"annotations": {"a": "' + b"x" * 65537 + b'"}}}', 400),
        (b"[" + b"1," * 10_001 + b"1]", 400),
        (nested(33), 400),
        (nested(100_000), 400),
        (b"[" * 500_000, 400),
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": 1e999}', 400),
        (b'{"a": 1, "a": 2}', 400),
        (b'{"a": 99999999999999999999}', 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a": "\\u0000"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
    ],
    ids=[
        *("large", "long text", "long list", "deep", "very deep", "unclosed", "empty", "cut", "not UTF-8", "NaN"),
        *("infinite", "twice", "huge number", "surrogate", "NUL", "null", "a list", "nothing in it"),
    ],
)
def test_bodies_that_cannot_be(run: Any, body: bytes, status: int) -> None:
    async def test(served: Any) -> None:
        for method, path in (("PUT", "/v1/nodes/a"), ("POST", "/v1/what-if"), ("POST", "/v1/telemetry/query")):
            heard = await served.ask(method, path, body)
            if path == "/v1/what-if" and body == b"{}":
                assert heard.status == 200, "no change is a change that can be asked about"
                continue
            assert heard.status == status, heard.body
            assert len(heard.json["detail"]) < 1000, "what was sent is not sent back"

    run(test)


def test_a_body_larger_than_announced_is_cut_off(run: Any) -> None:
    async def test(served: Any) -> None:
        async def endless() -> Any:
            while True:
                yield b" " * 65536

        headers = served.headers(Content_Type="application/json")
        async with served.http.put(f"{served.url}/v1/nodes/a", data=endless(), headers=headers) as answer:
            assert answer.status == 413

    run(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/yaml"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Idempotency_Key": "x" * 129}, 400),
        ({"Idempotency_Key": "a b"}, 400),
    ],
)
def test_headers_that_cannot_be(run: Any, headers: dict[str, str], status: int) -> None:
    async def test(served: Any) -> None:
        body = gzip.compress(msgspec.json.encode(NODE)) if "Content_Encoding" in headers else NODE
        assert (await served.ask("PUT", "/v1/nodes/a", body, **headers)).status == status
        assert (await served.ask("GET", "/v1/nodes/a")).status == 404

    run(test)


def test_a_body_where_none_belongs_is_refused(run: Any) -> None:
    async def test(served: Any) -> None:
        await served.put_node("a")
        assert (await served.ask("POST", "/v1/nodes/a/cordon", {"reason": "x"})).code == "malformed"
        assert (await served.ask("POST", "/v1/nodes/a/cordon", {})).status == 200

    run(test)


def test_a_body_that_comes_too_slowly_is_not_waited_for(run: Any) -> None:
    async def test(served: Any) -> None:
        data = head(served, "PUT", "/v1/nodes/a", "Content-Type: application/json", "Content-Length: 100") + b"{"
        assert b" 503 " in (await raw(served, data)).splitlines()[0]

    run(test, slow_body_s=0.05)


@dataclass
class Hanging:
    """Services whose `why` waits until the test says so."""

    inner: Any
    go: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def why(self, query: WhyQuery) -> Explanation:
        self.waiting += 1
        await self.go.wait()
        raise RefusedError(f"{query.application} was asked for in vain")


async def hang(served: Any) -> Hanging:
    hanging = Hanging(served.services)
    object.__setattr__(served.server._context, "services", hanging)
    return hanging


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_only_so_many_requests_are_in_work_at_once(run: Any) -> None:
    async def test(served: Any) -> None:
        hanging = await hang(served)
        asked = [asyncio.create_task(served.ask("GET", "/v1/why?application=a&component=b")) for _ in range(3)]
        await until(lambda: hanging.waiting == 3)
        refused = await served.ask("GET", "/v1/nodes")
        assert (refused.status, refused.code) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        hanging.go.set()
        assert {heard.status for heard in await asyncio.gather(*asked)} == {409}

    run(test, in_flight_max=3)


def test_a_request_that_takes_too_long_is_given_up(run: Any) -> None:
    async def test(served: Any) -> None:
        await hang(served)
        object.__setattr__(WHY, "deadline_s", 0.05)
        try:
            heard = await served.ask("GET", "/v1/why?application=a&component=b")
        finally:
            object.__setattr__(WHY, "deadline_s", 30.0)
        assert (heard.status, heard.code) == (503, "unavailable")
        assert "0.05 s" in heard.json["detail"]

    run(test)


def test_a_principal_that_asks_too_often_waits_and_others_do_not(run: Any) -> None:
    async def test(served: Any) -> None:
        heard = [await served.ask("GET", "/v1/nodes", role=Role.VIEWER) for _ in range(8)]
        assert [one.status for one in heard[:5]] == [200] * 5
        assert heard[-1].code == "rate-limited"
        assert int(heard[-1].headers["Retry-After"]) >= 1
        assert (await served.ask("GET", "/v1/nodes", role=Role.OPERATOR)).status == 200

    run(test, rate_per_s=0.01, burst=5)


def test_guessing_tokens_is_slowed_down(run: Any) -> None:
    async def test(served: Any) -> None:
        heard = [await served.ask("GET", "/v1/nodes", role=None, Authorization="Bearer guess") for _ in range(6)]
        assert [one.status for one in heard] == [401] * 5 + [429]

    async def within(served: Any) -> None:
        await test(served)
        served.server._gate._rates._buckets.clear()

    run(within, rate_per_s=0.01, burst=5)


def test_streams_have_a_cap(run: Any) -> None:
    async def test(served: Any) -> None:
        url = f"{served.url}/v1/nodes?watch=1"
        async with served.http.get(url, headers=served.headers()) as one:
            assert one.status == 200
            assert (await served.ask("GET", "/v1/nodes?watch=1")).code == "unavailable"
            assert (await served.ask("GET", "/v1/nodes")).status == 200
        await until(lambda: served.server._context.occupancy.streams.total() == 0)
        async with served.http.get(url, headers=served.headers()) as again:
            assert again.status == 200

    run(test, streams_per_principal_max=1, heartbeat_s=0.02)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"H%d: x\r\n" % index for index in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /v1/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /v1/n\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["nonsense", "version", "header", "url", "headers", "length", "smuggling", "chunk", "raw utf-8"],
)
def test_http_that_cannot_be_is_refused(run: Any, data: bytes) -> None:
    async def test(served: Any) -> None:
        answer = await raw(served, data)
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 401"), answer[:200]

    run(test)


def test_unknown_paths_and_methods_are_told(run: Any) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("GET", "/v2/nodes")).code == "not-found"
        assert (await served.ask("GET", "/v1/nodes/a/b/c")).code == "not-found"
        for method in ("TRACE", "OPTIONS", "POST"):
            heard = await served.ask(method, "/v1/nodes")
            assert (heard.status, heard.code) == (405, "method-not-allowed")
            assert "GET" in heard.headers["Allow"]

    run(test)

"""Model contents: upload whole or in parts, fetch whole or in ranges, and who may."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shoal.control_plane.api.handlers.ranges import Span, span_of
from shoal.control_plane.api.roles import Role

BYTES = bytes(range(256)) * 40
SHA = hashlib.sha256(BYTES).hexdigest()
OCTETS = "application/octet-stream"


def model(**source: object) -> dict[str, object]:
    spec = {"format": "onnx", "source": {"file": "digits.onnx"} | source}
    return {"apiVersion": "shoal.dev/v1", "kind": "Model", "metadata": {"name": "digits"}, "spec": spec}


@pytest.fixture
def run(serve: Any) -> Callable[..., None]:
    def running(test: Callable[[Any], Awaitable[None]]) -> None:
        async def within() -> None:
            async with serve() as served:
                await served.ask("PUT", "/v1/models/digits", model())
                await test(served)

        asyncio.run(within())

    return running


async def upload(served: Any, data: bytes = BYTES, query: str = "", **how: Any) -> Any:
    return await served.ask("PUT", f"/v1/models/digits/content{query}", data, Content_Type=OCTETS, **how)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("query", ["", f"?sha256={SHA}", f"?sha256={SHA}&size={len(BYTES)}"])
def test_contents_are_stored_and_the_model_says_so(run: Any, query: str) -> None:
    async def test(served: Any) -> None:
        heard = await upload(served, query=query)
        assert heard.status == 200
        assert heard.json == {"model": "digits", "received": len(BYTES), "complete": True, "sha256": SHA}
        after = (await served.ask("GET", "/v1/models/digits")).json
        assert after["status"]["sha256"] == SHA
        assert after["status"]["stored"] is True
        assert after["metadata"]["generation"] == 1, "what is wanted has not changed"
        fetched = await served.ask("GET", f"/v1/blobs/{SHA}")
        assert (fetched.body, fetched.headers["ETag"]) == (BYTES, f'"{SHA}"')
        assert (await served.ask("GET", "/v1/audit")).json["items"][0]["action"] == "uploadModel"

    run(test)


def test_a_part_is_kept_and_continued(run: Any) -> None:
    async def test(served: Any) -> None:
        announced = f"?sha256={SHA}&size={len(BYTES)}"
        first = await upload(served, BYTES[:4000], announced)
        assert (first.status, first.json["received"], first.json["complete"]) == (202, 4000, False)
        assert (await served.ask("GET", f"/v1/blobs/{SHA}")).code == "not-found"
        wrong = await upload(served, BYTES[5000:], f"{announced}&offset=5000")
        assert (wrong.status, wrong.code, wrong.json["received"]) == (409, "upload-offset", 4000)
        last = await upload(served, BYTES[4000:], f"{announced}&offset=4000")
        assert (last.status, last.json["complete"]) == (200, True)

    run(test)


def test_a_connection_that_breaks_leaves_a_part(run: Any) -> None:
    async def test(served: Any) -> None:
        data = BYTES * 300
        sha256 = hashlib.sha256(data).hexdigest()
        announced = f"?sha256={sha256}&size={len(data)}"
        host, port = served.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        lines = [f"PUT /v1/models/digits/content{announced} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in served.headers(Content_Type=OCTETS).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data[:2_500_000])
        await until(lambda: served.store.blobs.received(sha256) > 0)
        writer.close()
        await until(lambda: served.server._context.occupancy.streams.total() == 0)
        received = served.store.blobs.received(sha256)
        assert 0 < received <= 2_500_000
        heard = await upload(served, data[received:], f"{announced}&offset={received}")
        assert (heard.status, heard.json["complete"]) == (200, True)

    run(test)


@pytest.mark.parametrize(
    ("described", "query", "status"),
    [
        ({}, f"?sha256={'0' * 64}", 422),
        ({"sha256": "0" * 64}, "", 422),
        ({"sha256": SHA}, f"?sha256={'0' * 64}", 422),
        ({"sha256": SHA}, "", 200),
        ({}, "?sha256=nonsense", 400),
        ({}, "?offset=10", 400),
    ],
    ids=["announced", "described", "contradiction", "described right", "no digest", "offset without digest"],
)
def test_other_bytes_than_announced_are_refused(run: Any, described: dict[str, str], query: str, status: int) -> None:
    async def test(served: Any) -> None:
        await served.ask("PUT", "/v1/models/digits", model(**described))
        heard = await upload(served, query=query)
        assert heard.status == status, heard.body
        stored = (await served.ask("GET", "/v1/models/digits")).json.get("status", {}).get("stored", False)
        assert stored == (status == 200)

    run(test)


def test_contents_of_no_model_are_refused(run: Any) -> None:
    async def test(served: Any) -> None:
        heard = await served.ask("PUT", "/v1/models/none/content", b"x", Content_Type=OCTETS)
        assert heard.code == "not-found"
        assert list(served.store.blobs.all()) == []

    run(test)


def test_contents_over_the_cap_are_refused(run: Any) -> None:
    async def test(served: Any) -> None:
        served.store.blobs.blob_bytes_max = 1000
        assert (await upload(served)).code == "too-large"

    run(test)


@pytest.mark.parametrize(
    ("headers", "status", "found", "span"),
    [
        ({"Range": "bytes=0-9"}, 206, BYTES[:10], "bytes 0-9/10240"),
        ({"Range": "bytes=10000-"}, 206, BYTES[10000:], "bytes 10000-10239/10240"),
        ({"Range": "bytes=-5"}, 206, BYTES[-5:], "bytes 10235-10239/10240"),
        ({"Range": "bytes=10239-99999"}, 206, BYTES[-1:], "bytes 10239-10239/10240"),
        ({"Range": "bytes=5-1"}, 200, BYTES, None),
        ({"Range": "bytes=0-1,5-6"}, 200, BYTES, None),
        ({"Range": "lines=1-2"}, 200, BYTES, None),
        ({"Range": "bytes=0-9", "If_Range": f'"{SHA}"'}, 206, BYTES[:10], "bytes 0-9/10240"),
        ({"Range": "bytes=0-9", "If_Range": '"other"'}, 200, BYTES, None),
        ({"If_None_Match": f'"{SHA}"'}, 304, b"", None),
    ],
)
def test_ranges(run: Any, headers: dict[str, str], status: int, found: bytes, span: str | None) -> None:
    async def test(served: Any) -> None:
        await upload(served)
        heard = await served.ask("GET", f"/v1/blobs/{SHA}", **headers)
        assert (heard.status, heard.body) == (status, found)
        assert heard.headers.get("Content-Range") == span

    run(test)


def test_a_range_behind_the_end_says_where_the_end_is(run: Any) -> None:
    async def test(served: Any) -> None:
        await upload(served)
        heard = await served.ask("GET", f"/v1/blobs/{SHA}", Range="bytes=10240-")
        assert (heard.status, heard.code, heard.headers["Content-Range"]) == (416, "range", "bytes */10240")

    run(test)


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        ("bytes=0-", 0, Span(0, 0)),
        ("bytes=-0", 10, Span(10, 10)),
        ("bytes=-99", 10, Span(0, 10)),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=99999999999999999999-", 10, None),
    ],
)
def test_odd_ranges(header: str, size: int, span: Span | None) -> None:
    assert span_of(header, size) == span


def test_an_agent_gets_what_its_node_needs_and_nothing_else(run: Any) -> None:
    async def test(served: Any) -> None:
        await upload(served)
        refused = await served.ask("GET", f"/v1/blobs/{SHA}", role=Role.AGENT)
        missing = await served.ask("GET", f"/v1/blobs/{'1' * 64}", role=Role.AGENT)
        assert refused.status == missing.status == 404, "what isn't its own doesn't exist for it"
        served.services.blobs_by_node["uid-1"] = frozenset({SHA})
        assert (await served.ask("GET", f"/v1/blobs/{SHA}", role=Role.AGENT)).body == BYTES
        assert (await served.ask("GET", f"/v1/blobs/{SHA}", role=Role.VIEWER)).status == 403

    run(test)

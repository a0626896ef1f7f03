"""Server-sent events: the present, then each change in order; resuming, selecting, ending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from shoal.control_plane.api.limits import ApiLimits
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.sse import EventParser, ServerEvent
from shoal.control_plane.store.records import EventEntry, Severity

QUICK = ApiLimits(heartbeat_s=0.05)


class Stream:
    """An open stream, event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.raw = b""
        self._parser = EventParser()
        self._ready: list[ServerEvent] = []

    async def next(self) -> ServerEvent:
        while not self._ready:
            chunk = await asyncio.wait_for(self.response.content.readany(), 10)
            assert chunk, "the stream ended"
            self.raw += chunk
            self._ready += self._parser.feed(chunk)
        return self._ready.pop(0)

    async def change(self) -> tuple[str, str, str]:
        """Event, name and id of the next that is no bookmark."""
        while (event := await self.next()).event == "bookmark":
            pass
        data = msgspec.json.decode(event.data)
        assert data["type"] == event.event
        return event.event, data["object"]["metadata"]["name"], event.id

    async def until(self, text: bytes) -> None:
        while text not in self.raw:
            chunk = await asyncio.wait_for(self.response.content.readany(), 10)
            assert chunk, "the stream ended"
            self.raw += chunk

    async def rest(self) -> bytes:
        return self.raw + await asyncio.wait_for(self.response.content.read(), 10)


@asynccontextmanager
async def stream(served: Any, path: str, *, role: Role = Role.VIEWER, last: str = "") -> AsyncIterator[Stream]:
    headers = served.headers(role, **({"Last_Event_ID": last} if last else {}))
    async with served.http.get(served.url + path, headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Stream(response)


@pytest.fixture
def run(serve: Any) -> Callable[..., None]:
    def running(test: Callable[[Any], Awaitable[None]], limits: ApiLimits | None = None) -> None:
        async def within() -> None:
            async with serve(limits=limits or ApiLimits()) as served:
                await test(served)

        asyncio.run(within())

    return running


def test_a_watch_begins_with_what_is_there(run: Any) -> None:
    async def test(served: Any) -> None:
        await served.put_node("b")
        await served.put_node("a")
        async with stream(served, "/v1/nodes?watch=1") as watch:
            events = [await watch.next() for _ in range(3)]
            assert [event.event for event in events] == ["put", "put", "bookmark"]
            names = [msgspec.json.decode(event.data)["object"]["metadata"]["name"] for event in events[:2]]
            assert names == ["a", "b"]
            assert msgspec.json.decode(events[2].data) == {"resourceVersion": int(events[2].id)}
            await served.put_node("c")
            await served.ask("DELETE", "/v1/nodes/a")
            assert (await watch.change())[:2] == ("put", "c")
            assert (await watch.change())[:2] == ("delete", "a")

    run(test)


@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_a_watch_goes_on_where_it_was(run: Any, how: str) -> None:
    async def test(served: Any) -> None:
        await served.put_node("old")
        async with stream(served, "/v1/nodes?watch=1") as watch:
            await watch.next()
            await served.put_node("seen")
            _, _, last = await watch.change()
        await served.put_node("missed")
        await served.ask("DELETE", "/v1/nodes/old")
        query = {"header": "", "query": f"&resourceVersion={last}", "both": "&resourceVersion=0"}[how]
        async with stream(served, f"/v1/nodes?watch=1{query}", last="" if how == "query" else last) as watch:
            assert [(await watch.change())[:2] for _ in range(2)] == [("put", "missed"), ("delete", "old")]

    run(test)


def test_versions_of_a_watch_only_grow(run: Any) -> None:
    async def test(served: Any) -> None:
        async with stream(served, "/v1/nodes?watch=1") as watch:
            for index in range(10):
                await served.put_node(f"n{index}")
            ids = [int((await watch.change())[2]) for _ in range(10)]
            assert ids == sorted(set(ids))

    run(test)


def test_an_object_that_stops_matching_is_told_as_deleted(run: Any) -> None:
    async def test(served: Any) -> None:
        async def label(name: str, zone: str) -> None:
            body = {"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": name, "labels": {"zone": zone}}}
            assert (await served.ask("PUT", f"/v1/nodes/{name}", body)).status in (200, 201)

        await label("a", "north")
        await label("other", "south")
        async with stream(served, "/v1/nodes?watch=1&labelSelector=zone%3Dnorth") as watch:
            assert (await watch.change())[:2] == ("put", "a")
            await label("other", "west")
            await label("a", "south")
            await label("a", "north")
            assert [(await watch.change())[:2] for _ in range(2)] == [("delete", "a"), ("put", "a")]

    run(test)


def test_a_version_of_another_life_asks_to_list_again(run: Any) -> None:
    async def test(served: Any) -> None:
        for path in ("/v1/nodes?watch=1&resourceVersion=999", "/v1/events?watch=1&resourceVersion=999"):
            heard = await served.ask("GET", path)
            assert (heard.status, heard.code) == (410, "history-gone")
        heard = await served.ask("GET", "/v1/nodes?watch=1", Last_Event_ID="not-a-version")
        assert heard.code == "malformed"

    run(test)


def test_a_quiet_watch_says_that_it_lives_and_how_far_it_is(run: Any) -> None:
    async def test(served: Any) -> None:
        async with stream(served, "/v1/nodes?watch=1") as watch:
            await watch.until(b": heartbeat\n\n")
            version = (await served.store.write(lambda tx: tx.put("Other", "x", b"{}"))).resource_version
            await watch.until(f"id: {version}\nevent: bookmark\n".encode())

    run(test, QUICK)


def test_a_revoked_token_ends_its_streams(run: Any) -> None:
    async def test(served: Any) -> None:
        async with stream(served, "/v1/nodes?watch=1") as watch:
            token_id = served.tokens[Role.VIEWER].split("_")[1]
            assert (await served.ask("DELETE", f"/v1/tokens/{token_id}")).status == 200
            rest = await watch.rest()
            assert b"event: error" in rest
            assert b'"code":"unauthenticated"' in rest
        assert (await served.ask("GET", "/v1/nodes", role=Role.VIEWER)).status == 401

    run(test, QUICK)


def test_stopping_the_server_ends_the_streams(serve: Any) -> None:
    async def within() -> None:
        async with serve(shutdown_s=0.1) as served, stream(served, "/v1/nodes?watch=1") as watch:
            await watch.next()
            async with asyncio.timeout(10):
                await served.server.close()
            with pytest.raises((aiohttp.ClientError, AssertionError)):
                await watch.next()

    asyncio.run(within())


def test_events_are_followed_from_now_on(run: Any) -> None:
    async def test(served: Any) -> None:
        async def happen(reason: str, node: str) -> None:
            entry = EventEntry(reason, "it did", kind="Node", name=node, node=node, severity=Severity.WARNING)
            await served.store.write(lambda tx: tx.append_event(entry))

        await happen("Before", "a")
        async with stream(served, "/v1/events?watch=1&node=a") as watch:
            first = await watch.next()
            assert first.event == "bookmark"
            await happen("Elsewhere", "b")
            await happen("Lost", "a")
            while (event := await watch.next()).event == "bookmark":
                pass
            data = msgspec.json.decode(event.data)
            assert (data["reason"], data["severity"], str(data["version"])) == ("Lost", "warning", event.id)
        async with stream(served, "/v1/events?watch=1&resourceVersion=0&node=a") as watch:
            assert msgspec.json.decode((await watch.next()).data)["reason"] == "Before"
        page = (await served.ask("GET", "/v1/events?limit=1")).json
        assert page["items"][0]["reason"] == "Lost"
        more = (await served.ask("GET", f"/v1/events?limit=5&continue={page['metadata']['continue']}")).json
        assert [item["reason"] for item in more["items"]] == ["Elsewhere", "Before"]

    run(test)


def test_logs_are_read_and_followed(run: Any) -> None:
    async def test(served: Any) -> None:
        lines = (await served.ask("GET", "/v1/logs?node=a&tail=1")).json["lines"]
        assert [line["line"] for line in lines] == ["two"]
        async with stream(served, "/v1/logs?application=shop&component=web&follow=1", role=Role.DEPLOYER) as logs:
            assert [msgspec.json.decode((await logs.next()).data)["line"] for _ in range(2)] == ["one", "two"]
            assert (await logs.rest()).endswith(b"\n\n"), "it ends when the lines do"
        for query in ("", "?application=shop", "?node=a&application=shop&component=web", "?component=web"):
            assert (await served.ask("GET", f"/v1/logs{query}")).code == "malformed"

    run(test)


def test_a_stream_has_no_head(run: Any) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("HEAD", "/v1/nodes?watch=1")).status == 400

    run(test)

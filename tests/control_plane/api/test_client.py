"""The client against the real server: every call, its errors, retries, streams that go on, uploads that continue."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from shoal.control_plane.api.client import ApiError, BlockingClient, Client
from shoal.control_plane.api.limits import ApiLimits
from shoal.control_plane.api.requests import (
    ApiTokenRequest,
    AuditListQuery,
    DecisionListQuery,
    EventListQuery,
    JoinTokenRequest,
    LogQuery,
    MetricQuery,
    ObjectRef,
    TelemetryQuery,
    WhatIfRequest,
)
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.server import ApiServer
from shoal.control_plane.documents import to_document
from shoal.control_plane.placement import PLACEMENT_KIND, Placement
from shoal.control_plane.store.records import DecisionEntry, EventEntry
from shoal.descriptions.errors import ProtocolError, TransportError
from shoal.descriptions.kinds import Application, Model, Node, Rollout
from shoal.descriptions.kinds.meta import Metadata
from shoal.descriptions.kinds.rollout import RolloutStatus
from shoal.descriptions.load import kind_of
from shoal.descriptions.messages.joining import JoinRequest

Run = Callable[..., None]


@pytest.fixture
def run(serve: Any) -> Run:
    """Run a test with a server and an admin's client."""

    def running(test: Callable[[Any, Client], Awaitable[None]], **limits: Any) -> None:
        async def within() -> None:
            async with (
                serve(limits=ApiLimits(**limits)) as served,
                Client(served.url, served.tokens[Role.SLICE_ADMIN]) as client,
            ):
                await test(served, client)

        asyncio.run(within())

    return running


def node(name: str, **labels: str) -> Node:
    return Node(metadata=Metadata(name=name, labels=labels))


def model() -> Model:
    plain = {"format": "onnx", "source": {"file": "digits.onnx"}}
    made = kind_of({"apiVersion": "shoal.dev/v1", "kind": "Model", "metadata": {"name": "digits"}, "spec": plain})
    assert isinstance(made, Model)
    return made


def application() -> Application:
    spec = {"components": [{"name": "web", "process": {"command": ["web"]}, "resources": {"memory": "64Mi"}}]}
    made = kind_of({"apiVersion": "shoal.dev/v1", "kind": "Application", "metadata": {"name": "shop"}, "spec": spec})
    assert isinstance(made, Application)
    return made


def test_objects_make_the_round_trip(run: Run) -> None:
    async def test(_: Any, client: Client) -> None:
        made = await client.apply(application())
        assert made.spec == application().spec
        assert made.metadata.generation == 1
        assert await client.get(Application, "shop") == made
        assert await client.list(Application) == (made,)
        labelled = await client.patch(Application, "shop", {"metadata": {"labels": {"tier": "gold"}}})
        assert labelled.metadata.labels == {"tier": "gold"}
        assert await client.list(Application, selector="tier=gold") == (labelled,)
        assert await client.list(Application, selector="!tier") == ()
        gone = await client.delete(Application, "shop")
        assert (gone.kind, gone.name, gone.uid) == ("Application", "shop", made.metadata.uid)

    run(test)


def test_a_dry_run_and_versions(run: Run) -> None:
    async def test(_: Any, client: Client) -> None:
        assert (await client.apply(node("a"), dry_run=True)).metadata.name == "a"
        assert await client.list(Node) == ()
        made = await client.apply(node("a"), version=0)
        changed = await client.apply(node("a", zone="north"), version=made.metadata.resource_version)
        for stale in (0, made.metadata.resource_version):
            with pytest.raises(ApiError) as caught:
                await client.apply(node("a"), version=stale)
            assert caught.value.status == 412
        assert await client.get(Node, "a") == changed

    run(test)


def test_lists_go_through_all_pages(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        names = [f"n{index:04}" for index in range(1100)]
        documents = [(name, to_document(node(name))) for name in names]
        await served.store.write(lambda tx: [tx.put("Node", name, document) for name, document in documents])
        assert [one.metadata.name for one in await client.list(Node)] == names

    run(test)


def test_errors_carry_the_whole_problem(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        with pytest.raises(ApiError, match="does not exist") as missing:
            await client.get(Node, "none")
        assert (missing.value.status, missing.value.code) == (404, "not-found")
        assert missing.value.problem.request_id
        wrong = application().model_copy(update={"kind": "Node"})
        with pytest.raises(ApiError) as invalid:
            await client.apply(wrong)
        assert invalid.value.problem.errors[0].path
        async with Client(served.url, served.tokens[Role.VIEWER]) as viewer:
            with pytest.raises(ApiError) as refused:
                await viewer.delete(Node, "a")
            assert refused.value.code == "forbidden"
        async with Client(served.url, "nonsense") as nobody:
            with pytest.raises(ApiError) as unknown:
                await nobody.list(Node)
            assert unknown.value.code == "unauthenticated"

    run(test)


def test_everything_that_is_asked_about_placements(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        placement = Placement(
            "shop.web.1", "shop", "web", 1, "uid-1", "a", 1, phase="ready", created_s=1.0, ports={"http": 8080}
        )
        document = msgspec.json.encode(placement)
        await served.store.write(lambda tx: tx.put(PLACEMENT_KIND, placement.id, document))
        await client.apply(application())
        await client.apply(node("a"))
        row = await served.store.get("Node", "a")
        plain = msgspec.json.decode(row.doc) | {"status": {"gateway": "http://a:8080"}}
        await served.store.write(lambda tx: tx.put("Node", "a", msgspec.json.encode(plain)))
        (found,) = (await client.placements("shop")).placements
        assert (found.id, found.node, found.phase, found.gateway) == ("shop.web.1", "a", "ready", "http://a:8080")
        assert (found.ports, found.created) == ({"http": 8080}, "1970-01-01T00:00:01.000Z")
        with pytest.raises(ApiError):
            await client.placements("none")
        told = await client.why("shop", "web")
        assert [one.node for one in told.nodes] == ["a"]
        assert (await client.why("shop", "web", "a")).node == "a"
        with pytest.raises(ApiError):
            await client.why("none", "web")
        change = WhatIfRequest(objects=(application(), node("b")), remove=(ObjectRef(kind="Node", name="a"),))
        assert (await client.what_if(change)).summary == "3 objects would change"
        assert len(await client.list(Node)) == 1, "nothing was touched"

    run(test)


def test_decisions_events_audit_telemetry_logs(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        entry = DecisionEntry("d1", "shop", "web", "placed", b'{"winner":"a"}')
        await served.store.write(lambda tx: (tx.append_decision(entry), tx.append_event(EventEntry("Lost", "gone"))))
        (listed,) = (await client.decisions(DecisionListQuery(application="shop"))).items
        assert (listed.id, listed.record) == ("d1", None)
        assert (await client.decision("d1")).record == {"winner": "a"}
        assert (await client.decisions(DecisionListQuery(application="none"))).items == ()
        assert [one.reason for one in (await client.events()).items] == ["Lost"]
        await client.apply(node("a"))
        assert [one.action for one in (await client.audit(AuditListQuery(kind="Node"))).items] == ["applyNode"]
        answer = await client.telemetry(
            TelemetryQuery(queries=(MetricQuery(metric="cpu"), MetricQuery(metric="m*", window=5)))
        )
        assert [one.values[0].metric for one in answer.answers] == ["cpu", "m*"]
        assert [one.line for one in (await client.logs(LogQuery(node="a"))).lines] == ["one", "two"]
        assert [one.line async for one in client.follow_logs(LogQuery(node="a"))] == ["one", "two"]

    run(test)


def test_nodes_and_rollouts_are_steered(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        await client.apply(node("a"))
        assert (await client.cordon("a")).spec.cordoned
        assert (await client.drain("a")).spec.drained
        assert not (await client.uncordon("a")).spec.cordoned
        spec = {"application": "shop", "component": "web", "cause": "update"}
        rollout = Rollout.model_validate({"metadata": {"name": "r1"}, "spec": spec})
        await served.store.write(lambda tx: tx.put("Rollout", "r1", to_document(rollout)))
        for verb in (client.pause, client.resume, client.abort):
            assert (await verb("r1")).metadata.name == "r1"
        assert served.services.steered == [("r1", "pause"), ("r1", "resume"), ("r1", "abort")]
        done = to_document(rollout.model_copy(update={"status": RolloutStatus(phase="done")}))
        await served.store.write(lambda tx: tx.put("Rollout", "r1", done))
        with pytest.raises(ApiError, match="done already") as caught:
            await client.pause("r1")
        assert caught.value.status == 409
        assert len(served.services.steered) == 3
        with pytest.raises(ApiError):
            await client.abort("none")

    run(test)


def test_tokens_and_joining(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        issued = await client.create_join_token(JoinTokenRequest(ttl=60, node="edge-1"))
        assert [one.id for one in (await client.join_tokens()).items] == [issued.id]
        async with Client(served.url, issued.token) as agent:
            reply = await agent.join(JoinRequest(name="edge-1", nonce="n"))
        assert (reply.node_name, reply.slice, reply.lease_s) == ("edge-1", "test", 30.0)
        assert (await client.delete_join_token(issued.id)).name == issued.id
        made = await client.create_token(ApiTokenRequest(role="viewer", subject="ann"))
        assert made.id in {one.id for one in (await client.tokens()).items}
        await client.delete_token(made.id)
        async with Client(served.url, made.token) as revoked:
            with pytest.raises(ApiError):
                await revoked.list(Node)

    run(test)


def test_the_server_about_itself(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        assert (await client.ready()).ready
        served.services.is_ready = False
        answer = await client.ready()
        assert not answer.ready
        assert [(check.name, check.message) for check in answer.checks if not check.ok] == [("broker", "away")]
        text = await client.metrics()
        assert 'shoal_api_requests_total{route="readyz",status="503"} 1.0' in text
        assert "shoal_nodes 0" in text
        assert "shoal_store_events_pruned 0.0" in text

    run(test)


def test_a_watch_goes_on_over_a_restart_of_the_server(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        await client.apply(node("before"))
        watch = client.watch(Node)
        assert (await anext(watch)).object.metadata.name == "before"
        port = int(served.url.rpartition(":")[2])
        await served.server.close()
        document = to_document(node("meanwhile"))
        await served.store.write(lambda tx: tx.put("Node", "meanwhile", document))
        options = type(served.server._options)(port=port, shutdown_s=0.1)
        async with ApiServer(served.store, served.services, options), asyncio.timeout(20):
            change = await anext(watch)
            assert (change.type, change.object.metadata.name) == ("put", "meanwhile")
            await client.delete(Node, "before")
            assert (await anext(watch)).type == "delete"
            await watch.aclose()  # type: ignore[attr-defined]

    run(test)


def test_a_watch_of_a_forgotten_past_says_so(run: Run) -> None:
    async def test(_: Any, client: Client) -> None:
        with pytest.raises(ApiError) as caught:
            await anext(client.watch(Node, since=10_000))
        assert caught.value.code == "history-gone"

    run(test)


def test_events_are_followed(run: Run) -> None:
    async def test(served: Any, client: Client) -> None:
        events = client.watch_events(EventListQuery(reason="Lost", resource_version=0))
        await served.store.write(lambda tx: tx.append_events([EventEntry("Other", ""), EventEntry("Lost", "gone")]))
        assert (await anext(events)).message == "gone"
        await events.aclose()  # type: ignore[attr-defined]

    run(test)


def test_a_file_is_uploaded_with_progress(run: Run, tmp_path: Path) -> None:
    async def test(_: Any, client: Client) -> None:
        path = tmp_path / "digits.onnx"
        path.write_bytes(b"weights" * 100_000)
        await client.apply(model())
        told: list[tuple[int, int]] = []
        received = await client.upload_model("digits", path, progress=lambda done, total: told.append((done, total)))
        assert (received.complete, received.received) == (True, 700_000)
        assert told[0] == (0, 700_000)
        assert told[-1] == (700_000, 700_000)
        assert await client.blob(hashlib.sha256(path.read_bytes()).hexdigest()) == path.read_bytes()
        assert (await client.get(Model, "digits")).status is not None

    run(test)


def test_an_upload_goes_on_where_another_one_stopped(run: Run, tmp_path: Path) -> None:
    async def test(served: Any, client: Client) -> None:
        path = tmp_path / "digits.onnx"
        path.write_bytes(b"weights" * 100_000)
        await client.apply(model())
        with served.store.blobs.upload(hashlib.sha256(path.read_bytes()).hexdigest()) as upload:
            upload.write(path.read_bytes()[:1])
        received = await client.upload_model("digits", path)
        assert received.complete

    run(test)


class Flaky:
    """A server that fails in one way before it answers."""

    def __init__(self, *answers: web.Response | None) -> None:
        self.answers = list(answers)
        self.keys: list[str] = []

    async def answer(self, http: web.Request) -> web.Response:
        await http.read()
        self.keys.append(http.headers.get("Idempotency-Key", ""))
        made = self.answers.pop(0)
        if made is None:
            assert http.transport is not None
            http.transport.abort()
            return web.Response()
        return made


async def flaky(server: Flaky, test: Callable[[Client], Awaitable[None]]) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with Client(f"http://127.0.0.1:{runner.addresses[0][1]}/", "t") as client:
            await test(client)
    finally:
        await runner.cleanup()


def busy() -> web.Response:
    problem = {"title": "t", "status": 503, "code": "unavailable", "requestId": "r"}
    return web.json_response(problem, status=503, content_type="application/problem+json")


def stored() -> web.Response:
    return web.json_response(msgspec.json.decode(to_document(node("a"))))


def test_a_change_is_tried_again_under_the_same_key() -> None:
    async def test(client: Client) -> None:
        assert (await client.apply(node("a"))).metadata.name == "a"

    server = Flaky(None, busy(), stored())
    asyncio.run(flaky(server, test))
    assert len(server.keys) == 3
    assert len(set(server.keys)) == 1
    assert len(server.keys[0]) == 32


def test_trying_again_ends() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(TransportError, match="cannot answer now"):
            await client.get(Node, "a")

    server = Flaky(*(busy() for _ in range(9)))
    asyncio.run(flaky(server, test))
    assert len(server.keys) == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.json_response({"kind": "Node", "metadata": {"name": "a"}, "fresh": 1}), ProtocolError),
        (web.Response(text="<html>"), ProtocolError),
        (web.Response(status=502, text="bad gateway"), TransportError),
        (web.json_response({"title": "no"}, status=404, content_type="application/problem+json"), TransportError),
    ],
    ids=["newer", "not JSON", "a proxy", "half a problem"],
)
def test_what_is_no_answer_of_ours_is_told(answer: web.Response, error: type[Exception]) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(error):
            await client.get(Node, "a")

    asyncio.run(flaky(Flaky(answer), test))


def test_nobody_there_is_told() -> None:
    async def run() -> None:
        async with Client("http://127.0.0.1:1", timeout_s=2) as client:
            with pytest.raises(TransportError, match=r"127\.0\.0\.1:1"):
                await client.list(Node)

    asyncio.run(run())


def test_the_blocking_client_does_the_same(serve: Any) -> None:
    """As the command line uses it: in a thread without a loop of its own, while the server runs elsewhere."""
    url: list[str] = []
    token: list[str] = []
    is_up, is_done = threading.Event(), threading.Event()

    async def server() -> None:
        async with serve() as served:
            url.append(served.url)
            token.append(served.tokens[Role.SLICE_ADMIN])
            is_up.set()
            await asyncio.to_thread(is_done.wait, 30)

    thread = threading.Thread(target=lambda: asyncio.run(server()))
    thread.start()
    try:
        assert is_up.wait(20)
        with BlockingClient(url[0], token[0]) as client:
            made = client.run(lambda api: api.apply(node("a")))
            assert client.run(lambda api: api.list(Node)) == (made,)
            for change in client.iterate(lambda api: api.watch(Node)):
                assert change.object == made
                break
            with pytest.raises(ApiError):
                client.run(lambda api: api.get(Node, "none"))
            assert [line.line for line in client.iterate(lambda api: api.follow_logs(LogQuery(node="a")))] == [
                "one",
                "two",
            ]
    finally:
        is_done.set()
        thread.join(20)

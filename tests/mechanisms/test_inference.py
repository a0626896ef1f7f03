"""The inference mechanism with a real gateway, a real model and a real source of its bytes."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.client
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from shoal.descriptions.errors import RefusedError
from shoal.descriptions.mechanism import MechanismCommand
from shoal.descriptions.messages.desired import Artifact, InferenceTask, ReplicaSpec
from shoal.descriptions.messages.gateway import GatewayFile
from shoal.descriptions.messages.lease import Endpoint, Routes
from shoal.mechanisms.arguments import values
from shoal.mechanisms.inference import Inference
from shoal.mechanisms.process_handle import start_time
from shoal.mechanisms.runner import GatewayBind, Host, Observation, run_digest
from shoal.mechanisms.serving import run_of
from shoal.mechanisms.transfer.origin import Origins

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux"),
]

DEADLINE_S = 40.0
MODEL = Path(__file__).resolve().parents[2] / "examples" / "01-digits" / "digits.onnx"
SHA256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    """The folder of the model over HTTP on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(MODEL.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class Node:
    """Folders, and the gateway that the test leaves behind."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.source = source
        self.bind = GatewayBind(port=0)

    def host(self) -> Host:
        (self.folder / "run").mkdir(exist_ok=True)
        return Host(
            "node-1", "demo", self.folder / "state", self.folder / "run", lambda mechanism: None,
            origins=Origins(self.source), gateway=self.bind,
        )  # fmt: skip

    @asynccontextmanager
    async def inference(self) -> AsyncIterator[Inference]:
        one = Inference()
        await one.open(self.host())
        try:
            yield one
        finally:
            await one.close()

    def task(self, sha256: str = SHA256) -> InferenceTask:
        artifact = Artifact(f"{self.source}/digits.onnx", sha256, MODEL.stat().st_size)
        return InferenceTask("digits", "1", "onnx", artifact)

    def spec(self, task: InferenceTask | None = None, revision: int = 1) -> ReplicaSpec:
        return ReplicaSpec("app.model.0", "app", "model", revision, task or self.task())


@pytest.fixture
def node(tmp_path: Path, source: str) -> Iterator[Node]:
    one = Node(tmp_path, source)
    yield one
    file = tmp_path / "run" / "gateway" / "gateway.json"
    if file.exists():
        found = msgspec.json.decode(file.read_bytes(), type=GatewayFile)
        if start_time(found.pid) == found.start_time:
            os.kill(found.pid, signal.SIGTERM)
            deadline_s = time.monotonic() + DEADLINE_S
            while start_time(found.pid) == found.start_time:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)


def infer(url: str, model: str = "digits") -> int:
    """The status of one request with an empty picture."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    try:
        connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))
        return connection.getresponse().status
    finally:
        connection.close()


async def until(one: Inference, holds: Callable[[tuple[Observation, ...]], bool]) -> tuple[Observation, ...]:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds(found := await one.observe()):
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.02)
    return found


def phases(*wanted: str) -> Callable[[tuple[Observation, ...]], bool]:
    return lambda found: tuple(one.phase for one in found) == wanted


def run(test: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100):
            await test

    asyncio.run(bounded())


def test_fetch_serve_adopt_swap_stop(node: Node) -> None:
    """One life of a replica over two agents, with clients asking all the time and no request failing."""
    first, second = node.spec(), node.spec(revision=2)
    statuses: list[int] = []
    ends = threading.Event()

    def ask(url: str) -> None:
        while not ends.is_set():
            statuses.append(infer(url))

    async def test() -> None:
        async with node.inference() as one:
            assert one.gateway_url == ""
            assert (await one.start(first, run_digest(first))).phase in ("starting", "fetching")
            (ready,) = await until(one, phases("ready"))
            assert (ready.replica, ready.digest, ready.revision) == (first.id, run_digest(first), 1)
            assert (node.folder / "state" / "models" / SHA256).read_bytes() == MODEL.read_bytes()
            client = threading.Thread(target=ask, args=(one.gateway_url,))
            client.start()
            try:
                async with node.inference() as other:  # the agent restarts
                    (adopted,) = await other.observe()
                    assert adopted == ready
                    await other.start(second, run_digest(second))
                    await until(other, lambda found: {o.revision for o in found if o.phase == "ready"} == {2})
                    await other.stop(first.id, run_digest(first), 5.0)  # swapped out already
                    (now,) = await until(other, phases("ready"))
                    assert now.revision == 2
                    restarted = await asyncio.to_thread(other.apply, MechanismCommand("c1", "restart", first.id))
                    assert restarted.state == "done"
                    await until(other, lambda found: found[0].pid not in (0, now.pid) and found[0].phase == "ready")
            finally:
                ends.set()
                await asyncio.to_thread(client.join)
            assert set(statuses) == {200}
            assert len(statuses) > 10
        async with node.inference() as last:
            await last.stop(second.id, run_digest(second), 1.0)
            await until(last, phases())

    run(test())


def test_a_failed_update_leaves_the_old_one_serving_and_can_be_taken_back(node: Node) -> None:
    good = node.spec()
    wrong = node.spec(msgspec.structs.replace(node.task(), options=values(noSuchOption=1)), revision=2)

    async def test() -> None:
        async with node.inference() as one:
            await one.start(good, run_digest(good))
            await until(one, phases("ready"))
            await one.start(wrong, run_digest(wrong))
            found = await until(one, phases("ready", "failed"))
            assert [each.revision for each in found] == [1, 2]
            assert "noSuchOption" in found[1].message
            assert infer(one.gateway_url) == 200
            await one.stop(wrong.id, run_digest(wrong), 0.0)
            await until(one, phases("ready"))

    run(test())


def test_what_cannot_be_had_says_why_and_is_tried_again(node: Node) -> None:
    missing = node.spec(node.task(sha256="0" * 64))

    async def test() -> None:
        async with node.inference() as one:
            await one.start(missing, run_digest(missing))
            (found,) = await until(one, phases("failed"))
            assert f"the bytes have SHA-256 {SHA256}" in found.message
            assert (await one.start(missing, run_digest(missing))).phase != "failed"
            await until(one, phases("failed"))
            await one.stop(missing.id, run_digest(missing), 0.0)
            assert await one.observe() == ()

    run(test())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifact": None}, "has no artifact"),
        ({"format": "python", "predictor": "os:path"}, "no folder of gateway.predictors holds"),
        ({"format": "python", "predictor": "../x:Y"}, "no folder of gateway.predictors holds"),
    ],
)
def test_what_will_never_be_served(node: Node, changes: dict[str, object], message: str) -> None:
    spec = node.spec(msgspec.structs.replace(node.task(), **changes))

    async def test() -> None:
        async with node.inference() as one:
            await one.start(spec, run_digest(spec))
            (found,) = await until(one, phases("failed"))
            assert message in found.message

    run(test())


def test_a_gateway_that_was_killed_is_seen_and_replaced(node: Node) -> None:
    spec = node.spec()
    routes = Routes("far", 3, (Endpoint("node-2", "http://127.0.0.1:9"),))

    async def test() -> None:
        async with node.inference() as one:
            await one.start(spec, run_digest(spec))
            await until(one, phases("ready"))
            await one.route(routes)
            health = await one.session.gateway.health()
            os.kill(health.pid, signal.SIGKILL)
            await until(one, phases())
            assert one.gateway_url == ""
            await one.start(spec, run_digest(spec))
            await until(one, phases("ready"))
            assert infer(one.gateway_url) == 200
            assert (await one.session.gateway.health()).pid != health.pid
            assert await one.session.gateway.routes("far") == routes  # told again

    run(test())


def test_components_that_call_models_bring_the_gateway_up(node: Node) -> None:
    async def test() -> None:
        async with node.inference() as one:
            await one.route(Routes("far", 1))
            await one.watch(frozenset({"far"}))
            deadline_s = time.monotonic() + DEADLINE_S
            while not one.gateway_url:
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.02)
            await one.watch(frozenset())
            assert await one.session.gateway.routes("far") is None

    run(test())


def test_options_are_set_and_undone_by_swapping(node: Node) -> None:
    spec = node.spec()
    command = MechanismCommand("c", "setOptions", "app.model", values(options={"intraOpThreads": 2}))

    async def test() -> None:
        async with node.inference() as one:
            await one.start(spec, run_digest(spec))
            (before,) = await until(one, phases("ready"))
            undo = one.inverse(command)
            assert undo is not None
            outcome = await asyncio.to_thread(one.apply, command)
            assert (outcome.state, outcome.message) == ("done", "told 1")
            (after,) = await until(one, lambda found: len(found) == 1 and found[0].pid not in (0, before.pid))
            assert after.digest == before.digest  # still the same run
            await asyncio.to_thread(one.apply, undo)
            await until(one, lambda found: len(found) == 1 and found[0].pid not in (0, before.pid, after.pid))

    run(test())


def test_a_single_instance_ends_with_its_lease_though_no_agent_lives(node: Node) -> None:
    spec = msgspec.structs.replace(node.spec(), single_instance=True)
    lease = node.host().lease_file

    async def test() -> None:
        async with node.inference() as one:
            lease.write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) + 600))
            await one.start(spec, run_digest(spec))
            await until(one, phases("ready"))
            url = one.gateway_url
        lease.write_text("0")  # no agent from here on
        deadline_s = time.monotonic() + DEADLINE_S
        while infer(url) == 200:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)

    run(test())


@pytest.mark.parametrize(
    "command",
    [
        MechanismCommand("c", "restart", ""),
        MechanismCommand("c", "restart", "no.such.0"),
        MechanismCommand("c", "explode", "app.model"),
    ],
)
def test_commands_that_are_refused(node: Node, command: MechanismCommand) -> None:
    async def test() -> None:
        async with node.inference() as one:
            assert (await asyncio.to_thread(one.apply, command)).state == "refused"

    run(test())


def test_options_that_are_no_mapping_are_refused(node: Node) -> None:
    async def test() -> None:
        async with node.inference() as one:
            outcome = one.apply(MechanismCommand("c", "setOptions", "app.model", values(options=3)))
            assert (outcome.state, outcome.message) == ("refused", "setOptions: options must be a mapping or null")

    run(test())


def test_options_that_the_worker_refuses_are_taken_back(node: Node) -> None:
    spec = node.spec()
    command = MechanismCommand("c", "setOptions", "app.model.0", values(options={"noSuchOption": 2}))

    async def test() -> None:
        async with node.inference() as one:
            await one.start(spec, run_digest(spec))
            (before,) = await until(one, phases("ready"))
            with pytest.raises(RefusedError, match="noSuchOption"):
                await asyncio.to_thread(one.apply, command)
            (after,) = await until(one, phases("ready"))
            assert after.pid == before.pid

    run(test())


@pytest.mark.parametrize(
    ("opaque", "expected"),
    [("abc/3/def", ("def", 3)), ("/0/x", ("x", 0)), ("", ("", 0)), ("abc", ("", 0)), ("a/b/c", ("", 0))],
)
def test_what_the_gateway_tells_back(opaque: str, expected: tuple[str, int]) -> None:
    assert run_of(opaque) == expected

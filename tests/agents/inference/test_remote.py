"""Models of other nodes: real gateways that forward to each other."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoal.agents.inference.gateway.http.tasks import AnswerTasks
from shoal.agents.inference.gateway.remote import RemoteModels, Upstream
from shoal.descriptions.errors import RefusedError
from shoal.descriptions.messages.gateway import ServingSpec
from shoal.descriptions.messages.lease import Endpoint, Routes

from .harness import GatewayProcess, Launch, send, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]


def route(gateway: GatewayProcess, *endpoints: Endpoint, generation: int = 1, model: str = "scale") -> None:
    answer = gateway.admin("PUT", f"/admin/routes/{model}", Routes(model, generation, endpoints))
    assert answer.status == 200, answer


@contextmanager
def listener(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does `talk` with each connection; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    talk(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_gateway_forwards_what_another_node_serves(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    near, far = launch("--node", "near"), launch("--node", "far")
    far.serve("r", double)
    body = ask([1, 2, 3, 4], shape=[1, 4], id="over there")
    assert near.infer("scale", body).status == 404
    route(near, Endpoint("far", far.file.http))
    for _ in range(20):
        answer = near.infer("scale", body)
        assert answer.status == 200
        assert (answer.json["id"], answer.json["outputs"][0]["data"]) == ("over there", [2, 4, 6, 8])
    assert near.request("GET", "/v2/models/scale").json == far.request("GET", "/v2/models/scale").json
    assert near.request("GET", "/v2/models/scale/ready").status == 200
    assert near.request("GET", "/v2/models").json == {"models": ["scale"]}
    assert near.infer("scale", b"{").error == far.infer("scale", b"{").error, "also what the worker refuses"
    lines = near.request("GET", "/metrics").body.decode().splitlines()
    assert "shoal_gateway_forwarded_total 23" in lines
    assert near.admin("DELETE", "/admin/routes/scale").status == 200
    assert near.infer("scale", body).status == 404


def test_binary_tensors_and_large_bodies_go_through(launch: Launch, models: object, ask: Ask) -> None:
    import json

    near, far = launch(), launch()
    far.serve("r", ServingSpec(model="scale", path=f"{models}/double.onnx", plugin="onnx"))
    route(near, Endpoint("far", far.file.http))
    rows = 100_000
    blob = b"\0\0\x80\x3f" * rows * 4  # ones
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(blob)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = near.infer("scale", text + blob, {"Inference-Header-Content-Length": str(len(text))})
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    assert answer.body[size:] == b"\0\0\0\x40" * rows * 4


def test_what_is_here_is_not_sent_away(launch: Launch, double: ServingSpec, triple: ServingSpec, ask: Ask) -> None:
    near, far = launch(), launch()
    near.serve("r", double)
    far.serve("r", triple)
    route(near, Endpoint("far", far.file.http))
    body = ask([1, 1, 1, 1], shape=[1, 4])
    assert near.infer("scale", body).json["outputs"][0]["data"] == [2, 2, 2, 2]
    near.admin("DELETE", "/admin/replicas/r")
    wait_until(lambda: near.infer("scale", body).json["outputs"][0]["data"] == [3] * 4, "the other node to take over")


def test_an_endpoint_that_is_down_costs_no_request(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    near, far = launch(), launch()
    far.serve("r", double)
    route(near, Endpoint("down", unused_url(), weight=100.0), Endpoint("far", far.file.http))
    statuses = Counter(near.infer("scale", ask([1, 1, 1, 1], shape=[1, 4])).status for _ in range(20))
    assert statuses == {200: 20}
    log = (near.dir / "gateway.log").read_text()
    assert log.count("failures=1 rests") == 1, "one try, then it rests"


def test_a_node_that_ends_between_requests_costs_no_request(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    """Kept connections to it are dead, and the next one is refused."""
    near, left, right = launch(), launch(), launch()
    for gateway in (left, right):
        gateway.serve("r", double)
    route(near, Endpoint("left", left.file.http), Endpoint("right", right.file.http))
    body = ask([1, 1, 1, 1], shape=[1, 4])
    assert {near.infer("scale", body).status for _ in range(10)} == {200}
    left.process.send_signal(signal.SIGKILL)
    left.process.wait()
    assert {near.infer("scale", body).status for _ in range(20)} == {200}


def test_nobody_left_is_502(launch: Launch, ask: Ask) -> None:
    near = launch()
    down = [Endpoint(f"down{index}", unused_url()) for index in range(3)]
    route(near, *down)
    answer = near.infer("scale", b"{}")
    assert answer.status == 502
    assert answer.error.startswith("no other node could answer for 'scale': http://127.0.0.1:")
    assert "can't connect" in answer.error


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "the connection ended in the midst of the answer"),
        (b"nonsense\r\n\r\n", "malformed answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20000, "the answer's head is too large"),
        (b"", "the connection ended before an answer"),
    ],
    ids=["half", "nonsense", "large head", "nothing"],
)
def test_a_neighbour_that_talks_nonsense_is_502(launch: Launch, reply: bytes, says: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            connection.sendall(reply)
        except OSError:
            return

    near = launch()
    with listener(talk) as url:
        route(near, Endpoint("odd", url))
        answer = near.infer("scale", b"{}")
    assert answer.status == 502
    assert says in answer.error
    assert near.request("GET", "/v2/health/live").status == 200


def test_a_request_that_may_have_been_carried_out_is_not_tried_twice(launch: Launch, double: ServingSpec) -> None:
    tried = []

    def talk(connection: socket.socket) -> None:
        tried.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    near, far = launch(), launch()
    far.serve("r", double)
    with listener(talk) as url:
        route(near, Endpoint("odd", url, weight=100.0), Endpoint("far", far.file.http))
        assert near.infer("scale", b"{}").status == 502
    assert len(tried) == 1
    assert tried[0].startswith(b"POST /v2/models/scale/infer HTTP/1.1\r\n")
    assert b"shoal-hops: 1\r\n" in tried[0]


def test_circles_end(launch: Launch) -> None:
    left, right = launch("--node", "left"), launch("--node", "right")
    route(left, Endpoint("right", right.file.http))
    route(right, Endpoint("left", left.file.http))
    answer = left.infer("scale", b"{}")
    assert (answer.status, answer.error) == (508, "the request has come over 2 nodes; 'scale' is not here")
    assert right.infer("scale", b"{}", {"Shoal-Hops": "many"}).status == 508


def test_a_node_does_not_forward_to_itself(launch: Launch) -> None:
    gateway = launch("--node", "me")
    route(gateway, Endpoint("me", gateway.file.http))
    assert gateway.infer("scale", b"{}").status == 404


def test_older_route_tables_change_nothing(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    near, far = launch(), launch()
    far.serve("r", double)
    route(near, Endpoint("far", far.file.http), generation=5)
    for generation in (4, 5):
        route(near, generation=generation)
        assert near.admin("GET", "/admin/routes/scale").json["generation"] == 5
    assert near.infer("scale", ask([1, 1, 1, 1], shape=[1, 4])).status == 200
    route(near, generation=6)
    assert near.infer("scale", b"{}").status == 404


@pytest.mark.parametrize(
    "url", ["https://x", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/path", "x", "http://[::1"]
)
def test_endpoints_that_are_no_http_url_are_refused(launch: Launch, shared: GatewayProcess, url: str) -> None:
    answer = shared.admin("PUT", "/admin/routes/m", Routes("m", 1, (Endpoint("n", url),)))
    assert answer.status == 400
    assert url in answer.error
    assert shared.admin("PUT", "/admin/routes/other", Routes("m", 1)).status == 400


def test_load_is_spread_by_weight(launch: Launch, predictors: object, moody: ServingSpec, ask: Ask) -> None:
    near = launch()
    far = [launch("--predictors", str(predictors)) for _ in range(2)]
    for gateway in far:
        gateway.serve("m", moody)
    route(near, Endpoint("big", far[0].file.http, 3.0), Endpoint("small", far[1].file.http, 1.0), model="moody")
    clients = [near.connect() for _ in range(8)]
    for client in clients:
        client.request("POST", "/v2/models/moody/infer", ask([9, 0.3], datatype="FP64"))
        wait_until(lambda: sum(_in_flight(each) for each in far) == clients.index(client) + 1, "it to arrive")  # noqa: B023
    assert [_in_flight(gateway) for gateway in far] == [6, 2]
    for client in clients:
        assert client.getresponse().status == 200
        client.close()


def _in_flight(gateway: GatewayProcess) -> int:
    stats = gateway.report("m").stats
    return stats.in_flight + stats.queue


def test_a_broken_local_replica_falls_back_to_another_node(
    launch: Launch, predictors: object, moody: ServingSpec, ask: Ask
) -> None:
    near, far = (launch("--predictors", str(predictors)) for _ in range(2))
    near.serve("m", moody)
    far.serve("m", moody)
    route(near, Endpoint("far", far.file.http), model="moody")
    for _ in range(5):
        near.infer("moody", ask([3], datatype="FP64"))
    near.wait_for("m", "broken")
    pid = far.report("m").pid
    assert near.infer("moody", ask([11], datatype="FP64")).json["outputs"][0]["data"] == [pid]


def test_a_client_that_leaves_ends_its_forwarded_request(
    launch: Launch, predictors: object, moody: ServingSpec, ask: Ask
) -> None:
    near, far = launch(), launch("--predictors", str(predictors))
    far.serve("m", moody)
    route(near, Endpoint("far", far.file.http), model="moody")
    client = near.connect()
    client.request("POST", "/v2/models/moody/infer", ask([9, 0.3], datatype="FP64"))
    wait_until(lambda: _in_flight(far) == 1, "it to arrive")
    client.close()
    wait_until(lambda: _in_flight(far) == 0, "it to end")
    client = near.connect()
    assert send(client, "POST", "/v2/models/moody/infer", ask([21], datatype="FP64")).status == 200
    client.close()


def test_the_least_busy_endpoint_by_weight_is_chosen() -> None:
    light = Upstream(Endpoint("a", "http://a", 1.0), "a", 80, outstanding=1)
    heavy = Upstream(Endpoint("b", "http://b", 4.0), "b", 80, outstanding=6)
    assert light.cost() > heavy.cost()


def test_routes_of_a_table_are_checked_before_the_old_ones_go() -> None:
    async def run() -> None:
        remote = RemoteModels("me", 2, 1000, AnswerTasks(asyncio.get_running_loop()))
        remote.put(Routes("m", 1, (Endpoint("n", "http://127.0.0.1:1"),)))
        with pytest.raises(RefusedError):
            remote.put(Routes("m", 2, (Endpoint("n", "nonsense"),)))
        assert remote.has("m")
        assert remote.routes["m"].generation == 1
        remote.close()

    asyncio.run(run())


def test_nothing_is_left_open(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    near, far = launch(), launch()
    far.serve("r", double)

    def fds() -> int:
        return len(list(Path(f"/proc/{near.process.pid}/fd").iterdir()))

    near.request("GET", "/v2")
    before = fds()
    route(near, Endpoint("far", far.file.http))
    assert {near.infer("scale", ask([1] * 4, shape=[1, 4])).status for _ in range(10)} == {200}
    assert fds() == before + 1, "one kept connection"
    near.admin("DELETE", "/admin/routes/scale")
    wait_until(lambda: fds() == before, "it to be closed")

"""A node that serves a model: agents come, go and are killed, and no request of a client fails."""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from shoal.agents.local import LocalRequest
from shoal.descriptions.errors import ShoalError
from shoal.descriptions.messages.desired import Artifact, InferenceTask, ReplicaSpec
from shoal.descriptions.messages.gateway import GatewayFile
from shoal.descriptions.messages.lease import Command, Endpoint, Routes
from shoal.mechanisms.arguments import values
from shoal.mechanisms.process_handle import start_time

from .harness import AgentProcess, Plane, replica, wait_until

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")]

MODEL = Path(__file__).resolve().parents[2] / "examples" / "01-digits" / "digits.onnx"
SHA256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()
NAME = "app.model.0"


def served(plane: Plane, revision: int = 1) -> ReplicaSpec:
    """A replica whose bytes the control plane has."""
    plane.blobs[f"/v1/blobs/{SHA256}"] = MODEL.read_bytes()
    task = InferenceTask("digits", "1", "onnx", Artifact(f"/v1/blobs/{SHA256}", SHA256, MODEL.stat().st_size))
    return ReplicaSpec(NAME, "app", "model", revision, task)


def gateway_of(agent: AgentProcess) -> GatewayFile:
    return msgspec.json.decode((agent.run / "gateway" / "gateway.json").read_bytes(), type=GatewayFile)


def infer(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    try:
        connection.request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [tensor]}))
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def clients(url: str) -> Iterator[list[int]]:
    """Clients that ask for as long as the block lasts; the statuses of their answers."""
    statuses: list[int] = []
    ends = threading.Event()

    def ask() -> None:
        while not ends.is_set():
            statuses.append(infer(url))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def test_restarts_kills_and_upgrades_of_the_agent_cost_no_request(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, served(plane)))
    plane.wait_for_phase(NAME, "ready")
    gateway = gateway_of(agent)
    wait_until(lambda: plane.heard.reports[-1].gateway == gateway.http, "the gateway's URL to be reported")
    with clients(gateway.http) as statuses:
        for end in (agent.kill, agent.stop, agent.kill):
            seen = len(plane.heard.reports)
            end()
            agent.start()
            wait_until(lambda seen=seen: len(plane.heard.reports) > seen, "a report of the next run")  # type: ignore[misc]
            plane.wait_for_phase(NAME, "ready")
        plane.want(plane.document(2, served(plane, revision=2)))
        plane.wait_for_phase(NAME, "ready", revision=2)
        plane.command(Command("again", "restart", 1, 30.0, values(replica=NAME)))
        assert plane.result_of("again").ok
        count = len(statuses)
        wait_until(lambda: len(statuses) > count + 10, "answers after all that")
    assert set(statuses) == {200}
    assert gateway_of(agent).pid == gateway.pid
    conditions = {one.type: one.status for one in plane.heard.reports[-1].conditions}
    assert conditions["GatewayReady"] == "True"


def test_a_node_without_any_network_serves_its_last_model(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, served(plane)))
    plane.wait_for_phase(NAME, "ready")
    gateway = gateway_of(agent)
    agent.end()  # the whole node
    wait_until(lambda: start_time(gateway.pid) != gateway.start_time, "everything to end")
    plane.broker.kill()
    plane.blobs.clear()
    agent.start()

    def serves() -> bool:
        try:
            found = agent.ask(LocalRequest("status")).report
            return [one.phase for one in found.replicas] == ["ready"] and infer(gateway_of(agent).http) == 200
        except (ShoalError, OSError):
            return False

    wait_until(serves, "an answer, offline")


def test_a_model_that_changed_on_disk_is_never_loaded(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, served(plane)))
    plane.wait_for_phase(NAME, "ready")
    agent.end()
    path = agent.state / "models" / SHA256
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    agent.start()
    wait_until(lambda: path.exists() and path.read_bytes() == MODEL.read_bytes(), "the right bytes again")
    plane.wait_for_phase(NAME, "ready")


def test_components_reach_models_elsewhere_through_their_gateway(plane: Plane, agent: AgentProcess) -> None:
    """A process that calls a model gets a gateway, and the gateway the routes of that model and of no other."""
    script = "import os, time; print(os.environ['SHOAL_GATEWAY'], flush=True); time.sleep(600)"
    caller = msgspec.structs.replace(replica("app.part.0", (sys.executable, "-c", script)), interacts=("digits",))
    agent.start()
    plane.want(plane.document(1, caller))
    plane.wait_for_phase("app.part.0", "ready")
    gateway = gateway_of(agent)
    log = agent.state / "process" / "logs" / "app.part.0.log"
    wait_until(lambda: log.read_text().strip() == gateway.http, "the URL in its environment")
    nowhere = Routes("digits", 1, (Endpoint("other", "http://127.0.0.1:9"),))
    for model in ("digits", "stranger"):
        plane.raw(f"_/routes/{model}", msgspec.json.encode(msgspec.structs.replace(nowhere, model=model)), retain=True)

    def routed(model: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(gateway.http).port, timeout=10)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", b"{}")
            return connection.getresponse().status
        finally:
            connection.close()

    wait_until(lambda: routed("digits") in (502, 503), "the route to be tried")
    assert {routed("stranger") for _ in range(20)} == {404}

"""A real gateway as its clients, its agent and the operating system see it, and small models to serve.

`conftest.py` makes fixtures of it. Nothing is faked.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from shoal.descriptions.messages.gateway import GatewayFile, GatewayHealth, ServingReport, ServingSpec

DEADLINE_S = 60.0

PREDICTOR = '''
"""Does what the first number says; otherwise doubles."""
import ctypes, os, signal, subprocess, sys, time

class Moody:
    inputs = [("x", "FP64", [-1])]
    outputs = [("y", "FP64", [-1])]

    def predict(self, x):
        mood = x[0]
        if mood == 1: os.kill(os.getpid(), signal.SIGKILL)
        if mood == 2: ctypes.string_at(0)
        if mood == 3: os._exit(7)
        if mood == 4:
            while True: pass
        if mood == 5: raise ValueError("moody today")
        if mood == 6: sys.exit("good bye")
        if mood == 7: return {"y": ["not", "numbers"]}
        if mood == 8: return {"z": [1.0]}
        if mood == 9: time.sleep(float(x[1]))
        if mood == 10: subprocess.Popen(["sleep", "600"]); return [float(os.getpid())]
        if mood == 11: return [float(os.getpid())]
        if mood == 12: return [float(fd) for fd in sorted(map(int, os.listdir("/proc/self/fd")))]
        if mood == 13: os.close(int(x[1]))
        if mood == 14: return [float("nan"), float("inf"), 1.0]
        return x * 2
'''


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until the condition holds; fail with `what` when it never does."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.01)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self.path)


@dataclass
class Answer:
    """What a client sees."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json.values()
        assert isinstance(error, str)
        return error


@dataclass
class GatewayProcess:
    """A running gateway and its clients."""

    process: subprocess.Popen[bytes]
    dir: Path
    file: GatewayFile
    _connection: http.client.HTTPConnection | None = field(default=None, init=False)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.file.http.removeprefix("http://").rpartition(":")
        return host, int(port)

    def connect(self) -> http.client.HTTPConnection:
        """A new client connection."""
        host, port = self.address
        return http.client.HTTPConnection(host, port, timeout=DEADLINE_S)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request over a kept-alive connection."""
        if self._connection is None:
            self._connection = self.connect()
        return send(self._connection, method, path, body, headers)

    def infer(self, model: str, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        return self.request("POST", f"/v2/models/{model}/infer", body, headers)

    def admin(self, method: str, path: str, message: object = None) -> Answer:
        """One request to the admin socket."""
        connection = UnixConnection(self.file.admin)
        try:
            return send(connection, method, path, b"" if message is None else msgspec.json.encode(message))
        finally:
            connection.close()

    def health(self) -> GatewayHealth:
        return msgspec.json.decode(self.admin("GET", "/admin/health").body, type=GatewayHealth)

    def put(self, replica: str, spec: ServingSpec) -> ServingReport:
        answer = self.admin("PUT", f"/admin/replicas/{replica}", spec)
        assert answer.status in (200, 202), answer
        return msgspec.json.decode(answer.body, type=ServingReport)

    def report(self, replica: str) -> ServingReport:
        answer = self.admin("GET", f"/admin/replicas/{replica}")
        assert answer.status == 200, answer
        return msgspec.json.decode(answer.body, type=ServingReport)

    def wait_for(self, replica: str, phase: str, version: str | None = None) -> ServingReport:
        """Until the replica is in this phase, and serves this version."""
        seen = self.report(replica)

        def is_there() -> bool:
            nonlocal seen
            seen = self.report(replica)
            return seen.phase == phase and version in (None, seen.version)

        wait_until(is_there, f"{replica} to be {phase}; it is {seen}")
        return seen

    def serve(self, replica: str, spec: ServingSpec) -> ServingReport:
        """Put a replica and wait until it is ready."""
        self.put(replica, spec)
        return self.wait_for(replica, "ready")

    def children(self) -> set[int]:
        """Pids of everything that the gateway started."""
        return descendants(self.process.pid)

    def end(self) -> None:
        """Kill it with all that it started; each test that asks for a clean end does so itself."""
        if self._connection is not None:
            self._connection.close()
        children = self.children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        wait_until(
            lambda: not any(is_alive(pid) for pid in children), f"the children {children} to end with the gateway"
        )


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request and its answer."""
    connection.request(method, path, body or None, headers or {})
    response = connection.getresponse()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def descendants(pid: int) -> set[int]:
    """Children, and children of children."""
    found: set[int] = set()
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Launch(Protocol):
    """Start a gateway with these flags."""

    def __call__(self, *flags: str, dir: Path | None = None) -> GatewayProcess: ...  # noqa: A002  # it is --dir


def start_gateway(dir: Path, flags: tuple[str, ...]) -> GatewayProcess:  # noqa: A002
    """Start one and wait until it says that it is ready."""
    log = (dir / "gateway.log").open("ab")
    command = [sys.executable, "-m", "shoal.agents.inference.gateway", "--dir", str(dir)]
    process = subprocess.Popen([*command, "--http", "127.0.0.1:0", *flags], stderr=log, start_new_session=True)
    log.close()
    path = dir / "gateway.json"

    def is_there() -> bool:
        assert process.poll() is None, (dir / "gateway.log").read_text()
        return path.exists() and decode_file(path).pid == process.pid

    wait_until(is_there, "gateway.json")
    return GatewayProcess(process, dir, decode_file(path))


def decode_file(path: Path) -> GatewayFile:
    return msgspec.json.decode(path.read_bytes(), type=GatewayFile)


def scaling_model(factor: float) -> bytes:
    """y = factor · x, FP32 [-1, 4]."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "scale", [x], [y], [constant])
    return onnx_bytes(graph)


def mixed_model() -> bytes:
    """Total (INT64) of two inputs of different types, and text that goes through."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("a", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("b", TensorProto.UINT8, ["n"]),
        helper.make_tensor_value_info("text", TensorProto.STRING, ["m"]),
    ]
    outputs = [
        helper.make_tensor_value_info("total", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("same", TensorProto.STRING, ["m"]),
    ]
    nodes = [
        helper.make_node("Cast", ["b"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Add", ["a", "wide"], ["total"]),
        helper.make_node("Identity", ["text"], ["same"]),
    ]
    return onnx_bytes(helper.make_graph(nodes, "mixed", inputs, outputs))


def onnx_bytes(graph: Any) -> bytes:
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def v2(data: list[Any], name: str = "x", datatype: str = "FP32", shape: list[int] | None = None, **more: Any) -> bytes:
    """A JSON infer request of one input."""
    tensor = {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()

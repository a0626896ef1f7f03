"""`shoal bench agent`: what an agent costs a node at rest, and how soon a node serves again without any network.

Real processes on this machine: an embedded broker, an agent that has joined, and for the second part a gateway and its
workers. `run` measures and ends all that it started; the CLI adds machine and commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

from ..descriptions.errors import RefusedError, TransportError
from ..descriptions.messages.codec import encode
from ..descriptions.messages.desired import (
    Artifact,
    Desired,
    DesiredSpec,
    InferenceTask,
    ReplicaSpec,
    digest_of,
)
from ..descriptions.messages.gateway import GatewayFile
from ..descriptions.messages.joining import BrokerAccess, JoinReply
from ..descriptions.signing import SigningKey, generate_key, key_ring, seal
from ..descriptions.topics import node_topic
from ..descriptions.yaml import dump_yaml
from ..telemetry.broker_process import EmbeddedBroker
from ..telemetry.credentials import BrokerCredentials
from .database import Database
from .disk import DATABASE_FILE
from .files import private_folder
from .identity import Identity, save_identity
from .local import LocalReply, LocalRequest, ask_agent
from .slots import Slots

SLICE, NODE = "bench", "bench-node"
IDLE_S = 60.0
SETTLE_S = 5.0
DEADLINE_S = 60.0
MODEL = Path(__file__).resolve().parents[1] / "examples" / "01-digits" / "digits.onnx"
NOWHERE = "mqtt://127.0.0.1:9"
"""The discard port: nobody answers there."""
LOAD = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


@dataclass(frozen=True)
class Figure:
    """One measured number and the bar that it must reach."""

    name: str
    value: float
    unit: str
    reach: dict[str, float] = field(default_factory=dict)


@dataclass
class Node:
    """A joined agent in a folder of its own."""

    folder: Path
    broker_url: str
    password: str = ""
    key: SigningKey = field(default_factory=generate_key)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def join(self) -> None:
        """What joining leaves on disk."""
        private_folder(self.state)
        access = BrokerAccess(self.broker_url, NODE, self.password)
        keys = (self.key.verify_key,)
        reply = JoinReply(NODE, NODE, SLICE, access, "http://127.0.0.1:9", "", keys, heartbeat_s=5.0, lease_s=30.0)
        save_identity(self.state, Identity(reply))

    def keep(self, *replicas: ReplicaSpec) -> None:
        """What an agent that has run this document for more than a minute has on disk."""
        topic = node_topic(SLICE, NODE, "down/desired")
        spec = DesiredSpec(replicas=replicas)
        document = Desired(NODE, SLICE, 1, 1, 1, digest_of(spec), spec)
        sealed = seal(self.key, encode(document), context=topic)
        Slots(self.state, key_ring([self.key.verify_key]), topic).save(sealed, "")
        with contextlib.closing(Database(self.state / DATABASE_FILE)) as database:
            database.save_good_digest(document.digest)

    def start(self) -> None:
        path = self.folder / "agent.yaml"
        runtime = str(self.folder / "run")
        path.write_text(dump_yaml({"stateDir": str(self.state), "runtimeDir": runtime, "gateway": {"port": 0}}))
        argv = [sys.executable, "-m", "shoal", "agent", "--config", str(path), "--stop-replicas"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def ask(self) -> LocalReply | None:
        with contextlib.suppress(RefusedError, TransportError):
            return ask_agent(self.folder / "run", LocalRequest("status"))
        return None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(DEADLINE_S)


def run(idle_s: float = IDLE_S) -> list[Figure]:
    """At rest for `idle_s`, then the offline start."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        return [*idle(Path(folder) / "idle", idle_s), *offline(Path(folder) / "offline")]


# --- at rest --------------------------------------------------------------------------------------------------------


def idle(folder: Path, idle_s: float) -> Iterator[Figure]:
    """Memory, CPU and fsyncs of an agent that is joined, connected and has nothing to do."""
    folder.mkdir(parents=True)
    with EmbeddedBroker(folder / "broker", BrokerCredentials.create(SLICE)) as broker:
        node = Node(folder, broker.url, broker.password(NODE))
        node.join()
        node.keep()
        node.start()
        try:
            _until(lambda: (reply := node.ask()) is not None and reply.connected, "the agent to connect")
            time.sleep(SETTLE_S)
            process = psutil.Process(node.pid)
            before = process.cpu_times()
            syncs = _count_syncs(node, idle_s)
            after = process.cpu_times()
            cpu_s = after.user + after.system - before.user - before.system
            yield Figure("agent at rest, PSS", round(_pss(node.pid), 1), "MB", {"<=": 45})
            yield Figure("agent at rest, private memory", round(_private(node.pid), 1), "MB")
            yield Figure("agent at rest, CPU", round(100 * cpu_s / idle_s, 3), "% of a core", {"<": 1})
            yield Figure("agent at rest, fsyncs", round(syncs * 60 / idle_s, 2), "1/min", {"<": 1})
        finally:
            node.stop()


def _count_syncs(node: Node, idle_s: float) -> int:
    """By strace where it may attach, else commits of the database, each of which is at least one."""
    strace, log = shutil.which("strace"), node.folder / "strace"
    tracer = None
    if strace is not None:
        calls = "trace=fsync,fdatasync,sync_file_range,msync"
        argv = [strace, "-f", "-qq", "-e", calls, "-o", str(log), "-p", str(node.pid)]
        tracer = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    start = _commits(node)
    time.sleep(idle_s)
    if tracer is None or tracer.poll() is not None:
        return _commits(node) - start
    tracer.terminate()
    tracer.wait(DEADLINE_S)
    return sum("sync(" in line for line in log.read_text(encoding="utf-8", errors="replace").splitlines())


def _commits(node: Node) -> int:
    reply = node.ask()
    assert reply is not None
    return reply.commits


# --- offline start --------------------------------------------------------------------------------------------------


def offline(folder: Path) -> Iterator[Figure]:
    """From starting the agent, with nobody to reach, to the first answer of the model that it served last."""
    folder.mkdir(parents=True)
    node = Node(folder, NOWHERE)
    node.join()
    data = MODEL.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    private_folder(node.state / "models")
    (node.state / "models" / sha256).write_bytes(data)
    task = InferenceTask("digits", "1", "onnx", Artifact("/v1/blobs/digits", sha256, len(data)))
    replicas = [ReplicaSpec(f"bench.model.{number}", "bench", "model", 1, task) for number in range(3)]
    node.keep(*replicas)
    load_s = _load_s()
    started_s = time.monotonic()
    node.start()
    try:
        gateway = _gateway(node)
        _until(lambda: _infer(gateway.http) == 200, "the model to answer")
        served_s = time.monotonic() - started_s
        _until(lambda: (reply := node.ask()) is not None and _ready(reply) == len(replicas), "all replicas")
        reply = node.ask()
        assert reply is not None
        workers = [one.pid for one in reply.report.replicas]
        yield Figure("offline start to the first answer", round(served_s, 2), "s", {"<=": round(2 + load_s, 2)})
        yield Figure("of that, a process that only loads the model", round(load_s, 2), "s")
        yield Figure("gateway, PSS", round(_pss(gateway.pid), 1), "MB", {"<=": 40})
        # Pages that workers share with their zygote are counted once, whatever the number of workers.
        yield Figure("each extra worker of a small ONNX model", round(max(map(_private, workers)), 1), "MB", {"<=": 10})
    finally:
        node.stop()


def _ready(reply: LocalReply) -> int:
    return sum(one.phase == "ready" for one in reply.report.replicas)


def _load_s() -> float:
    """Importing the runtime and opening the model, in a process of its own, as a node's first worker has to."""
    started_s = time.monotonic()
    env = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", LOAD, str(MODEL)], check=True, env=env)
    return time.monotonic() - started_s


def _gateway(node: Node) -> GatewayFile:
    path = node.folder / "run" / "gateway" / "gateway.json"
    _until(path.exists, "the gateway")
    return msgspec.json.decode(path.read_bytes(), type=GatewayFile)


def _infer(url: str) -> int:
    parts = urlsplit(url)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [tensor]}))
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


# --- measuring ------------------------------------------------------------------------------------------------------


def _until(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise TransportError(f"waited {DEADLINE_S:.0f} s for {what}")
        time.sleep(0.01)


def _pss(pid: int) -> float:
    return _rollup(pid)["Pss"] / 1e3


def _private(pid: int) -> float:
    found = _rollup(pid)
    return (found["Private_Clean"] + found["Private_Dirty"]) / 1e3


def _rollup(pid: int) -> dict[str, float]:
    """Kilobytes by the kernel's names."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.split(":")[0]: float(line.split()[1]) * 1.024 for line in lines}

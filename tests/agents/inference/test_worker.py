"""Zygote and worker without a gateway: the published protocol, spoken by the test over sockets that it hands out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shoal.agents.inference.frames import Frame, FrameType, pack_fields, unpack_fields
from shoal.agents.inference.gateway.zygote_link import ENVIRONMENT
from shoal.agents.inference.plugins import BUILT_IN
from shoal.agents.inference.spawning import Exited, Preloaded, Spawn, Spawned, decode_from_zygote, encode
from shoal.agents.inference.worker.channel import Channel

from .harness import is_alive, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]


@dataclass
class Worker:
    """A forked worker and the ends of its descriptors that a gateway holds."""

    channel: Channel
    sock: socket.socket
    lifeline: int
    pid: int
    pidfd: int

    def ask(
        self, frame_type: FrameType, body: bytes = b"", fields: dict[str, str] | None = None, id_: int = 7
    ) -> Frame:
        self.channel.send(frame_type, id_, pack_fields(fields or {}), [body])
        frame = self.channel.receive()
        assert frame is not None
        assert frame.id == id_
        return frame

    def load(self, path: Path, **changes: str) -> Frame:
        fields = {"model": "m", "version": "1", "plugin": "python", "path": str(path), "device": "cpu"}
        return self.ask(FrameType.LOAD, b"{}", fields | {"code-folders": str(path.parent)} | changes)


@dataclass
class Zygote:
    """A zygote process and our end of its control socket."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    log: Path
    workers: list[Worker] = field(default_factory=list)

    def receive(self) -> tuple[object, list[int]]:
        packet, fds, _, _ = socket.recv_fds(self.control, 65536, 1)
        return decode_from_zygote(packet), fds

    def spawn(self, incarnation: int = 1) -> Worker:
        ours, theirs = socket.socketpair()
        lifeline_r, lifeline_w = os.pipe2(os.O_CLOEXEC)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        spawn = Spawn(incarnation, "r", "python", env={"MOOD": "good"})
        socket.send_fds(self.control, [encode(spawn)], [theirs.fileno(), lifeline_r, log])
        for fd in (lifeline_r, log):
            os.close(fd)
        theirs.close()
        message, (pidfd,) = self.receive()
        assert isinstance(message, Spawned)
        assert message.incarnation == incarnation
        ours.settimeout(60)
        self.workers.append(Worker(Channel(ours), ours, lifeline_w, message.pid, pidfd))
        return self.workers[-1]


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    command = [sys.executable, "-m", "shoal.agents.inference.worker.zygote", "--runtime", "python"]
    with ours, theirs:
        flags = ["--class", BUILT_IN["python"], "--fd", str(theirs.fileno())]
        environment = os.environ | ENVIRONMENT
        process = subprocess.Popen([*command, *flags], pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        zygote = Zygote(process, ours, tmp_path / "worker.log")
        message, _ = zygote.receive()
        assert message == Preloaded(error="", threads=1)
        yield zygote
    assert process.wait(60) == 0, "it ends with its control socket"
    for worker in zygote.workers:
        worker.sock.close()
        os.close(worker.pidfd)
        os.close(worker.lifeline)
    wait_until(lambda: not any(is_alive(worker.pid) for worker in zygote.workers), "the workers to end")


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    path = tmp_path / "doubling.py"
    path.write_text(
        "import os\n"
        "class Doubling:\n"
        "    inputs = [('x', 'FP64', [-1])]\n"
        "    outputs = [('y', 'FP64', [-1])]\n"
        "    def predict(self, x):\n"
        "        assert os.environ['MOOD'] == 'good'\n"
        "        return x * 2\n"
        "    def close(self): print('closed')\n"
    )
    return path


def test_the_life_of_a_worker(zygote: Zygote, doubling: Path, ask: Ask) -> None:
    worker = zygote.spawn()
    ready = worker.load(doubling)
    assert (ready.type, unpack_fields(ready.fields)) == (FrameType.READY, {"device": "cpu", "reason": ""})
    metadata = json.loads(bytes(ready.body))
    assert metadata == {
        "name": "m",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
    }
    assert json.loads(bytes(worker.ask(FrameType.METADATA).body)) == metadata
    assert bytes(worker.ask(FrameType.PING, b"are you there?").body) == b"are you there?"
    for index in range(3):  # without waiting for answers, which come in order
        worker.channel.send(FrameType.INFER, 100 + index, b":operation: infer\n", [ask([index], datatype="FP64")])
    worker.channel.send(FrameType.INFER, 103, b"", [b"nonsense"])
    answers = [worker.channel.receive() for _ in range(4)]
    seen = [
        (answer.type, answer.id, unpack_fields(answer.fields)[":status"]) for answer in answers if answer is not None
    ]
    assert seen == [(FrameType.RESULT, 100 + index, "200" if index < 3 else "400") for index in range(4)]
    stats = json.loads(bytes(worker.ask(FrameType.STATS).body))
    assert (stats["requests"], stats["executions"], stats["elements"], stats["failures"]) == (4, 3, 3, 0)
    assert stats["compute_infer_ns"] > 0
    assert worker.ask(FrameType.DRAIN).type == FrameType.DRAIN
    assert worker.channel.receive() is None
    assert zygote.receive()[0] == Exited(1, "exited with code 0")
    assert zygote.log.read_text() == "closed\n"


def test_a_worker_ends_with_its_socket(zygote: Zygote, doubling: Path) -> None:
    worker = zygote.spawn()
    worker.load(doubling)
    worker.sock.close()
    assert zygote.receive()[0] == Exited(1, "exited with code 0")


def test_a_worker_is_killed_by_the_kernel_when_its_lifeline_closes(zygote: Zygote, tmp_path: Path) -> None:
    """In the midst of `load`, in a loop that never looks at anything."""
    path = tmp_path / "busy.py"
    path.write_text(
        "class Busy:\n"
        "    def load(self):\n"
        "        print('busy', flush=True)\n"
        "        while True: pass\n"
        "    def predict(self, x): ...\n"
    )
    worker = zygote.spawn()
    fields = {"model": "m", "version": "1", "plugin": "python", "path": str(path), "device": "cpu"}
    worker.channel.send(FrameType.LOAD, 1, pack_fields(fields | {"code-folders": str(tmp_path)}))
    wait_until(lambda: "busy" in zygote.log.read_text(), "the worker to be busy")
    lifeline, worker.lifeline = worker.lifeline, os.open(os.devnull, os.O_RDONLY)
    os.close(lifeline)
    assert zygote.receive()[0] == Exited(1, "killed by SIGKILL")


def test_a_model_that_can_not_be_loaded_is_an_error_frame(zygote: Zygote, doubling: Path, tmp_path: Path) -> None:
    cases = {
        "options": ({"device": "cpu"}, b'{"predictr": "A"}', "400", "did you mean 'predictor'?"),
        "elsewhere": ({"code-folders": "/nowhere"}, b"{}", "400", "is outside the folders"),
        "raises": ({"path": str(tmp_path / "raises.py")}, b"{}", "500", "ZeroDivisionError: division by zero"),
    }
    (tmp_path / "raises.py").write_text("1 / 0\n")
    for number, (changes, options, status, says) in enumerate(cases.values()):
        worker = zygote.spawn(number)
        fields = {"model": "m", "version": "1", "plugin": "python", "path": str(doubling), "device": "cpu"}
        error = worker.ask(FrameType.LOAD, options, fields | {"code-folders": str(tmp_path)} | changes)
        assert (error.type, unpack_fields(error.fields)) == (FrameType.ERROR, {":status": status})
        assert says in bytes(error.body).decode()
        assert zygote.receive()[0] == Exited(number, "exited with code 0")


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"nonsense" * 8, "ProtocolError: frame starts with"),
        (b"SHW1\x07\0" + bytes(26), "ProtocolError: the first frame has type 7, expected LOAD"),
    ],
)
def test_a_gateway_that_talks_nonsense_ends_the_worker(zygote: Zygote, sent: bytes, says: str) -> None:
    worker = zygote.spawn()
    worker.sock.sendall(sent)
    assert zygote.receive()[0] == Exited(1, "exited with code 1")
    assert says in zygote.log.read_text()


def test_workers_outlive_the_zygote(zygote: Zygote, doubling: Path, ask: Ask) -> None:
    worker = zygote.spawn()
    worker.load(doubling)
    zygote.control.close()
    zygote.process.wait(60)
    answer = worker.ask(FrameType.INFER, ask([21], datatype="FP64"))
    assert json.loads(bytes(answer.body))["outputs"][0]["data"] == [42]
    signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

"""Workers that die, hang, crash again and again, or lose their zygote: what clients see, and what is left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from shoal.descriptions.messages.gateway import ServingSpec

from .harness import (
    Answer,
    GatewayProcess,
    Launch,
    descendants,
    is_alive,
    send,
    wait_until,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]

CLIENTS = 8


@dataclass
class Load:
    """What clients that ask without pause have seen."""

    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in list(self.answers))


@contextmanager
def under_load(gateway: GatewayProcess, model: str, body: bytes, clients: int = CLIENTS) -> Iterator[Load]:
    """Ask from several connections until the block ends; every client stops after the answer to its last request."""
    load, stop = Load(), threading.Event()

    def client() -> None:
        connection = gateway.connect()
        try:
            while not stop.is_set():
                load.answers.append(send(connection, "POST", f"/v2/models/{model}/infer", body))
        except OSError as error:
            load.errors.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(load.answers) > 20 * clients, "the load to begin")
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def more_answers(load: Load, count: int) -> Callable[[], bool]:
    """True once `count` more requests have succeeded than now."""
    before = load.statuses[200]
    return lambda: load.statuses[200] >= before + count


def test_sigkill_under_load_fails_only_the_request_being_run(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    gateway = launch()
    pid = gateway.serve("r", double).pid
    with under_load(gateway, "scale", ask([1, 2, 3, 4], shape=[1, 4])) as load:
        for kills in (1, 2):
            os.kill(pid, signal.SIGKILL)
            wait_until(more_answers(load, 200), "answers after the kill")
            report = gateway.wait_for("r", "ready")
            assert report.restarts == kills
            assert report.pid != pid
            pid = report.pid
    assert load.errors == []
    assert set(load.statuses) <= {200, 503}
    assert load.statuses[503] <= 2, "each kill may fail the one request that the worker was at"
    for answer in load.answers:
        if answer.status == 503:
            assert answer.error == "the worker died at this request: killed by SIGKILL"
            assert answer.headers["retry-after"] == "1"


def test_a_second_replica_takes_over_at_once(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    gateway = launch()
    first = gateway.serve("a", double).pid
    gateway.serve("b", double)
    with under_load(gateway, "scale", ask([1, 2, 3, 4], shape=[1, 4])) as load:
        os.kill(first, signal.SIGSTOP)  # it holds requests and answers none
        wait_until(more_answers(load, 200), "answers of the other replica")
        os.kill(first, signal.SIGKILL)
        gateway.wait_for("a", "ready")
    assert load.errors == []
    assert load.statuses[503] <= 1
    served = [gateway.report(name).stats.requests for name in "ab"]
    assert all(count > 0 for count in served), served


@pytest.mark.parametrize(
    ("mood", "reason"),
    [(1, "killed by SIGKILL"), (2, "killed by SIGSEGV"), (3, "exited with code 7")],
    ids=["sigkill", "segfault", "exit"],
)
def test_a_death_in_predict_answers_its_client(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask, mood: int, reason: str
) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", moody)
    answer = gateway.infer("moody", ask([mood], datatype="FP64"))
    assert (answer.status, answer.error) == (503, f"the worker died at this request: {reason}")
    report = gateway.wait_for("m", "ready")
    assert (report.restarts, report.stats.failures) == (1, 1)
    assert gateway.infer("moody", ask([21], datatype="FP64")).json["outputs"][0]["data"] == [42]


def test_errors_of_a_model_do_not_end_its_worker(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors))
    pid = gateway.serve("m", moody).pid
    for mood, says in (
        (5, "python: predict raised ValueError: moody today"),
        (6, "python: predict raised SystemExit: good bye"),
        (7, "python: predict gave output 'y' as BYTES, its metadata say FP64"),
        (8, "python: predict gave NoneType for output 'y', expected an array"),
    ):
        answer = gateway.infer("moody", ask([mood], datatype="FP64"))
        assert (answer.status, answer.error) == (500, says)
    report = gateway.report("m")
    assert (report.pid, report.restarts, report.stats.failures) == (pid, 0, 4)
    log = (gateway.dir / "logs" / "m.log").read_text()
    assert "moody today" in log, "the traceback is for the operator"


def test_a_hanging_model_is_killed_and_started_again(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    """A loop in pure Python, which no signal handler of the interpreter would get out of."""
    gateway = launch("--predictors", str(predictors))
    pid = gateway.serve("m", msgspec.structs.replace(moody, request_timeout_s=1.5)).pid
    behind: list[Answer] = []
    connection = gateway.connect()
    follower = threading.Thread(
        target=lambda: behind.append(send(connection, "POST", "/v2/models/moody/infer", ask([21], datatype="FP64")))
    )
    leader = gateway.connect()
    leader.request("POST", "/v2/models/moody/infer", ask([4], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the hanging request to be handed over")
    follower.start()
    wait_until(lambda: gateway.report("m").stats.in_flight == 2, "the request behind it to be handed over")
    response = leader.getresponse()
    assert (response.status, response.read()) == (504, b'{"error":"the model gave no answer within 1.5 s"}')
    follower.join(60)
    connection.close()
    leader.close()
    assert [answer.status for answer in behind] == [200], "who waited behind it goes to the next worker"
    report = gateway.wait_for("m", "ready")
    assert report.restarts == 1
    assert not is_alive(pid)
    assert "hung: one request took more than 1.5 s" in (gateway.dir / "gateway.log").read_text()


def test_a_crash_loop_ends_broken_with_the_reason(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors), "--queue-s-max", "20")
    gateway.serve("m", moody)
    for _ in range(5):
        answer = gateway.infer("moody", ask([3], datatype="FP64"))
        assert answer.status == 503
    report = gateway.wait_for("m", "broken")
    assert report.reason == "5 deaths in 10 minutes; the last: exited with code 7"
    assert (report.pid, report.restarts) == (0, 4)
    answer = gateway.infer("moody", ask([3], datatype="FP64"))
    assert answer.status == 503
    assert "not ready: 5 deaths in 10 minutes" in answer.error
    assert gateway.request("GET", "/v2/health/ready").status == 503
    assert gateway.admin("PUT", "/admin/replicas/m", moody).status == 202, "said again it is tried again"
    gateway.wait_for("m", "ready")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": "/dev/null"}, "onnx can't load /dev/null: "),
        (
            {"options": {"intraOpThread": msgspec.Raw(b"2")}},
            "unknown key 'intraOpThread'; did you mean 'intraOpThreads'?",
        ),
        ({"device": "gpu"}, "onnx: device 'gpu' is unknown; known are cpu, cuda"),
        ({"plugin": "python"}, "is outside the folders that this node's operator allowed (none)"),
        ({"plugin": "litert"}, "litert can't load"),
    ],
    ids=["no model", "unknown option", "unknown device", "no allowed folder", "other format"],
)
def test_a_model_that_can_not_be_loaded_is_broken_with_the_reason(
    launch: Launch, double: ServingSpec, change: dict[str, object], reason: str
) -> None:
    gateway = launch()
    gateway.put("r", msgspec.structs.replace(double, **change))
    report = gateway.wait_for("r", "broken")
    assert reason in report.reason
    wait_until(lambda: gateway.children() == {*gateway.health().zygotes.values()}, "the worker to end")


def test_a_load_that_takes_too_long_is_broken(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nclass Slow:\n    def load(self): time.sleep(600)\n    def predict(self, x): return x\n"
    )
    gateway = launch("--predictors", str(tmp_path))
    spec = ServingSpec(model="slow", path=str(tmp_path / "slow.py"), plugin="python", load_timeout_s=0.5)
    gateway.put("r", spec)
    assert gateway.wait_for("r", "broken").reason == "the model took more than 0.5 s to load"
    wait_until(lambda: gateway.children() == {*gateway.health().zygotes.values()}, "the worker to be killed")


def test_a_runtime_that_can_not_be_imported_is_the_reason(
    launch: Launch, double: ServingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not for this machine')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gateway = launch()
    gateway.put("r", double)
    assert gateway.wait_for("r", "broken").reason == "plugin onnx: ImportError: not for this machine"
    assert gateway.health().zygotes == {}


def test_workers_live_on_when_their_zygote_dies(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    gateway = launch()
    pid = gateway.serve("r", double).pid
    zygote = gateway.health().zygotes["onnx"]
    with under_load(gateway, "scale", ask([1, 2, 3, 4], shape=[1, 4])) as load:
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: not gateway.health().zygotes, "the zygote to be missed")
        wait_until(more_answers(load, 100), "answers without a zygote")
    assert set(load.statuses) == {200}
    assert gateway.report("r").pid == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gateway.report("r").restarts == 1, "the restart")
    assert gateway.wait_for("r", "ready").pid != pid
    assert gateway.health().zygotes["onnx"] not in (0, zygote), "a new zygote was started for it"


def test_everything_ends_with_a_killed_gateway_even_a_worker_that_hangs(
    launch: Launch, predictors: Path, moody: ServingSpec, double: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("r", double)
    pid = gateway.serve("m", moody).pid
    connection = gateway.connect()
    connection.request("POST", "/v2/models/moody/infer", ask([4], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to hang")
    children = gateway.children()
    assert pid in children
    gateway.process.kill()
    gateway.process.wait()
    connection.close()
    wait_until(lambda: not any(is_alive(child) for child in children), "all processes to end")


def test_what_a_predictor_started_ends_with_it(launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    pid = gateway.serve("m", moody).pid
    assert gateway.infer("moody", ask([10], datatype="FP64")).json["outputs"][0]["data"] == [pid]
    (child,) = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the predictor's own child to end")


def test_a_worker_has_no_descriptor_but_its_own(launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask) -> None:
    """0–2, socket and lifeline; none of other workers, of the zygote's control socket, of clients. 5 is the listing."""
    gateway = launch("--predictors", str(predictors))
    for name in ("a", "b", "c"):
        gateway.serve(name, moody)
    for _ in range(6):
        fds = gateway.infer("moody", ask([12], datatype="FP64")).json["outputs"][0]["data"]
        assert len(fds) == 6, fds


def test_a_worker_that_closes_its_socket_is_replaced(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors))
    pid = gateway.serve("m", moody).pid
    sock = next(
        int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir() if str(path.readlink()).startswith("socket:")
    )
    answer = gateway.infer("moody", ask([13, sock], datatype="FP64"))
    assert answer.status == 503
    gateway.wait_for("m", "ready")
    assert not is_alive(pid)
    assert gateway.infer("moody", ask([21], datatype="FP64")).status == 200


def test_the_gateway_leaks_no_descriptor_and_no_process(launch: Launch, double: ServingSpec) -> None:
    gateway = launch()
    gateway.serve("keep", double)

    def fds() -> int:
        return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))

    before, children = fds(), gateway.children()
    for _ in range(20):
        gateway.serve("come-and-go", double)
        gateway.admin("DELETE", "/admin/replicas/come-and-go?drain_s=0")
        wait_until(lambda: gateway.admin("GET", "/admin/replicas/come-and-go").status == 404, "it to be gone")
    wait_until(lambda: fds() <= before, f"no more than {before} descriptors")
    assert gateway.children() == children
    assert gateway.report("keep").phase == "ready"


def test_a_worker_is_confined(launch: Launch, double: ServingSpec) -> None:
    gateway = launch()
    pid = gateway.serve("r", msgspec.structs.replace(double, memory_limit_mib=512, env={"FROM_SPEC": "yes"})).pid
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    limits = {line[:26].strip(): line[26:].split() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max core file size"][:2] == ["0", "0"]
    assert limits["Max open files"][:2] == ["512", "512"]
    assert int(limits["Max address space"][0]) > 512 * 1024 * 1024
    adjustment = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    assert adjustment > int(Path(f"/proc/{gateway.process.pid}/oom_score_adj").read_text())
    assert Path(f"/proc/{pid}/comm").read_text() == "shoal-r\n"
    zygote = Path(f"/proc/{gateway.health().zygotes['onnx']}")
    assert b"SHOAL_SECRET_OF_THE_TEST" not in (zygote / "environ").read_bytes()
    assert len(list((zygote / "task").iterdir())) == 1, "forking is safe with one thread only"


def test_memory_over_the_limit_is_an_error_of_the_request(launch: Launch, tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "hungry.py").write_text(
        "import numpy as np\nclass Hungry:\n    def predict(self, x): return np.ones(int(x[0]) * 131072)[:1]\n"
    )
    gateway = launch("--predictors", str(tmp_path))
    spec = ServingSpec(model="hungry", path=str(tmp_path / "hungry.py"), plugin="python", memory_limit_mib=256)
    gateway.serve("r", spec)
    assert gateway.infer("hungry", ask([16], datatype="FP64")).status == 200
    answer = gateway.infer("hungry", ask([512], datatype="FP64"))
    assert answer.status == 500
    assert "MemoryError" in answer.error
    assert gateway.report("r").restarts == 0

"""Hot swap: a replica gets another version under load and no request fails."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from shoal.descriptions.messages.gateway import ServingSpec

from .harness import Answer, GatewayProcess, Launch, is_alive, send, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]


def _has(answers: list[Answer], count: int) -> bool:
    return len(answers) > count


def outputs(answer: Answer) -> list[float]:
    data = answer.json["outputs"][0]["data"]
    assert isinstance(data, list)
    return data


def test_swaps_under_load_fail_no_request(launch: Launch, double: ServingSpec, triple: ServingSpec, ask: Ask) -> None:
    gateway = launch()
    gateway.serve("r", double)
    answers: list[Answer] = []
    stop = threading.Event()

    def client() -> None:
        connection = gateway.connect()
        while not stop.is_set():
            answers.append(send(connection, "POST", "/v2/models/scale/infer", ask([1, 1, 1, 1], shape=[1, 4])))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    for swap in range(10):
        before = len(answers)
        spec = double if swap % 2 else triple
        gateway.put("r", spec)
        gateway.wait_for("r", "ready", spec.version)
        wait_until(partial(_has, answers, before + 50), "answers after the swap")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert {answer.status for answer in answers} == {200}
    assert {(answer.json["model_version"], outputs(answer)[0]) for answer in answers} == {("1", 2.0), ("2", 3.0)}
    wait_until(lambda: len(gateway.children()) == 2, "the replaced workers to end; the zygote and one worker stay")


def test_requests_in_the_old_worker_are_finished_by_it(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    """Also those that wait for it, where they asked for its version."""
    gateway = launch("--predictors", str(predictors))
    old = gateway.serve("m", msgspec.structs.replace(moody, in_flight_max=1)).pid
    seen: dict[str, Answer] = {}

    def client(name: str, path: str, *data: float) -> threading.Thread:
        def run() -> None:
            connection = gateway.connect()
            seen[name] = send(connection, "POST", path, ask(list(data), datatype="FP64"))
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [client("running", "/v2/models/moody/infer", 9, 1.0)]
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the old worker to be busy")
    threads.append(client("asked for 1", "/v2/models/moody/versions/1/infer", 11))
    threads.append(client("asked for any", "/v2/models/moody/infer", 11))
    wait_until(lambda: gateway.report("m").stats.queue == 2, "both to wait")
    gateway.put("m", msgspec.structs.replace(moody, version="2"))
    new = gateway.wait_for("m", "ready", "2").pid
    for thread in threads:
        thread.join(60)
    assert {name: answer.status for name, answer in seen.items()} == dict.fromkeys(seen, 200)
    assert outputs(seen["asked for any"]) == [new]
    assert outputs(seen["asked for 1"]) == [old]
    wait_until(lambda: not is_alive(old), "the old worker to end")
    answer = gateway.request("POST", "/v2/models/moody/versions/1/infer", ask([1], datatype="FP64"))
    assert answer.status == 404


def test_a_swap_to_something_broken_leaves_the_old_version_serving(
    launch: Launch, double: ServingSpec, triple: ServingSpec, ask: Ask, tmp_path: Path
) -> None:
    gateway = launch()
    pid = gateway.serve("r", double).pid
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    gateway.put("r", msgspec.structs.replace(triple, path=str(tmp_path / "bad.onnx")))
    wait_until(lambda: "broken" in str(gateway.report("r").update), "the update to fail")
    report = gateway.report("r")
    assert report.update is not None
    assert (report.phase, report.version, report.digest, report.pid) == ("ready", "1", "two", pid)
    assert (report.update.version, report.update.digest) == ("2", "three")
    assert "bad.onnx" in report.update.reason
    assert outputs(gateway.infer("scale", ask([1, 1, 1, 1], shape=[1, 4]))) == [2, 2, 2, 2]
    assert gateway.request("GET", "/v2/models/scale").json["versions"] == ["1"]
    gateway.put("r", triple)
    report = gateway.wait_for("r", "ready", "2")
    assert report.update is None
    assert outputs(gateway.infer("scale", ask([1, 1, 1, 1], shape=[1, 4]))) == [3, 3, 3, 3]


def test_two_versions_side_by_side(launch: Launch, double: ServingSpec, triple: ServingSpec, ask: Ask) -> None:
    gateway = launch()
    gateway.serve("a", double)
    gateway.serve("b", triple)
    body = ask([1, 1, 1, 1], shape=[1, 4])
    assert gateway.request("GET", "/v2/models/scale").json["versions"] == ["1", "2"]
    assert outputs(gateway.infer("scale", body)) == [3, 3, 3, 3], "the newest, where the client names none"
    for version, factor in (("1", 2), ("2", 3)):
        answer = gateway.request("POST", f"/v2/models/scale/versions/{version}/infer", body)
        assert (answer.json["model_version"], outputs(answer)) == (version, [factor] * 4)
        assert gateway.request("GET", f"/v2/models/scale/versions/{version}/ready").status == 200
    os.kill(gateway.report("b").pid, signal.SIGKILL)
    gateway.admin("DELETE", "/admin/replicas/b")
    wait_until(lambda: outputs(gateway.infer("scale", body)) == [2, 2, 2, 2], "the other version to be the newest")


def test_delete_finishes_what_is_in_flight(launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", moody)
    connection = gateway.connect()
    connection.request("POST", "/v2/models/moody/infer", ask([9, 0.7], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to be busy")
    answer = gateway.admin("DELETE", "/admin/replicas/m?drain_s=10")
    assert (answer.status, answer.json["phase"]) == (202, "stopped")
    assert gateway.infer("moody", ask([1], datatype="FP64")).status in (404, 503), "no new requests"
    assert connection.getresponse().status == 200
    connection.close()
    wait_until(lambda: gateway.admin("GET", "/admin/replicas/m").status == 404, "it to be gone")


def test_delete_does_not_wait_for_ever(launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    pid = gateway.serve("m", moody).pid
    connection = gateway.connect()
    connection.request("POST", "/v2/models/moody/infer", ask([4], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to hang")
    gateway.admin("DELETE", "/admin/replicas/m?drain_s=0.2")
    response = connection.getresponse()
    assert (response.status, response.read()) == (503, b'{"error":"the worker was ended at this request"}')
    connection.close()
    wait_until(lambda: not is_alive(pid), "the worker to end")


def test_a_replica_may_come_back_while_the_old_one_drains(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors))
    old = gateway.serve("m", moody).pid
    connection = gateway.connect()
    connection.request("POST", "/v2/models/moody/infer", ask([9, 0.7], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to be busy")
    gateway.admin("DELETE", "/admin/replicas/m?drain_s=10")
    new = gateway.serve("m", moody).pid
    assert new != old
    assert connection.getresponse().status == 200
    connection.close()
    wait_until(lambda: not is_alive(old), "the old worker to end")
    assert outputs(gateway.infer("moody", ask([11], datatype="FP64"))) == [new]


def test_shutdown_drains(launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", moody)
    children = gateway.children()
    connection = gateway.connect()
    connection.request("POST", "/v2/models/moody/infer", ask([9, 0.5], datatype="FP64"))
    wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to be busy")
    assert gateway.admin("POST", "/admin/shutdown?drain_s=10").status == 202
    assert connection.getresponse().status == 200
    connection.close()
    assert gateway.process.wait(60) == 0
    assert not (gateway.dir / "gateway.json").exists()
    assert not any(is_alive(pid) for pid in children)


def test_sigterm_is_a_shutdown(launch: Launch, double: ServingSpec) -> None:
    gateway: GatewayProcess = launch()
    gateway.serve("r", double)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(60) == 0
    assert sorted(path.name for path in gateway.dir.iterdir()) == ["gateway.lock", "gateway.log", "logs"]

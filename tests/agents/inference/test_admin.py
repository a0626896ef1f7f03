"""The admin socket: who may use it, what it refuses, and how an agent finds a running gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from shoal.agents.inference.gateway.place import Place, start_time
from shoal.descriptions.errors import RefusedError
from shoal.descriptions.messages.gateway import ServingReports, ServingSpec

from .harness import GatewayProcess, Launch, UnixConnection, send, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def run_gateway(*flags: str) -> subprocess.CompletedProcess[str]:
    """A gateway that is expected not to start."""
    command = [sys.executable, "-m", "shoal.agents.inference.gateway", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_agent_can_tell_that_the_gateway_of_the_file_is_running(launch: Launch) -> None:
    gateway = launch()
    found = gateway.file
    assert found.pid == gateway.process.pid
    os.close(os.pidfd_open(found.pid))
    assert start_time(found.pid) == found.start_time
    assert os.getsid(found.pid) == found.pid, "the gateway outlives who started it"
    health = gateway.health()
    assert (health.pid, health.http, health.replicas, health.zygotes) == (found.pid, found.http, 0, {})
    for path in (Path(found.admin), Path(found.inference), gateway.dir / "gateway.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_only_one_gateway_runs_in_a_folder(launch: Launch) -> None:
    gateway = launch()
    command = [
        sys.executable,
        "-m",
        "shoal.agents.inference.gateway",
        "--dir",
        str(gateway.dir),
        "--http",
        "127.0.0.1:0",
    ]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert second.stderr == f"shoal-gateway: another gateway holds {gateway.dir}\n"
    assert gateway.health().pid == gateway.process.pid, "the first one's sockets are left alone"


def test_a_gateway_follows_one_that_was_killed(launch: Launch, double: ServingSpec) -> None:
    first = launch()
    first.serve("r", double)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert (first.dir / "gateway.json").exists()
    with pytest.raises(OSError, match="No such"):
        start_time(first.file.pid)
    second = launch(dir=first.dir)
    assert second.file.pid != first.file.pid
    assert second.health().replicas == 0, "it begins empty; the agent says again what to serve"


def test_a_port_in_use_is_an_error(launch: Launch, tmp_path: Path) -> None:
    gateway = launch()
    second = run_gateway("--dir", str(tmp_path), "--http", gateway.file.http.removeprefix("http://"))
    assert second.returncode == 1
    assert "can't listen on 127.0.0.1" in second.stderr
    assert not (tmp_path / "gateway.json").exists()


def test_an_unknown_plugin_is_an_error(tmp_path: Path) -> None:
    run = run_gateway("--dir", str(tmp_path), "--plugin", "onnx", "--plugin", "tensorrt")
    assert run.returncode == 1
    assert run.stderr.startswith("shoal-gateway: tensorrt: no inference plugin has this name; installed are ")


def test_only_enabled_plugins_serve(launch: Launch, double: ServingSpec) -> None:
    gateway = launch("--plugin", "litert")
    answer = gateway.admin("PUT", "/admin/replicas/r", double)
    assert (answer.status, answer.error) == (400, "plugin 'onnx' is not enabled here; enabled are litert")


def test_paths_too_long_for_a_socket_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="too long for a Unix socket"):
        Place(tmp_path / ("x" * 100)).take()


def test_other_users_are_turned_away(launch: Launch) -> None:
    """By the socket's mode, and by SO_PEERCRED where the mode was loosened."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp())  # not below pytest's, which others may not even enter
    folder.chmod(0o711)
    gateway = launch(dir=folder)
    script = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
    script += "s.sendall(b'GET /admin/health HTTP/1.1\\r\\n\\r\\n'); print(s.recv(100))"
    command = [sys.executable, "-c", script, gateway.file.admin]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "PermissionError" in refused.stderr
    Path(gateway.file.admin).chmod(0o666)
    turned_away = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (
        turned_away.stdout == "b''\n"
        or "ConnectionResetError" in turned_away.stderr
        or "BrokenPipe" in turned_away.stderr
    )
    assert gateway.health().pid == gateway.process.pid
    gateway.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def gateway(shared: GatewayProcess) -> GatewayProcess:
    return shared


SPEC = {"model": "m", "path": "/dev/null", "plugin": "onnx"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": ""}, "model ''"),
        ({"model": "a\nb"}, "expected short printable names"),
        ({"model": "x" * 254}, "expected short printable names"),
        ({"version": "1/2"}, "version '1/2' is empty or holds a slash"),
        ({"plugin": "tensorflow"}, "plugin 'tensorflow' is not enabled here; enabled are litert, onnx, python"),
        ({"path": "model.onnx"}, "is not an absolute path of something that is there"),
        ({"path": "/nowhere/model.onnx"}, "is not an absolute path of something that is there"),
        ({"memoryLimitMib": 0}, "memoryLimitMib is 0, expected at least 1"),
        ({"memoryLimitMib": "1Gi"}, "Expected `int | null`, got `str` - at `$.memoryLimitMib`"),
        ({"requestTimeoutS": 0}, "requestTimeoutS is 0"),
        ({"inFlightMax": 0}, "inFlightMax must be 1 to 1024"),
        ({"env": {"A=B": "c"}}, "env has a name or value that no environment can hold"),
        ({"options": [1]}, "Expected `object`, got `array` - at `$.options`"),
    ],
)
def test_wrong_specs_are_refused(gateway: GatewayProcess, change: dict[str, object], says: str) -> None:
    answer = gateway.admin("PUT", "/admin/replicas/r", SPEC | change)
    assert answer.status == 400
    assert says in answer.error
    assert gateway.health().replicas == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/", 404, "nothing is at /"),
        ("GET", "/v2", 404, "nothing is at /v2"),
        ("PUT", "/admin/replicas", 405, "takes GET"),
        ("POST", "/admin/replicas/r", 405, "takes GET, PUT, DELETE"),
        ("GET", "/admin/replicas/nobody", 404, "no replica 'nobody'"),
        ("DELETE", "/admin/replicas/nobody", 404, "no replica 'nobody'"),
        ("PUT", "/admin/replicas/..%2Fescape", 400, "doesn't match"),
        ("PUT", "/admin/replicas/" + "x" * 300, 400, "doesn't match"),
        ("PUT", "/admin/replicas/r", 400, "ServingSpec: Input data was truncated"),
        ("POST", "/admin/shutdown?drain_s=nan", 400, "drain_s is 'nan', expected a number of at least 0"),
        ("POST", "/admin/shutdown?drain_s=-1", 400, "drain_s is '-1'"),
        ("GET", "/admin/routes/m", 404, "no route to model 'm'"),
        ("PUT", "/admin/routes/m", 400, "Routes: Input data was truncated"),
    ],
)
def test_wrong_requests_are_refused(gateway: GatewayProcess, method: str, path: str, status: int, says: str) -> None:
    answer = gateway.admin(method, path)
    assert answer.status == status
    assert says in answer.error


def test_put_is_idempotent_and_says_so(gateway: GatewayProcess, double: ServingSpec) -> None:
    assert gateway.admin("PUT", "/admin/replicas/r", double).status == 202
    assert gateway.admin("PUT", "/admin/replicas/r", double).status == 200, "also while it loads"
    pid = gateway.wait_for("r", "ready").pid
    assert gateway.admin("PUT", "/admin/replicas/r", double).status == 200
    assert gateway.report("r").pid == pid
    listed = msgspec.json.decode(gateway.admin("GET", "/admin/replicas").body, type=ServingReports)
    assert [report.id for report in listed.replicas] == ["r"]
    gateway.admin("DELETE", "/admin/replicas/r")
    wait_until(lambda: gateway.health().replicas == 0, "it to be gone")


def test_unknown_keys_are_ignored_as_everywhere_on_the_wire(gateway: GatewayProcess, double: ServingSpec) -> None:
    spec = json.loads(msgspec.json.encode(double)) | {"fromTheFuture": True}
    assert gateway.admin("PUT", "/admin/replicas/r", spec).status == 202
    gateway.wait_for("r", "ready")
    gateway.admin("DELETE", "/admin/replicas/r?drain_s=0")
    wait_until(lambda: gateway.health().replicas == 0, "it to be gone")


def test_stats_and_metrics_count(launch: Launch, double: ServingSpec) -> None:
    gateway = launch()
    gateway.serve("r", double)
    good = b'{"inputs":[{"name":"x","shape":[3,4],"datatype":"FP32","data":[1,2,3,4,5,6,7,8,9,10,11,12]}]}'
    for _ in range(5):
        assert gateway.infer("scale", good).status == 200
    assert gateway.infer("scale", b"{}").status == 400
    stats = gateway.report("r").stats
    assert (stats.requests, stats.failures, stats.rejected, stats.in_flight, stats.queue) == (6, 0, 1, 0, 0)
    assert sum(bucket.count for bucket in stats.latency_ms) == 6
    assert 0 < stats.latency_ms_p50 <= stats.latency_ms_p95 <= stats.latency_ms_p99
    assert stats.requests_per_s > 0
    answer = gateway.request("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.body.decode().splitlines()
    label = '{model="scale",version="1"}'
    for line in (
        f"nv_inference_request_success{label} 5",
        f"nv_inference_count{label} 15",
        f"nv_inference_exec_count{label} 5",
        'nv_inference_request_failure{model="scale",version="1",reason="REJECTED"} 1',
        f"nv_inference_pending_request_count{label} 0",
        f"shoal_inference_request_duration_seconds_count{label} 5",
        'shoal_inference_request_duration_seconds_bucket{model="scale",version="1",le="+Inf"} 5',
        'shoal_replica_phase{replica="r",phase="ready"} 1',
    ):
        assert line in lines
    os.kill(gateway.report("r").pid, signal.SIGKILL)
    wait_until(lambda: gateway.report("r").restarts == 1, "the restart")
    lines = gateway.request("GET", "/metrics").body.decode().splitlines()
    assert f"nv_inference_count{label} 15" in lines, "counters outlive the worker"
    assert 'shoal_worker_restarts_total{replica="r"} 1' in lines


def test_the_page_is_what_prometheus_reads(launch: Launch, double: ServingSpec) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    gateway = launch()
    gateway.serve("r", msgspec.structs.replace(double, model='odd "name"\\'))
    families = {
        family.name: family
        for family in text_string_to_metric_families(gateway.request("GET", "/metrics").body.decode())
    }
    assert families["nv_inference_count"].samples[0].labels == {"model": 'odd "name"\\', "version": "1"}
    assert families["shoal_inference_request_duration_seconds"].type == "histogram"


def test_health_before_and_while_loading(launch: Launch, predictors: Path, tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(
        "import os, time\nclass Gated:\n"
        "    def load(self):\n"
        f"        while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "    def predict(self, x): return x\n"
    )
    gateway = launch("--predictors", str(tmp_path))
    assert gateway.request("GET", "/v2/health/ready").json == {"live": True, "ready": True}
    gateway.put("r", ServingSpec(model="gated", path=str(tmp_path / "gated.py"), plugin="python"))
    assert gateway.report("r").phase == "loading"
    for path in ("/v2/health/ready", "/v2/models/gated/ready", "/v2/models/gated"):
        assert gateway.request("GET", path).status == 503
    answer = gateway.infer("gated", b"{}")
    assert (answer.status, answer.error) == (503, "model 'gated' is not ready: it is loading")
    (tmp_path / "go").touch()
    gateway.wait_for("r", "ready")
    assert gateway.request("GET", "/v2/models/gated/ready").json == {"name": "gated", "ready": True}
    assert gateway.request("GET", "/v2/models").json == {"models": ["gated"]}


class TestTokens:
    """Bearer tokens on the TCP listener."""

    def test_requests_need_one_and_health_does_not(self, launch: Launch, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("# of the demo\nopen-sesame\n\nsecond\n")
        tokens.chmod(0o600)
        gateway = launch("--token-file", str(tokens))
        for token, status in (
            (None, 401),
            ("wrong", 401),
            ("open-sesame", 200),
            ("second", 200),
            ("# of the demo", 401),
        ):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = gateway.request("GET", "/v2/models", headers=headers)
            assert answer.status == status, token
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.error == "this gateway needs a bearer token"
        assert gateway.request("GET", "/v2/models", headers={"Authorization": "Basic open-sesame"}).status == 401
        assert gateway.request("GET", "/metrics").status == 401
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert gateway.request("GET", path).status == 200
        with closing(UnixConnection(gateway.file.inference)) as connection:
            assert send(connection, "GET", "/v2/models").status == 200, "the socket's mode is its guard"

    def test_a_body_is_not_read_before_the_token_is(self, launch: Launch, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("open-sesame\n")
        tokens.chmod(0o600)
        gateway = launch("--token-file", str(tokens))
        with socket.create_connection(gateway.address, timeout=60) as client:
            client.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 401 ")

    def test_a_changed_file_is_read_again(self, launch: Launch, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("old\n")
        tokens.chmod(0o600)
        gateway = launch("--token-file", str(tokens))

        def status(token: str) -> int:
            return gateway.request("GET", "/v2", headers={"Authorization": f"Bearer {token}"}).status

        assert (status("old"), status("new")) == (200, 401)
        tokens.write_text("new\n")
        wait_until(lambda: status("new") == 200, "the new token to count")
        assert status("old") == 401

    @pytest.mark.parametrize(
        ("contents", "mode", "says"),
        [
            ("t\n", 0o644, "its mode must be 0600"),
            ("# none\n", 0o600, "holds no token"),
            ("x" * 70000, 0o600, "has 70000 bytes"),
        ],
    )
    def test_unsafe_files_are_refused(self, tmp_path: Path, contents: str, mode: int, says: str) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text(contents)
        tokens.chmod(mode)
        command = [
            sys.executable,
            "-m",
            "shoal.agents.inference.gateway",
            "--dir",
            str(tmp_path),
            "--token-file",
            str(tokens),
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 1
        assert says in run.stderr

    def test_addresses_beyond_loopback_need_tokens_or_a_word(self, tmp_path: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "shoal.agents.inference.gateway",
            "--dir",
            str(tmp_path),
            "--http",
            "0.0.0.0:0",
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 1
        assert "0.0.0.0 can be reached from other machines: give --token-file, or --insecure" in run.stderr

"""The gateway as a process: what it loads, how much memory it and its workers take, and what it does without uvloop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.agents.inference.gateway.memory import pss_mib
from shoal.agents.inference.gateway.patrol import trim_log
from shoal.descriptions.messages.gateway import ServingSpec

from .harness import Launch, is_alive, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]

HEAVY = ("numpy", "onnxruntime", "ai_edge_litert", "grpc", "pydantic", "aiohttp", "cryptography", "psutil", "yaml")


def test_the_gateway_loads_no_inference_library(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    """Shared objects show what compiled packages a process has imported."""
    gateway = launch()
    pid = gateway.serve("r", double).pid
    assert gateway.infer("scale", ask([1, 2, 3, 4], shape=[1, 4])).status == 200
    maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    assert [name for name in HEAVY if f"/{name}/" in maps or f"/{name}." in maps] == []
    assert "/numpy/" in Path(f"/proc/{pid}/maps").read_text(), "the same look finds it in a worker"


def test_memory_of_gateway_and_workers(launch: Launch, double: ServingSpec, ask: Ask) -> None:
    """Issue 2: gateway at most 40 MiB, each extra worker of a small ONNX model at most 10 MiB, all as PSS."""
    gateway = launch()
    for count in range(1, 4):
        pid = gateway.serve(f"r{count}", double).pid
        for _ in range(50):
            assert gateway.infer("scale", ask([1, 2, 3, 4], shape=[1, 4])).status == 200
        if count > 1:
            own_kib = memory_kib(pid, "Private_Clean") + memory_kib(pid, "Private_Dirty")
            assert own_kib / 1024 <= 10, "what a further worker adds: its shared pages are counted already"
    assert pss_mib(gateway.process.pid) <= 40
    assert gateway.report("r1").pss_mib > 0


def test_memory_comes_back_when_models_go(launch: Launch, double: ServingSpec) -> None:
    gateway = launch()
    gateway.serve("keep", double)

    def total() -> int:
        """Memory that is no file's; unlike PSS it doesn't change when an unrelated process ends."""
        return sum(memory_kib(pid, "Anonymous") for pid in (gateway.process.pid, *gateway.children()))

    for _ in range(3):  # warms what is made once
        cycle(gateway.serve, gateway.admin, double)
    before = total()
    for _ in range(15):
        cycle(gateway.serve, gateway.admin, double)
    assert total() - before < 1024


def memory_kib(pid: int, kind: str) -> int:
    """A line of smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def cycle(serve: Callable[..., object], admin: Callable[..., object], spec: ServingSpec) -> None:
    """Load and unload."""
    serve("come-and-go", spec)
    admin("DELETE", "/admin/replicas/come-and-go?drain_s=0")
    wait_until(lambda: getattr(admin("GET", "/admin/replicas/come-and-go"), "status", 0) == 404, "it to be gone")


def test_without_uvloop(
    launch: Launch, double: ServingSpec, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('not for this machine')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gateway = launch()
    pid = gateway.serve("r", double).pid
    for _ in range(10):
        assert gateway.infer("scale", ask([1, 2, 3, 4], shape=[1, 4])).status == 200
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gateway.report("r").restarts == 1, "the restart")
    gateway.wait_for("r", "ready")
    assert gateway.infer("scale", ask([1, 2, 3, 4], shape=[1, 4])).status == 200
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(60) == 0
    assert "Traceback" not in (gateway.dir / "gateway.log").read_text()


@pytest.mark.slow
def test_an_idle_worker_without_a_sign_of_life_is_replaced(launch: Launch, double: ServingSpec) -> None:
    gateway = launch()
    pid = gateway.serve("r", double).pid
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: gateway.report("r").restarts == 1, "the stopped worker to be missed", 60)
    assert not is_alive(pid)
    assert "hung: no PONG within 10 s" in (gateway.dir / "gateway.log").read_text()


def test_logs_of_workers_are_bounded_and_go_with_the_replica(
    launch: Launch, predictors: Path, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", moody)
    log = gateway.dir / "logs" / "m.log"
    gateway.infer("moody", ask([5], datatype="FP64"))
    size = log.stat().st_size
    trim_log(log, size)
    assert log.stat().st_size == size
    trim_log(log, size - 1)
    assert log.stat().st_size == 0
    assert "moody today" in log.with_name("m.log.1").read_text()
    gateway.infer("moody", ask([5], datatype="FP64"))
    assert log.stat().st_size == size, "the worker goes on at the start of the file"
    gateway.admin("DELETE", "/admin/replicas/m")
    wait_until(lambda: list(log.parent.iterdir()) == [], "the logs to go")

"""Host, process and model metrics against this machine: they exist, have sane values and follow what happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.descriptions.messages.gateway import LatencyBucket, ServingReport, ServingReports, ServingStats
from shoal.telemetry.host import observe_host
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample
from shoal.telemetry.processes import CPU, CPU_TIME, FILES, MEMORY, PSS, THREADS, ProcessMetrics, Watched
from shoal.telemetry.reader import RateReader
from shoal.telemetry.serving import ServingMetrics, replica_attributes
from shoal.telemetry.windows import value_range

BUSY = """
import sys, threading
threading.Thread(target=sys.stdin.read).start()
while threading.active_count() > 1:
    pass
"""
"""Busy until its standard input ends."""


def always(_name: str) -> bool:
    return True


def collect_host(tmp_path: Path) -> list[Sample]:
    reader = RateReader()
    observe_host(reader, tmp_path)
    deadline_s = time.monotonic() + 10.0
    while True:
        samples = [sample for sample in reader.collect_due(time.monotonic()).low if isinstance(sample, Sample)]
        # Utilisation needs a tick of the kernel's clock between two looks.
        if any(s.series.name == "system.cpu.utilization" for s in samples) or time.monotonic() > deadline_s:
            return samples


def test_the_host_is_described_with_sane_values(tmp_path: Path) -> None:
    reader = RateReader()
    observe_host(reader, tmp_path)
    samples = [sample for sample in reader.collect_due(0.0).low if isinstance(sample, Sample)]
    names = {sample.series.name for sample in samples}
    assert names >= {
        "system.memory.usage",
        "system.memory.limit",
        "system.memory.utilization",
        "system.filesystem.utilization",
        "system.cpu.load_average.1m",
        "system.uptime",
    }
    for sample in samples:
        low, high = value_range(sample.series)
        assert low <= sample.value <= high, sample
    by_name = {sample.series.name: sample.value for sample in samples}
    assert 0 < by_name["system.memory.usage"] < by_name["system.memory.limit"]
    assert len({sample.series for sample in samples}) == len(samples)


def test_cpu_utilisation_is_told_once_the_clock_has_ticked(tmp_path: Path) -> None:
    assert any(sample.series.name == "system.cpu.utilization" for sample in collect_host(tmp_path))


def by_name(samples: list[AnySample]) -> dict[str, Sample]:
    return {sample.series.name: sample for sample in samples if isinstance(sample, Sample)}


def test_a_process_is_measured_while_it_lives() -> None:
    attributes = replica_attributes("app.filter.0")
    child = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE)
    try:
        metrics = ProcessMetrics()
        metrics.watch([Watched(child.pid, attributes)])
        first = by_name(list(metrics.produce(time.monotonic(), always)))
        assert set(first) >= {MEMORY, THREADS, FILES, CPU_TIME}
        assert CPU not in first
        assert first[MEMORY].series.component == "app.filter"
        assert first[MEMORY].value > 0
        deadline_s = time.monotonic() + 20.0
        used = 0.0
        while used <= 0.0 and time.monotonic() < deadline_s:
            used = by_name(list(metrics.produce(time.monotonic(), always)))[CPU].value
        assert 0.0 < used <= 1.0
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(20.0)
    assert list(metrics.produce(time.monotonic(), always)) == []


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells the proportional set size")
def test_proportional_memory_is_at_most_the_resident_one() -> None:
    metrics = ProcessMetrics()
    metrics.watch([Watched(os.getpid(), {})])
    found = by_name(list(metrics.produce(0.0, always)))
    assert 1e6 < found[PSS].value <= found[MEMORY].value * 1.2


def test_unknown_pids_and_processes_no_longer_watched_give_nothing() -> None:
    metrics = ProcessMetrics()
    metrics.watch([Watched(2**22 + 1, {}), Watched(os.getpid(), {"a": "b"})])
    assert {dict(sample.series.attributes).get("a") for sample in metrics.produce(0.0, always)} == {"b"}
    metrics.watch([])
    assert list(metrics.produce(1.0, always)) == []


def test_nothing_is_measured_when_nothing_is_due() -> None:
    metrics = ProcessMetrics()
    metrics.watch([Watched(os.getpid(), {})])
    assert list(metrics.produce(0.0, lambda name: False)) == []
    assert {sample.series.name for sample in metrics.produce(0.0, lambda name: name == THREADS)} == {THREADS}


def report(replica: str = "app.digits.0", stats: ServingStats | None = None) -> ServingReport:
    return ServingReport(
        id=replica,
        model="digits",
        version="1",
        digest="",
        plugin="onnx",
        device="cpu",
        phase="ready",
        reason="",
        since="",
        pid=1,
        pss_mib=10.0,
        restarts=2,
        stats=stats or ServingStats(),
    )


def test_the_gateways_numbers_become_samples_of_the_replica() -> None:
    metrics = ServingMetrics()
    buckets = (LatencyBucket(0.05 * 1.25**3, 4), LatencyBucket(0.05 * 1.25**65, 1), LatencyBucket(3.6e6, 2))
    stats = ServingStats(requests=7, failures=1, queue=3, latency_ms_total=buckets, latency_ms_sum=12.5)
    metrics.update(ServingReports((report(stats=stats),)), 50.0)
    samples = list(metrics.produce(60.0, always))
    found = by_name(samples)
    assert found["shoal.model.requests"].value == 7.0
    assert found["shoal.model.requests"].series.kind == "counter"
    assert found["shoal.model.queue"].value == 3.0
    assert found["shoal.model.ready"].value == 1.0
    assert found["shoal.model.memory"].value == 10 * 2**20
    assert {sample.series.component for sample in samples} == {"app.digits"}
    assert {sample.time_s for sample in samples} == {50.0}
    (latency,) = (sample for sample in samples if isinstance(sample, HistogramSample))
    assert (latency.counts[3], latency.counts[65], latency.counts[66], sum(latency.counts)) == (4, 1, 2, 7)
    assert latency.sum == 12.5


def test_a_report_is_told_once_and_a_gone_replica_no_more() -> None:
    metrics = ServingMetrics()
    metrics.update(ServingReports((report(), report("app.digits.1"))), 50.0)
    assert {dict(s.series.attributes)["shoal.replica"] for s in metrics.produce(60.0, always)} == {
        "app.digits.0",
        "app.digits.1",
    }
    assert list(metrics.produce(61.0, always)) == []
    metrics.update(ServingReports((report(),)), 70.0)
    assert {dict(s.series.attributes)["shoal.replica"] for s in metrics.produce(71.0, always)} == {"app.digits.0"}

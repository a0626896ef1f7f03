"""OTLP/HTTP out: a collector of the test's own reads it with the official definitions, fails, and is obeyed."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Coroutine
from random import Random

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from shoal.descriptions.errors import DescriptionError, TransportError
from shoal.telemetry.encoding import BatchEncoder
from shoal.telemetry.http_server import HttpServer, Request, Response
from shoal.telemetry.logs import RecentLogs
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample, series
from shoal.telemetry.otlp import ATTEMPTS_MAX, OtlpExporter, OtlpOptions
from shoal.telemetry.windows import Windows


class Collector:
    """Takes requests and answers as it is told, 200 when it wasn't."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else Response(200)

    def body(self, index: int) -> bytes:
        assert self.requests[index].headers["content-encoding"] == "gzip"
        return gzip.decompress(self.requests[index].body)


class Never(Random):
    """No jitter: retries come at once."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


def filled() -> Windows:
    windows = Windows()
    encoder = BatchEncoder("s")
    samples: list[AnySample] = [
        Sample(series("system.cpu.utilization", "gauge", "1"), 10.0, 0.25),
        Sample(series("shoal.model.requests", "counter", "{request}", {"shoal.replica": "a.b.0"}), 10.0, 7.0),
        HistogramSample(series("shoal.model.latency", "histogram", "ms", None, (1.0, 2.5)), 10.0, 9.5, (1, 2, 3)),
    ]
    for node in ("n1", "n2"):
        for payload in encoder.encode(samples):
            windows.ingest(node, payload, 10.0)
        encoder.redefine()
    return windows


def run(test: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


def exporter(url: str, windows: Windows, logs: RecentLogs | None = None, **headers: str) -> OtlpExporter:
    options = OtlpOptions(f"{url}/otlp/v1/metrics", f"{url}/otlp/v1/logs", headers, slice="test")
    return OtlpExporter(options, windows, logs, clock=lambda: 10.0, random=Never())


def test_metrics_arrive_as_the_official_definitions_have_them() -> None:
    async def scenario() -> None:
        collector = Collector()
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            exporting = exporter(server.url, filled(), Authorization="Bearer x")
            await exporting.export()
            assert (exporting.counters.points, exporting.counters.exports) == (6, 1)
        (request,) = collector.requests
        assert (request.path, request.headers["authorization"]) == ("/otlp/v1/metrics", "Bearer x")
        message = ExportMetricsServiceRequest.FromString(collector.body(0))
        told = [{a.key: a.value.string_value for a in group.resource.attributes} for group in message.resource_metrics]
        assert told == [{"service.name": "shoal", "shoal.slice": "test", "shoal.node": node} for node in ("n1", "n2")]
        metrics = {metric.name: metric for metric in message.resource_metrics[0].scope_metrics[0].metrics}
        assert metrics["system.cpu.utilization"].gauge.data_points[0].as_double == 0.25
        requests = metrics["shoal.model.requests"].sum
        assert (requests.is_monotonic, requests.data_points[0].attributes[0].key) == (True, "shoal.replica")
        latency = metrics["shoal.model.latency"].histogram.data_points[0]
        assert (list(latency.bucket_counts), latency.count, latency.sum) == ([1, 2, 3], 6, 9.5)

    run(scenario())


def test_log_records_are_sent_once_and_losses_are_counted() -> None:
    async def scenario() -> None:
        collector, logs = Collector(), RecentLogs(records_max=2)
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            exporting = exporter(server.url, Windows(), logs)
            for number, level in enumerate((logging.DEBUG, logging.WARNING, logging.ERROR)):
                logs.handle(logging.LogRecord("shoal.x", level, "", 0, f"message {number}", (), None))
            await exporting.export()
            await exporting.export()
            assert (exporting.counters.logs, exporting.counters.logs_lost) == (2, 1)
        assert [request.path for request in collector.requests] == ["/otlp/v1/logs"]
        group = ExportLogsServiceRequest.FromString(collector.body(0)).resource_logs[0]
        records = group.scope_logs[0].log_records
        assert [(record.body.string_value, record.severity_text) for record in records] == [
            ("message 1", "WARNING"),
            ("message 2", "ERROR"),
        ]
        assert [record.severity_number for record in records] == [13, 17]

    run(scenario())


def test_passing_failures_are_tried_again() -> None:
    async def scenario() -> None:
        collector = Collector(Response(503), Response(429, headers={"Retry-After": "0"}), Response(502))
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            exporting = exporter(server.url, filled())
            await exporting.export()
            assert (exporting.counters.retries, exporting.counters.failures) == (3, 0)
        assert len({request.body for request in collector.requests}) == 1

    run(scenario())


@pytest.mark.parametrize(("status", "requests"), [(503, ATTEMPTS_MAX), (400, 1), (401, 1)])
def test_lasting_failures_are_given_up(status: int, requests: int) -> None:
    async def scenario() -> None:
        collector = Collector(*[Response(status)] * 10)
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            exporting = exporter(server.url, filled())
            with pytest.raises(TransportError, match=f"answered {status}"):
                await exporting.export()
            assert exporting.counters.failures == 1
        assert len(collector.requests) == requests

    run(scenario())


def test_an_unreachable_collector_is_a_transport_error() -> None:
    async def scenario() -> None:
        async with HttpServer(Collector().handle, body_bytes_max=1) as server:
            url = server.url
        with pytest.raises(TransportError, match="ConnectionRefusedError"):
            await exporter(url, filled()).export()

    run(scenario())


def test_partial_success_is_counted() -> None:
    async def scenario() -> None:
        partial = ExportMetricsServiceResponse()
        partial.partial_success.rejected_data_points = 4
        collector = Collector(Response(200, partial.SerializeToString()))
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            exporting = exporter(server.url, filled())
            await exporting.export()
            assert exporting.counters.rejected == 4

    run(scenario())


def test_nothing_is_sent_when_nothing_was_measured() -> None:
    async def scenario() -> None:
        collector = Collector()
        async with HttpServer(collector.handle, body_bytes_max=2**20) as server:
            await exporter(server.url, Windows()).export()
        assert collector.requests == []

    run(scenario())


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://x", "http://", "http://u:p@x", "http://x/?a=b"])
def test_unusable_endpoints_are_told(endpoint: str) -> None:
    with pytest.raises(DescriptionError, match="OTLP endpoint"):
        OtlpOptions(endpoint)
    with pytest.raises(DescriptionError, match="OTLP endpoint"):
        OtlpOptions(logs_url=endpoint)


def test_headers_are_not_shown() -> None:
    assert "secret" not in repr(OtlpOptions("http://x", headers={"Authorization": "secret"}))

"""With a collector configured, samples and log records leave; without one, nothing runs."""

from __future__ import annotations

import asyncio
import gzip
import logging

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from shoal.control_plane.config import ControlPlaneOptions, ExportOptions
from shoal.control_plane.exporting import exporting
from shoal.telemetry.encoding import BatchEncoder
from shoal.telemetry.http_server import HttpServer, Request, Response
from shoal.telemetry.metrics import Sample, series
from shoal.telemetry.windows import Windows


def test_a_configured_collector_gets_samples_and_records() -> None:
    requests: dict[str, Request] = {}
    all_there = asyncio.Event()

    async def collect(request: Request) -> Response:
        requests[request.path] = request
        if len(requests) == 2:
            all_there.set()
        return Response(200)

    async def scenario() -> None:
        windows = Windows()
        for payload in BatchEncoder("s").encode([Sample(series("m", "gauge", "1"), 1.0, 0.5)]):
            windows.ingest("n1", payload, 1.0)
        async with asyncio.timeout(20), HttpServer(collect, body_bytes_max=2**20) as server:
            export = ExportOptions(f"{server.url}/v1/metrics", f"{server.url}/v1/logs", interval_s=0.01)
            options = ControlPlaneOptions(slice="test", export=export)
            handlers = logging.getLogger().handlers[:]
            async with exporting(options, windows, lambda: 1.0) as exporter:
                assert exporter is not None
                logging.getLogger("shoal.test").warning("node=n1 said so")
                await all_there.wait()
            assert logging.getLogger().handlers == handlers

    asyncio.run(scenario())
    metrics = ExportMetricsServiceRequest.FromString(gzip.decompress(requests["/v1/metrics"].body))
    assert metrics.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].as_double == 0.5
    logs = ExportLogsServiceRequest.FromString(gzip.decompress(requests["/v1/logs"].body))
    said = [record.body.string_value for scope in logs.resource_logs[0].scope_logs for record in scope.log_records]
    assert "node=n1 said so" in said


def test_nothing_is_exported_by_default() -> None:
    async def scenario() -> None:
        async with exporting(ControlPlaneOptions(), Windows(), lambda: 0.0) as exporter:
            assert exporter is None
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())

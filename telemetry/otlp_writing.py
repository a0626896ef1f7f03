"""Newest samples and log records as OTLP export requests. `otlp.py` sends them.

`opentelemetry-proto` and protobuf are imported inside the functions: a control plane without a collector never loads
them. One resource per node, with `service.name` `shoal`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from .logs import LogEntry
from .window_query import Newest

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

SCOPE = "shoal"
SEVERITIES = (
    (logging.ERROR, "SEVERITY_NUMBER_ERROR"),
    (logging.WARNING, "SEVERITY_NUMBER_WARN"),
    (logging.INFO, "SEVERITY_NUMBER_INFO"),
    (0, "SEVERITY_NUMBER_DEBUG"),
)


def metrics_request(found: Iterable[Newest], offset_s: float, slice_name: str) -> bytes:
    """`ExportMetricsServiceRequest`; `offset_s` added to a sample's time gives Unix time."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    for node, of_node in groupby(sorted(found, key=_by_node), lambda one: one.node):
        group = request.resource_metrics.add()
        group.resource.attributes.extend(_resource(slice_name, node))
        scope = group.scope_metrics.add()
        scope.scope.name = SCOPE
        for _, same in groupby(of_node, lambda one: (one.series.name, one.series.kind, one.series.unit)):
            _add_metric(scope.metrics.add(), list(same), offset_s)
    return bytes(request.SerializeToString())


def _by_node(one: Newest) -> tuple[str, str, str, str]:
    return one.node, one.series.name, one.series.kind, one.series.unit


def _add_metric(metric: Metric, same: list[Newest], offset_s: float) -> None:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    series = same[0].series
    metric.name, metric.unit = series.name, series.unit
    if series.kind == "histogram":
        metric.histogram.aggregation_temporality = cumulative
        for one in same:
            point = metric.histogram.data_points.add(time_unix_nano=_nanos(one.time_s + offset_s))
            point.attributes.extend(_attributes(dict(one.series.attributes)))
            point.sum, point.count = one.sum, sum(one.counts)
            point.bucket_counts.extend(one.counts)
            point.explicit_bounds.extend(one.series.bounds)
        return
    if series.kind == "counter":
        metric.sum.aggregation_temporality = cumulative
        metric.sum.is_monotonic = True
    points = metric.sum.data_points if series.kind == "counter" else metric.gauge.data_points
    for one in same:
        number = points.add(time_unix_nano=_nanos(one.time_s + offset_s), as_double=one.value)
        number.attributes.extend(_attributes(dict(one.series.attributes)))


def logs_request(entries: Iterable[LogEntry], slice_name: str) -> bytes:
    """`ExportLogsServiceRequest` of the control plane's own records."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(_resource(slice_name, ""))
    for logger_name, same in groupby(
        sorted(entries, key=lambda entry: (entry.logger, entry.seq)), lambda entry: entry.logger
    ):
        scope = group.scope_logs.add()
        scope.scope.name = logger_name
        for entry in same:
            record = scope.log_records.add(time_unix_nano=_nanos(entry.unix_s))
            record.observed_time_unix_nano = record.time_unix_nano
            record.severity_text = logging.getLevelName(entry.level)
            name_of_severity = next(name for level, name in SEVERITIES if entry.level >= level)
            record.severity_number = SeverityNumber.Value(name_of_severity)
            record.body.string_value = entry.message
    return bytes(request.SerializeToString())


def rejected_points(body: bytes) -> int:
    """How many points a collector's answer says that it did not take; 0 for an answer that can't be read."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    try:
        return int(ExportMetricsServiceResponse.FromString(body).partial_success.rejected_data_points)
    except DecodeError:
        return 0


def rejected_records(body: bytes) -> int:
    """The same for log records."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    try:
        return int(ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records)
    except DecodeError:
        return 0


def _resource(slice_name: str, node: str) -> list[KeyValue]:
    told = {"service.name": "shoal", "shoal.slice": slice_name, "shoal.node": node}
    return _attributes({key: value for key, value in told.items() if value})


def _attributes(told: Mapping[str, str]) -> list[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in told.items()]


def _nanos(unix_s: float) -> int:
    return max(0, int(unix_s * 1e9))

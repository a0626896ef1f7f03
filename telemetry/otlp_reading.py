"""OTLP metrics requests, protobuf or JSON, to plain points. `receiver.py` decides which of them are taken.

Source: https://opentelemetry.io/docs/specs/otlp/ and opentelemetry-proto `metrics.proto` 1.x. What the metric model has
no place for (summaries, exponential histograms, points that say "no value") is counted, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..descriptions.errors import ProtocolError
from .protobuf_reading import Value, double, fields, fixed64, integer, packed, sfixed64, sub_message, text

POINTS_MAX = 5000
"""In one request; the rest is rejected."""
DELTA = 1
NO_VALUE = 1
"""DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK"""

Attributes = dict[str, str]
Form = Literal["gauge", "sum", "histogram", "unsupported"]


@dataclass
class Point:
    """One data point with all that it inherits from the messages around it."""

    name: str
    unit: str
    form: Form
    resource: Attributes
    attributes: Attributes = field(default_factory=dict)
    is_monotonic: bool = False
    is_delta: bool = False
    value: float | None = None
    """Of a gauge or sum; None when the point has none."""
    sum: float = 0.0
    counts: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()


@dataclass
class Reading:
    """What a request holds, and how many points beyond `POINTS_MAX` were left out."""

    points: list[Point] = field(default_factory=list)
    surplus: int = 0

    def take(self, point: Point) -> None:
        """Add a point while there is room."""
        if len(self.points) < POINTS_MAX:
            self.points.append(point)
        else:
            self.surplus += 1


def read_protobuf(body: bytes) -> Reading:
    """Parse an `ExportMetricsServiceRequest`; `ProtocolError` for anything else."""
    reading = Reading()
    for number, _, value in fields(memoryview(body)):
        if number == 1:
            _read_resource_metrics(sub_message(value), reading)
    return reading


def _read_resource_metrics(message: memoryview, reading: Reading) -> None:
    found = list(fields(message))
    resource: Attributes = {}
    for number, _, value in found:
        if number == 1:
            resource |= _attributes(sub_message(value), 1)
    for number, _, value in found:
        if number == 2:
            for inner, _, metric in fields(sub_message(value)):
                if inner == 2:
                    _read_metric(sub_message(metric), resource, reading)


def _attributes(message: memoryview, field_number: int) -> Attributes:
    return dict(_key_value(sub_message(value)) for number, _, value in fields(message) if number == field_number)


def _key_value(message: memoryview) -> tuple[str, str]:
    key = told = ""
    for number, _, value in fields(message):
        if number == 1:
            key = text(value)
        elif number == 2:
            told = _any_value(sub_message(value))
    return key, told


def _any_value(message: memoryview) -> str:
    for number, _, value in fields(message):
        match number:
            case 1:
                return text(value)
            case 2:
                return "true" if integer(value) else "false"
            case 3:
                whole = integer(value)
                return str(whole - (1 << 64) if whole >> 63 else whole)
            case 4:
                return repr(double(value))
            case _:
                return ""  # arrays, maps and bytes don't make labels
    return ""


FORMS: dict[int, Form] = {5: "gauge", 7: "sum", 9: "histogram", 10: "unsupported", 11: "unsupported"}


def _read_metric(message: memoryview, resource: Attributes, reading: Reading) -> None:
    name = unit = ""
    data: list[tuple[Form, memoryview]] = []
    for number, _, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 3:
            unit = text(value)
        elif number in FORMS:
            data.append((FORMS[number], sub_message(value)))
    for form, content in data:
        found = list(fields(content))
        temporality = next((integer(value) for number, _, value in found if number == 2 and form != "unsupported"), 0)
        monotonic = next((integer(value) for number, _, value in found if number == 3 and form == "sum"), 0)
        for number, _, value in found:
            if number == 1:
                point = Point(name, unit, form, resource, is_monotonic=bool(monotonic), is_delta=temporality == DELTA)
                _read_point(sub_message(value), point)
                reading.take(point)


def _read_point(message: memoryview, point: Point) -> None:
    if point.form == "histogram":
        _read_histogram_point(message, point)
        return
    flags = 0
    for number, _, value in fields(message):
        match number:
            case 7:
                _take_attribute(value, point)
            case 4:
                point.value = double(value)
            case 6:
                point.value = float(sfixed64(value))
            case 8 if point.form != "unsupported":
                flags = integer(value)
            case _:
                pass
    if flags & NO_VALUE:
        point.value = None


def _read_histogram_point(message: memoryview, point: Point) -> None:
    count = 0
    counts: list[float] = []
    bounds: list[float] = []
    for number, wire_type, value in fields(message):
        match number:
            case 9:
                _take_attribute(value, point)
            case 4:
                count = fixed64(value)
            case 5:
                point.sum = double(value)
            case 6:
                counts += packed("<Q", wire_type, value)
            case 7:
                bounds += packed("<d", wire_type, value)
            case _:
                pass
    # Without buckets there is still one, from minus to plus infinity.
    point.counts = tuple(int(each) for each in counts) or (count,)
    point.bounds = tuple(bounds)


def _take_attribute(value: Value, point: Point) -> None:
    key, told = _key_value(sub_message(value))
    point.attributes[key] = told


Whole = int | str
Real = float | str


class _AnyValue(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Whole | None = None
    double_value: Real | None = None

    def told(self) -> str:
        if self.bool_value is not None:
            return "true" if self.bool_value else "false"
        for value in (self.string_value, self.int_value, self.double_value):
            if value is not None:
                return str(value)
        return ""


class _KeyValue(msgspec.Struct):
    key: str = ""
    value: _AnyValue | None = None


class _DataPoint(msgspec.Struct, rename="camel"):
    attributes: list[_KeyValue] = []
    as_double: Real | None = None
    as_int: Whole | None = None
    flags: int = 0
    count: Whole = 0
    sum: Real = 0.0
    bucket_counts: list[Whole] = []
    explicit_bounds: list[Real] = []


class _Data(msgspec.Struct, rename="camel"):
    data_points: list[_DataPoint] = []
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class _Metric(msgspec.Struct, rename="camel"):
    name: str = ""
    unit: str = ""
    gauge: _Data | None = None
    sum: _Data | None = None
    histogram: _Data | None = None
    exponential_histogram: _Data | None = None
    summary: _Data | None = None

    def data(self) -> Iterator[tuple[Form, _Data]]:
        forms: tuple[tuple[Form, _Data | None], ...] = (
            ("gauge", self.gauge),
            ("sum", self.sum),
            ("histogram", self.histogram),
            ("unsupported", self.exponential_histogram),
            ("unsupported", self.summary),
        )
        for form, data in forms:
            if data is not None:
                yield form, data


class _ScopeMetrics(msgspec.Struct):
    metrics: list[_Metric] = []


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] = []


class _ResourceMetrics(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_metrics: list[_ScopeMetrics] = []


class _JsonRequest(msgspec.Struct, rename="camel"):
    resource_metrics: list[_ResourceMetrics] = []


_json = msgspec.json.Decoder(_JsonRequest)


def read_json(body: bytes) -> Reading:
    """Parse a request in OTLP's JSON mapping (64-bit numbers may be strings); `ProtocolError` for anything else."""
    reading = Reading()
    try:
        request = _json.decode(body)
        for group in request.resource_metrics:
            resource = _told(group.resource.attributes) if group.resource else {}
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    for form, data in metric.data():
                        for each in data.data_points:
                            reading.take(_json_point(metric, form, data, each, resource))
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"OTLP JSON: {error}") from None
    return reading


def _told(attributes: list[_KeyValue]) -> Attributes:
    return {each.key: each.value.told() if each.value else "" for each in attributes}


def _json_point(metric: _Metric, form: Form, data: _Data, each: _DataPoint, resource: Attributes) -> Point:
    point = Point(
        metric.name,
        metric.unit,
        form,
        resource,
        _told(each.attributes),
        is_monotonic=data.is_monotonic,
        is_delta=data.aggregation_temporality == DELTA,
    )
    if form == "histogram":
        point.sum = float(each.sum)
        point.counts = tuple(int(count) for count in each.bucket_counts) or (int(each.count),)
        point.bounds = tuple(float(bound) for bound in each.explicit_bounds)
    elif not each.flags & NO_VALUE:
        number = each.as_double if each.as_double is not None else each.as_int
        point.value = None if number is None else float(number)
    return point

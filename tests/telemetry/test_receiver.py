"""OTLP/HTTP in: read as the official definitions read it, attributed, limited, answered as the specification says."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Thread

import pytest
from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, NumberDataPoint

from shoal.descriptions.errors import ProtocolError, RefusedError
from shoal.telemetry.http_server import HEAD_BYTES_MAX, HttpServer, Request, Response
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample
from shoal.telemetry.otlp_reading import POINTS_MAX, read_json, read_protobuf
from shoal.telemetry.receiver import (
    BODY_BYTES_MAX,
    INFLATED_BYTES_MAX,
    JSON,
    PROTOBUF,
    REQUESTS_PER_MINUTE,
    SERIES_MAX,
    Allowance,
    OtlpReceiver,
    Received,
)

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


def key_value(key: str, value: object) -> KeyValue:
    match value:
        case bool():
            told = AnyValue(bool_value=value)
        case int():
            told = AnyValue(int_value=value)
        case float():
            told = AnyValue(double_value=value)
        case _:
            told = AnyValue(string_value=str(value))
    return KeyValue(key=key, value=told)


def request(*metrics: Metric, **resource: object) -> ExportMetricsServiceRequest:
    message = ExportMetricsServiceRequest()
    group = message.resource_metrics.add()
    group.resource.attributes.extend(key_value(key.replace("__", "."), value) for key, value in resource.items())
    group.scope_metrics.add().metrics.extend(metrics)
    return message


def gauge(name: str, value: float, **attributes: object) -> Metric:
    metric = Metric(name=name, unit="1")
    point = metric.gauge.data_points.add(as_double=value)
    point.attributes.extend(key_value(key, told) for key, told in attributes.items())
    return metric


def total(name: str, value: int, *, delta: bool = False, monotonic: bool = True) -> Metric:
    metric = Metric(name=name, unit="{item}")
    metric.sum.aggregation_temporality = DELTA if delta else CUMULATIVE
    metric.sum.is_monotonic = monotonic
    metric.sum.data_points.add(as_int=value)
    return metric


def histogram(name: str, counts: list[int], bounds: list[float], *, delta: bool = False) -> Metric:
    metric = Metric(name=name, unit="ms")
    metric.histogram.aggregation_temporality = DELTA if delta else CUMULATIVE
    metric.histogram.data_points.add(count=sum(counts), sum=10.0, bucket_counts=counts, explicit_bounds=bounds)
    return metric


def post(body: bytes, content_type: str = PROTOBUF, **headers: str) -> Request:
    told = {"content-type": content_type} | {key.replace("_", "-"): value for key, value in headers.items()}
    return Request("POST", "/v1/metrics", told, body)


class Agent:
    """A receiver under a clock that the test turns; no socket."""

    def __init__(self, is_known: Callable[[str], bool] = lambda replica: True) -> None:
        self.now_s = 100.0
        self.received = Received(lambda: self.now_s, is_known)
        self.receiver = OtlpReceiver(self.received, clock=lambda: self.now_s)

    def push(self, message: ExportMetricsServiceRequest) -> Response:
        return self.receiver.answer(post(message.SerializeToString()))

    def samples(self) -> list[AnySample]:
        return list(self.received.produce(self.now_s, lambda name: True))


def test_points_become_samples_of_their_component() -> None:
    agent = Agent()
    message = request(
        gauge("queue.depth", 4.5, topic="in"),
        total("items", 7),
        total("sessions", -2, monotonic=False),
        histogram("took", [1, 2, 3], [10.0, 20.0]),
        service__name="shop.filter",
        shoal__replica="shop.filter.3",
        host__name="ignored",
    )
    response = agent.push(message)
    assert (response.status, response.body, response.content_type) == (200, b"", PROTOBUF)
    found = {sample.series.name: sample for sample in agent.samples()}
    assert {sample.series.component for sample in found.values()} == {"shop.filter"}
    depth = found["queue.depth"]
    assert isinstance(depth, Sample)
    assert (depth.value, depth.time_s, depth.series.kind) == (4.5, 100.0, "gauge")
    assert dict(depth.series.attributes) == {
        "topic": "in",
        "service.name": "shop.filter",
        "shoal.application": "shop",
        "shoal.component": "filter",
        "shoal.replica": "shop.filter.3",
    }
    assert found["items"].series.kind == "counter"
    assert found["sessions"].series.kind == "gauge"
    took = found["took"]
    assert isinstance(took, HistogramSample)
    assert (took.counts, took.sum, took.series.bounds) == ((1, 2, 3), 10.0, (10.0, 20.0))


@pytest.mark.parametrize(
    ("resource", "component"),
    [
        ({"service__name": "shop.filter"}, "shop.filter"),
        ({"shoal__component": "shop.cart", "service__name": "x"}, "shop.cart"),
        ({"shoal__replica": "shop.gone.1", "service__name": "shop.gone"}, ""),
        ({"service__name": "unknown_service"}, ""),
        ({}, ""),
    ],
)
def test_attribution(resource: dict[str, str], component: str) -> None:
    agent = Agent(lambda name: "gone" not in name)
    agent.push(request(gauge("m", 1.0), **resource))
    assert [sample.series.component for sample in agent.samples()] == [component]


def test_a_client_cannot_claim_a_component_by_its_points_attributes() -> None:
    agent = Agent()
    metric = gauge("m", 1.0)
    metric.gauge.data_points[0].attributes.extend([key_value("shoal.application", "other")])
    agent.push(request(metric, service__name="shop.filter"))
    (sample,) = agent.samples()
    assert sample.series.component == "shop.filter"


def test_only_the_latest_of_a_series_is_told_and_once() -> None:
    agent = Agent()
    agent.push(request(gauge("m", 1.0)))
    agent.push(request(gauge("m", 2.0)))
    assert [sample.value for sample in agent.samples() if isinstance(sample, Sample)] == [2.0]
    assert agent.samples() == []
    agent.push(request(gauge("m", 2.0)))
    assert len(agent.samples()) == 1
    assert list(agent.received.produce(0.0, lambda name: False)) == []


def test_deltas_add_up() -> None:
    agent = Agent()
    for _ in range(3):
        agent.push(request(total("items", 5, delta=True), histogram("took", [1, 0], [10.0], delta=True)))
    found = {sample.series.name: sample for sample in agent.samples()}
    assert isinstance(found["items"], Sample)
    assert found["items"].value == 15.0
    took = found["took"]
    assert isinstance(took, HistogramSample)
    assert (took.counts, took.sum) == ((3, 0), 30.0)


def test_what_is_not_taken_is_a_partial_success() -> None:
    agent = Agent()
    summary = Metric(name="old.summary")
    summary.summary.data_points.add(count=1)
    nothing = Metric(name="no.value")
    nothing.gauge.data_points.append(NumberDataPoint(flags=1, as_double=1.0))
    message = request(
        gauge("fine", 1.0),
        gauge("system.cpu.utilization", 0.0),
        gauge("shoal.model.queue", 1e9),
        gauge("not a name", 1.0),
        gauge("infinite", math.inf),
        histogram("odd", [1, 2, 3], [10.0]),
        summary,
        nothing,
    )
    response = agent.push(message)
    answer = ExportMetricsServiceResponse.FromString(response.body)
    assert response.status == 200
    assert answer.partial_success.rejected_data_points == 7
    assert "the agent's own" in answer.partial_success.error_message
    assert [sample.series.name for sample in agent.samples()] == ["fine"]
    as_json = agent.receiver.answer(post(MessageToJson(message, use_integers_for_enums=True).encode(), JSON))
    assert b'"rejectedDataPoints":"7"' in as_json.body


def test_series_are_bounded_and_room_comes_back() -> None:
    agent = Agent()
    metrics = [gauge("m", 1.0, number=number) for number in range(SERIES_MAX + 5)]
    answer = ExportMetricsServiceResponse.FromString(agent.push(request(*metrics)).body)
    assert answer.partial_success.rejected_data_points == 5
    agent.now_s += 700.0
    agent.received.expire()
    assert agent.push(request(gauge("new", 1.0))).body == b""
    assert len(agent.samples()) == 1


def test_points_beyond_the_limit_of_a_request_are_rejected() -> None:
    agent = Agent()
    metric = Metric(name="m")
    for _ in range(POINTS_MAX + 3):
        metric.gauge.data_points.add(as_double=1.0)
    answer = ExportMetricsServiceResponse.FromString(agent.push(request(metric)).body)
    assert answer.partial_success.rejected_data_points == 3


@pytest.mark.parametrize(
    ("given_request", "status"),
    [
        (Request("POST", "/v1/traces", {"content-type": PROTOBUF}, b""), 404),
        (Request("GET", "/v1/metrics", {"content-type": PROTOBUF}, b""), 405),
        (post(b"", "text/plain"), 415),
        (post(b"\xff"), 400),
        (post(b"{", JSON), 400),
        (post(b"[" * 100_000, JSON), 400),
        (post(b'{"resourceMetrics": 5}', JSON), 400),
        (post(b"", PROTOBUF, content_encoding="br"), 400),
        (post(b"not gzip", PROTOBUF, content_encoding="gzip"), 400),
        (post(gzip.compress(b"\x00" * 1000)[:-9], PROTOBUF, content_encoding="gzip"), 400),
        (post(gzip.compress(b"\x00" * (INFLATED_BYTES_MAX + 1)), PROTOBUF, content_encoding="gzip"), 413),
    ],
    ids=["path", "method", "type", "protobuf", "json", "deep", "shape", "br", "no gzip", "cut off", "bomb"],
)
def test_bad_requests(given_request: Request, status: int) -> None:
    assert Agent().receiver.answer(given_request).status == status


def test_gzip_and_a_content_type_with_parameters_are_taken() -> None:
    agent = Agent()
    body = gzip.compress(request(gauge("m", 1.0)).SerializeToString())
    answer = agent.receiver.answer(post(body, f"{PROTOBUF}; charset=binary", content_encoding="gzip"))
    assert answer.status == 200
    assert len(agent.samples()) == 1


def test_too_many_requests_are_told_when_to_come_again() -> None:
    agent = Agent()
    for _ in range(REQUESTS_PER_MINUTE):
        assert agent.push(request(gauge("m", 1.0))).status == 200
    refused = agent.push(request(gauge("m", 1.0)))
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    agent.now_s += 1.0
    assert agent.push(request(gauge("m", 1.0))).status == 200


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 30)), max_size=50))
def test_an_allowance_never_gives_more_than_twice_a_minutes_worth_in_a_minute(steps: list[tuple[float, float]]) -> None:
    allowance, now_s = Allowance(100.0), 0.0
    spent: list[tuple[float, float]] = []
    for amount, wait_s in steps:
        now_s += wait_s
        if allowance.spend(amount, now_s) == 0.0:
            spent.append((now_s, min(amount, 100.0)))
    for start_s, _ in spent:
        assert sum(amount for at_s, amount in spent if start_s <= at_s < start_s + 60) <= 200.0 + 1e-6


words = st.text(max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.one_of(
    st.builds(gauge, words, numbers),
    st.builds(
        lambda name, value, label: gauge(name, value, label=label),
        words,
        numbers,
        st.one_of(words, st.integers(-(2**63), 2**63 - 1), st.booleans(), numbers),
    ),
    st.builds(total, words, st.integers(-(2**63), 2**63 - 1), delta=st.booleans(), monotonic=st.booleans()),
    st.builds(histogram, words, st.lists(st.integers(0, 2**40), max_size=5), st.lists(numbers, max_size=5)),
)


@settings(deadline=None)
@given(st.lists(metrics, max_size=6), words)
def test_both_forms_are_read_as_the_official_definitions_read_them(found: list[Metric], service: str) -> None:
    message = request(*found, service__name=service)
    binary = read_protobuf(message.SerializeToString()).points
    textual = read_json(MessageToJson(message, use_integers_for_enums=True).encode()).points
    assert len(binary) == len(textual) == len(found)
    for point, metric in zip(binary, found, strict=True):
        assert (point.name, point.unit, point.resource) == (metric.name, metric.unit, {"service.name": service})
        if metric.HasField("histogram"):
            data = metric.histogram.data_points[0]
            assert point.counts == (tuple(data.bucket_counts) or (data.count,))
            assert (point.bounds, point.sum) == (tuple(data.explicit_bounds), data.sum)
        elif metric.HasField("sum"):
            assert point.value == float(metric.sum.data_points[0].as_int)
            assert point.is_monotonic == metric.sum.is_monotonic
            assert point.is_delta == (metric.sum.aggregation_temporality == DELTA)
        else:
            assert point.value == metric.gauge.data_points[0].as_double
    for one, other in zip(binary, textual, strict=True):
        # Only how a floating-point attribute is written differs.
        one.attributes = other.attributes = {}
        assert one == other


EXAMPLE = request(
    gauge("m", 1.0, a="b"), total("t", 3), histogram("h", [1, 2], [1.0]), service__name="a.b"
).SerializeToString()


@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)).map(
            lambda at: EXAMPLE[: at[0]] + bytes((at[1],)) + EXAMPLE[at[0] + 1 :]
        ),
    )
)
def test_hostile_bytes_are_a_request_or_a_protocol_error(body: bytes) -> None:
    agent = Agent()
    assert agent.receiver.answer(post(body)).status in (200, 400)
    assert agent.receiver.answer(post(body, JSON)).status in (200, 400)
    try:
        read_protobuf(body)
    except ProtocolError:
        return


@contextmanager
def running(receiver: OtlpReceiver | HttpServer) -> Iterator[int]:
    """Serve on a loop of its own, so that ordinary blocking clients can talk to it; yields the port."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    async def enter() -> int:
        await receiver.__aenter__()
        server = receiver if isinstance(receiver, HttpServer) else receiver._server
        return server.port

    async def leave() -> None:
        await receiver.__aexit__(None, None, None)

    try:
        yield asyncio.run_coroutine_threadsafe(enter(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(leave(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_a_real_client_pushes_over_one_connection() -> None:
    received = Received(lambda: 1.0)
    with (
        running(OtlpReceiver(received)) as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as client,
    ):
        body = request(gauge("m", 1.0)).SerializeToString()
        for _ in range(3):
            client.request("POST", "/v1/metrics", body, {"Content-Type": PROTOBUF})
            assert client.getresponse().read() == b""
        chunks = (body[:5], body[5:])
        client.request("POST", "/v1/metrics", iter(chunks), {"Content-Type": PROTOBUF}, encode_chunked=True)
        assert client.getresponse().read() == b""
        too_long = {"Content-Type": PROTOBUF, "Content-Length": str(BODY_BYTES_MAX + 1)}
        client.request("POST", "/v1/metrics", b"x" * 10, too_long)
        assert client.getresponse().status == 413
    assert received.counters.points == 4


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET http://other/ HTTP/1.1\r\n\r\n", b"400"),
        (b"POST /v1/metrics HTTP/1.1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX", b"400"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * (HEAD_BYTES_MAX + 10) + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n spaced: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"404"),
    ],
)
def test_malformed_http_is_answered_and_the_connection_ends(sent: bytes, answered: bytes) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(10), OtlpReceiver(Received(lambda: 0.0)) as receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(receiver.url.rpartition(":")[2]))
            writer.write(sent)
            answer = await reader.read(-1)
            assert answer.startswith(b"HTTP/1.1 " + answered)
            writer.close()

    asyncio.run(scenario())


def test_the_server_listens_on_loopback_only() -> None:
    async def handle(given_request: Request) -> Response:
        return Response(200)

    with pytest.raises(RefusedError, match="no loopback"):
        HttpServer(handle, host="0.0.0.0", body_bytes_max=1)

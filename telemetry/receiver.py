"""Metrics that application code on a node pushes to its agent by OTLP/HTTP: requests to samples of their component.

The agent runs `OtlpReceiver` on loopback, tells components its URL in `OTEL_EXPORTER_OTLP_ENDPOINT`, and adds its
`Received` to the reader as a producer: the latest value of each series travels at the rate of its metric. Attribution
follows the resource: `shoal.replica`, else `shoal.component` or `service.name` of the form `application.component`.
"""

from __future__ import annotations

import math
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from ..descriptions.errors import DescriptionError, ProtocolError
from ..descriptions.messages.telemetry import Kind
from .http_server import HttpServer, Request, Response
from .metrics import APPLICATION, COMPONENT, REPLICA, AnySample, HistogramSample, Sample, Series, series
from .otlp_reading import Attributes, Point, Reading, read_json, read_protobuf

BODY_BYTES_MAX = 1024 * 1024
"""Of a request, compressed or not."""
INFLATED_BYTES_MAX = 4 * 1024 * 1024
SERIES_MAX = 2000
"""Of all applications on the node."""
REQUESTS_PER_MINUTE = 600
POINTS_PER_MINUTE = 60_000
RESERVED = ("shoal.", "system.", "process.", "hw.")
"""Names that the agent measures itself; nobody may steer placement by claiming them."""
RESOURCE_KEPT = ("service.name", "service.instance.id", "service.version")
COMPONENT_NAME = re.compile(r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\.([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\Z")
PROTOBUF, JSON = "application/x-protobuf", "application/json"


@dataclass
class ReceiverCounters:
    """What came in and what was turned away, since start."""

    requests: int = 0
    points: int = 0
    """Taken."""
    rejected: int = 0
    """Points that were understood and not taken."""
    malformed: int = 0
    """Requests that were no OTLP."""
    limited: int = 0
    """Requests over the rate."""


@dataclass
class Allowance:
    """So much a minute, refilled continuously, never more than a minute's worth."""

    per_minute: float
    _left: float = -1.0
    _at_s: float = 0.0

    def spend(self, amount: float, now_s: float) -> float:
        """Take it if it is there, and give 0; else give the seconds until it would be."""
        left = self.per_minute if self._left < 0 else self._left + (now_s - self._at_s) * self.per_minute / 60
        self._left, self._at_s = min(left, self.per_minute), now_s
        # What is more than a whole minute's worth is let in when a minute's worth is there.
        missing = min(amount, self.per_minute) - self._left
        if missing > 0:
            return missing * 60 / self.per_minute
        self._left = max(0.0, self._left - amount)
        return 0.0


@dataclass
class _Held:
    """The latest of one series; `told` once the reader has it."""

    sample: AnySample
    told: bool = False
    used_s: float = 0.0


class Received:
    """Producer: points to samples, the latest of each series. No sockets; the receiver feeds it, tests too."""

    def __init__(self, clock: Callable[[], float], is_known: Callable[[str], bool] = lambda replica: True) -> None:
        self._clock = clock
        self._is_known = is_known
        self._held: dict[Series, _Held] = {}
        self.counters = ReceiverCounters()

    def take(self, reading: Reading) -> tuple[int, str]:
        """Keep what can be kept; how many points were rejected, and why the first was."""
        reasons: list[str] = [f"more than {len(reading.points)} points"] * bool(reading.surplus)
        rejected = reading.surplus
        for point in reading.points:
            try:
                self._keep(point)
            except DescriptionError as error:
                rejected += 1
                reasons.append(str(error))
        self.counters.points += len(reading.points) + reading.surplus - rejected
        self.counters.rejected += rejected
        return rejected, reasons[0] if reasons else ""

    def produce(self, now_s: float, is_due: Callable[[str], bool]) -> Iterator[AnySample]:
        """What came since it was told last, of the metrics that are due."""
        for held in self._held.values():
            if not held.told and is_due(held.sample.series.name):
                held.told = True
                yield held.sample

    def expire(self, older_than_s: float = 600.0) -> None:
        """Forget the series that nobody has sent for so long."""
        limit_s = self._clock() - older_than_s
        for gone in [found for found, held in self._held.items() if held.used_s < limit_s]:
            del self._held[gone]

    def _keep(self, point: Point) -> None:
        if point.name.startswith(RESERVED):
            raise DescriptionError(f"the name {point.name} is the agent's own")
        if point.form == "unsupported" or (point.form != "histogram" and point.value is None):
            raise DescriptionError(f"{point.name} has no value that is taken here")
        if len(point.counts) != len(point.bounds) + (point.form == "histogram"):
            raise DescriptionError(f"{point.name} has {len(point.counts)} buckets for {len(point.bounds)} bounds")
        identity = self._identity(point)
        held = self._held.get(identity)
        if held is None and len(self._held) >= SERIES_MAX:
            raise DescriptionError(f"more than {SERIES_MAX} series on this node")
        now_s = self._clock()
        self._held[identity] = _Held(_sample(identity, point, held.sample if held else None, now_s), used_s=now_s)

    def _identity(self, point: Point) -> Series:
        attributes = {**point.attributes, **self._attribution(point.resource)}
        if point.form == "histogram":
            # A bucket without bounds becomes one of two, so that the count survives.
            return series(point.name, "histogram", point.unit, attributes, point.bounds or (0.0,))
        kind: Kind = "counter" if point.form == "sum" and point.is_monotonic else "gauge"
        return series(point.name, kind, point.unit, attributes)

    def _attribution(self, resource: Attributes) -> Attributes:
        told = {key: resource[key] for key in RESOURCE_KEPT if key in resource}
        replica = resource.get(REPLICA, "")
        if replica and self._is_known(replica):
            parts = replica.split(".")
            if len(parts) == 3:
                return told | {REPLICA: replica, APPLICATION: parts[0], COMPONENT: parts[1]}
        named = COMPONENT_NAME.match(resource.get(COMPONENT, "") or resource.get("service.name", ""))
        if named and self._is_known(named.group()):
            return told | {APPLICATION: named.group(1), COMPONENT: named.group(2)}
        return told


def _sample(identity: Series, point: Point, before: AnySample | None, now_s: float) -> AnySample:
    """The point on the agent's clock; deltas are added to what was there."""
    if identity.kind == "histogram":
        counts = point.counts if point.bounds else (0, *point.counts)
        total = point.sum
        if point.is_delta and isinstance(before, HistogramSample):
            counts = tuple(a + b for a, b in zip(before.counts, counts, strict=True))
            total += before.sum
        if not math.isfinite(total) or any(not 0 <= count < 2**53 for count in counts):
            raise DescriptionError(f"{point.name} is out of range")
        return HistogramSample(identity, now_s, total, counts)
    value = point.value or 0.0
    if point.is_delta and point.form == "sum" and isinstance(before, Sample):
        value += before.value
    if not math.isfinite(value):
        raise DescriptionError(f"{point.name} is not a finite number")
    return Sample(identity, now_s, value)


class OtlpReceiver:
    """The HTTP side: `async with OtlpReceiver(Received(clock)) as receiver: receiver.url`."""

    def __init__(self, received: Received, *, port: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.received = received
        self._clock = clock
        self._server = HttpServer(self._handle, port=port, body_bytes_max=BODY_BYTES_MAX)
        self._requests = Allowance(REQUESTS_PER_MINUTE)
        self._points = Allowance(POINTS_PER_MINUTE)

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return self._server.url

    async def __aenter__(self) -> OtlpReceiver:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.__aexit__(*error)

    async def _handle(self, request: Request) -> Response:
        return self.answer(request)

    def answer(self, request: Request) -> Response:
        """A request's answer, as https://opentelemetry.io/docs/specs/otlp/#otlphttp-response has it."""
        self.received.counters.requests += 1
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.path != "/v1/metrics":
            return Response(404, b"only /v1/metrics is taken here")
        if request.method != "POST":
            return Response(405, b"POST", headers={"Allow": "POST"})
        if content_type not in (PROTOBUF, JSON):
            return Response(415, f"{PROTOBUF} or {JSON}".encode())
        wait_s = self._requests.spend(1, self._clock())
        if wait_s:
            return self._too_many(wait_s)
        try:
            body = _inflated(request)
            reading = read_protobuf(body) if content_type == PROTOBUF else read_json(body)
        except ProtocolError as error:
            self.received.counters.malformed += 1
            return _status(content_type, 413 if isinstance(error, _TooLargeError) else 400, str(error))
        wait_s = self._points.spend(len(reading.points), self._clock())
        if wait_s:
            return self._too_many(wait_s)
        return _accepted(content_type, *self.received.take(reading))

    def _too_many(self, wait_s: float) -> Response:
        self.received.counters.limited += 1
        return Response(429, b"too many", headers={"Retry-After": str(math.ceil(wait_s))})


class _TooLargeError(ProtocolError):
    """A body that would be too large when inflated."""


def _inflated(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return request.body
    if encoding != "gzip":
        raise ProtocolError(f"content encoding {encoding[:32]!r}")
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = inflater.decompress(request.body, INFLATED_BYTES_MAX + 1)
    except zlib.error as error:
        raise ProtocolError(f"gzip: {error}") from None
    if len(body) > INFLATED_BYTES_MAX:
        raise _TooLargeError(f"over {INFLATED_BYTES_MAX} bytes when inflated")
    if not inflater.eof:
        raise ProtocolError("gzip: the stream is cut off")
    return body


def _accepted(content_type: str, rejected: int, reason: str) -> Response:
    """`ExportMetricsServiceResponse`; a partial success says how many points were not taken."""
    if content_type == JSON:
        partial = {"partialSuccess": {"rejectedDataPoints": str(rejected), "errorMessage": reason}} if rejected else {}
        return Response(200, msgspec.json.encode(partial), JSON)
    message = b"\x08" + _encode_varint(rejected) + b"\x12" + _length_prefixed(reason.encode())
    return Response(200, b"\x0a" + _length_prefixed(message) if rejected else b"", PROTOBUF)


def _status(content_type: str, status: int, message: str) -> Response:
    """`google.rpc.Status` with the message alone, in the form that the request had."""
    if content_type == JSON:
        return Response(status, msgspec.json.encode({"message": message}), JSON)
    return Response(status, b"\x12" + _length_prefixed(message.encode()), PROTOBUF)


def _length_prefixed(content: bytes) -> bytes:
    return _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

"""The windows' newest samples and the control plane's log records out, by OTLP/HTTP to a collector.

The control plane runs `OtlpExporter.run` when an endpoint is configured. A request that fails for a passing reason is
tried again a bounded number of times with jittered delays, then dropped and counted: nothing queues up behind a
collector that is away. `opentelemetry-proto` is imported with the first export. HTTP is the standard library's, in a
thread.
Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from urllib.parse import urlsplit

from ..descriptions.errors import DescriptionError, TransportError
from .backoff import Backoff
from .logs import RecentLogs
from .otlp_writing import logs_request, metrics_request, rejected_points, rejected_records
from .window_query import newest
from .windows import Windows

logger = logging.getLogger(__name__)

RETRYABLE = (429, 502, 503, 504)
ATTEMPTS_MAX = 5
ANSWER_BYTES_MAX = 64 * 1024
RETRY_AFTER_S_MAX = 60.0
LOGS_MAX = 1000
"""Records in one request."""
POINTS_MAX = 10_000
"""Data points in one request."""


@dataclass(frozen=True)
class OtlpOptions:
    """Where to, and how often."""

    metrics_url: str = ""
    """Such as `http://collector:4318/v1/metrics`; empty exports no metrics."""
    logs_url: str = ""
    """Such as `http://collector:4318/v1/logs`; empty exports no logs."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Such as `Authorization`."""
    interval_s: float = 30.0
    timeout_s: float = 10.0
    tls: ssl.SSLContext | None = None
    slice: str = ""
    """Becomes the resource attribute `shoal.slice`."""

    def __post_init__(self) -> None:
        """Check the URLs."""
        for url in filter(None, (self.metrics_url, self.logs_url)):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
                raise DescriptionError(f"OTLP endpoint {url!r}", expected="http(s)://host:port/path")


@dataclass
class OtlpCounters:
    """What was sent and what was not, since start."""

    exports: int = 0
    points: int = 0
    logs: int = 0
    failures: int = 0
    """Requests given up."""
    retries: int = 0
    rejected: int = 0
    """Points or records that the collector did not take."""
    logs_lost: int = 0
    """Records that were gone before they could be sent."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    retry_after_s: float


class OtlpExporter:
    """Exports on an interval until cancelled. `clock` is the windows' clock; records are taken once."""

    def __init__(
        self,
        options: OtlpOptions,
        windows: Windows,
        logs: RecentLogs | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.options = options
        self._windows = windows
        self._logs = logs
        self._clock = clock
        self._random = random or Random()
        self._next_log = logs.seq if logs is not None else 0
        self._counters = OtlpCounters()

    @property
    def counters(self) -> OtlpCounters:
        """A copy of the counters."""
        return replace(self._counters)

    async def run(self) -> None:
        """Export now and then; a failed export is logged and the next one is made as usual."""
        while True:
            try:
                await self.export()
            except TransportError as error:
                logger.warning("otlp %s", error)
            await asyncio.sleep(self.options.interval_s)

    async def export(self) -> None:
        """Send the newest samples and the records since last time; `TransportError` when one could not be sent."""
        if self.options.metrics_url:
            await self._export_metrics()
        if self.options.logs_url and self._logs is not None:
            await self._export_logs(self._logs)
        self._counters.exports += 1

    async def _export_metrics(self) -> None:
        found = await asyncio.to_thread(newest, self._windows, self._clock())
        offset_s = time.time() - self._clock()
        for start in range(0, len(found), POINTS_MAX):
            part = found[start : start + POINTS_MAX]
            body = await asyncio.to_thread(metrics_request, part, offset_s, self.options.slice)
            self._counters.rejected += rejected_points(await self._send(self.options.metrics_url, body))
            self._counters.points += len(part)

    async def _export_logs(self, logs: RecentLogs) -> None:
        while True:
            entries, lost = logs.since(self._next_log, LOGS_MAX)
            self._counters.logs_lost += lost
            if not entries:
                return
            # Before sending: a record that no collector ever takes must not come again and again.
            self._next_log = entries[-1].seq + 1
            answer = await self._send(self.options.logs_url, logs_request(entries, self.options.slice))
            self._counters.rejected += rejected_records(answer)
            self._counters.logs += len(entries)

    async def _send(self, url: str, body: bytes) -> bytes:
        backoff = Backoff(1.0, 30.0, self._random)
        packed, problem = gzip.compress(body, 1), ""
        for attempt in range(ATTEMPTS_MAX):
            wait_s = backoff.next_s()
            try:
                answer = await asyncio.to_thread(self._post, url, packed)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if answer.status == 200:
                    return answer.body
                problem = f"answered {answer.status}"
                if answer.status not in RETRYABLE:
                    break
                wait_s = max(wait_s, answer.retry_after_s)
            if attempt < ATTEMPTS_MAX - 1:
                self._counters.retries += 1
                await asyncio.sleep(wait_s)
        self._counters.failures += 1
        raise TransportError(f"{url}: {problem}")

    def _post(self, url: str, packed: bytes) -> _Answer:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            tls = self.options.tls or ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port or 443, timeout=self.options.timeout_s, context=tls
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=self.options.timeout_s)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", **self.options.headers}
        try:
            connection.request("POST", parts.path or "/", packed, headers)
            response = connection.getresponse()
            return _Answer(
                response.status, response.read(ANSWER_BYTES_MAX), _seconds(response.getheader("Retry-After"))
            )
        finally:
            connection.close()


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` in seconds; dates and nonsense count as none."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return 0.0
    return min(float(retry_after[:9]), RETRY_AFTER_S_MAX)

"""Limits on requests: a token bucket for each principal, and how many requests and streams may run at once.

Pure bookkeeping over times that the caller gives; `gate.py` asks before it lets a request in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .refusals import RateError, UnavailableError

PRINCIPALS_MAX = 10_000
"""Buckets kept; the one used longest ago goes first, which gives its owner a full one again."""


@dataclass(frozen=True)
class ApiLimits:
    """What one request, one principal and all together may cost."""

    rate_per_s: float = 200.0
    """Requests of one principal, on average."""
    burst: int = 400
    """Requests of one principal at once."""
    in_flight_max: int = 256
    """Requests in work at once; more get 503."""
    streams_max: int = 1024
    """Open watches and logs."""
    streams_per_principal_max: int = 64
    slow_body_s: float = 10.0
    """Time for a body of up to `slow_body_bytes`; a larger one gets more in proportion."""
    slow_body_bytes: int = 1024 * 1024
    heartbeat_s: float = 15.0
    """An open stream gets a comment at least this often, and its token is checked again."""
    write_stall_s: float = 30.0
    """A stream whose client reads nothing for this long is closed."""


class RateLimiter:
    """Token buckets by principal."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, principal: str, now_s: float) -> None:
        """Take one request. Raises `RateError` with the time after which there is one again."""
        left, since_s = self._buckets.pop(principal, (float(self._burst), now_s))
        left = min(float(self._burst), left + (now_s - since_s) * self._rate_per_s)
        is_allowed = left >= 1.0
        self._buckets[principal] = (left - 1.0 if is_allowed else left, now_s)
        if len(self._buckets) > PRINCIPALS_MAX:
            self._buckets.popitem(last=False)
        if not is_allowed:
            wait_s = (1.0 - left) / self._rate_per_s
            raise RateError(f"more than {self._rate_per_s:g} requests a second", retry_after_s=wait_s)


class Occupancy:
    """How many requests and streams are in work."""

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self.requests = 0
        self.streams: Counter[str] = Counter()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold a place while a request is in work. Raises `UnavailableError` if there is none."""
        if self.requests >= self._limits.in_flight_max:
            raise UnavailableError(f"{self._limits.in_flight_max} requests are in work already")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def stream(self, principal: str) -> Iterator[None]:
        """Hold a place while a stream is open. Raises `UnavailableError` if there is none."""
        if self.streams.total() >= self._limits.streams_max:
            raise UnavailableError(f"{self._limits.streams_max} streams are open already", retry_after_s=10.0)
        if self.streams[principal] >= self._limits.streams_per_principal_max:
            most = self._limits.streams_per_principal_max
            raise UnavailableError(f"you have {most} streams open already: close one", retry_after_s=10.0)
        self.streams[principal] += 1
        try:
            yield
        finally:
            self.streams[principal] -= 1
            if not self.streams[principal]:
                del self.streams[principal]

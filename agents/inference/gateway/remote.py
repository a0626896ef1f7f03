"""Models that other nodes serve: which of them gets a request, and the way there.

`PUT /admin/routes/{model}` fills the table (`lease.Routes`). Fewest outstanding requests per weight first; an endpoint
that can't be reached rests for a while; a request whose connection failed before an answer began is tried once more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ....descriptions.errors import ProtocolError, RefusedError, TransportError
from ....descriptions.messages.lease import Endpoint, Routes
from .http.exchange import JSON, Exchange
from .http.tasks import AnswerTasks
from .http.upstream import UpstreamAnswer, UpstreamConnection

logger = logging.getLogger(__name__)

HOPS = b"shoal-hops"
CONNECT_S_MAX = 2.0
ANSWER_S_MAX = 60.0
IDLE_CONNECTIONS_MAX = 8
"""Kept a endpoint."""
REST_S_MAX = 30.0
TRIES_MAX = 2
FORWARDED = (
    b"accept",
    b"accept-encoding",
    b"authorization",
    b"content-encoding",
    b"content-type",
    b"inference-header-content-length",
    b"traceparent",
    b"tracestate",
    b"x-request-id",
)


@dataclass(eq=False)
class Upstream:
    """One endpoint of one model."""

    endpoint: Endpoint
    host: str
    port: int
    outstanding: int = 0
    failures: int = 0
    """Failed connections since the last good one."""
    rests_until_s: float = 0.0
    idle: list[UpstreamConnection] = field(default_factory=list)

    def cost(self) -> float:
        """Outstanding requests per weight, this one included."""
        return (self.outstanding + 1) / self.endpoint.weight

    def close(self) -> None:
        """Drop the connections that nobody uses."""
        for connection in self.idle:
            connection.close()
        self.idle.clear()


@dataclass(eq=False)
class RemoteModels:
    """Route table and connections."""

    node: str
    hops_max: int
    body_len_max: int
    tasks: AnswerTasks
    routes: dict[str, Routes] = field(default_factory=dict)
    forwarded: int = 0
    failed: int = 0
    _upstreams: dict[str, list[Upstream]] = field(default_factory=dict)

    def put(self, routes: Routes) -> None:
        """Take a route table unless it is older than the one there; `RefusedError` when an endpoint is no http URL."""
        known = self.routes.get(routes.model)
        if known is not None and known.generation >= routes.generation:
            return
        upstreams = [_upstream(endpoint) for endpoint in routes.endpoints]
        self.delete(routes.model)
        self.routes[routes.model] = routes
        self._upstreams[routes.model] = [
            each
            for each in upstreams
            if each.endpoint.weight > 0 and not (self.node and each.endpoint.node == self.node)
        ]

    def delete(self, model: str) -> None:
        """Forget a model's endpoints; requests on their way are finished."""
        self.routes.pop(model, None)
        for upstream in self._upstreams.pop(model, []):
            upstream.close()

    def has(self, model: str) -> bool:
        """Whether another node serves it."""
        return bool(self._upstreams.get(model))

    def forward(self, exchange: Exchange, model: str) -> None:
        """Have another node answer."""
        hops = exchange.headers.get(HOPS, b"0")
        if not hops.isdigit() or int(hops) >= self.hops_max:
            exchange.refuse(
                508, f"the request has come over {hops.decode('latin-1')[:20]} nodes; {model!r} is not here"
            )
            return
        self.tasks.start(exchange, self._forward(exchange, model, int(hops) + 1), f"forward {model}")

    def close(self) -> None:
        """Drop all routes and idle connections."""
        for model in list(self._upstreams):
            self.delete(model)

    async def _forward(self, exchange: Exchange, model: str, hops: int) -> None:
        self.forwarded += 1
        tried: list[Upstream] = []
        reason = "no endpoint is left"
        while (
            not exchange.is_answered and len(tried) < TRIES_MAX and (upstream := self._choose(model, tried)) is not None
        ):
            tried.append(upstream)
            upstream.outstanding += 1
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    answer = await self._ask(upstream, exchange, hops)
            except TransportError as error:
                reason = f"{upstream.endpoint.url}: {error}"
                self._rest(upstream)
                continue
            except (ProtocolError, TimeoutError) as error:
                reason = f"{upstream.endpoint.url}: {str(error) or 'no answer in time'}"
                break  # it may have been carried out
            finally:
                upstream.outstanding -= 1
            upstream.failures = 0
            exchange.answer(answer.status, answer.headers or JSON, answer.body)
            return
        self.failed += 1
        exchange.refuse(502, f"no other node could answer for {model!r}: {reason}")

    def _choose(self, model: str, tried: list[Upstream]) -> Upstream | None:
        left = [each for each in self._upstreams.get(model, []) if each not in tried]
        now_s = time.monotonic()
        awake = [each for each in left if each.rests_until_s <= now_s]
        return min(awake or left, key=Upstream.cost, default=None)

    def _rest(self, upstream: Upstream) -> None:
        upstream.failures += 1
        upstream.rests_until_s = time.monotonic() + min(REST_S_MAX, 2.0 ** (upstream.failures - 1))
        logger.warning("endpoint=%s failures=%d rests", upstream.endpoint.url, upstream.failures)

    async def _ask(self, upstream: Upstream, exchange: Exchange, hops: int) -> UpstreamAnswer:
        head = _head(upstream, exchange, hops)
        while upstream.idle:  # a kept connection may have been closed meanwhile: then take a fresh one
            connection = upstream.idle.pop()
            try:
                return await self._use(upstream, connection, head, exchange)
            except TransportError:
                continue
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                _, connection = await self.tasks.loop.create_connection(
                    lambda: UpstreamConnection(self.body_len_max), upstream.host, upstream.port
                )
        except (OSError, TimeoutError) as error:
            raise TransportError(f"can't connect: {str(error) or 'timed out'}") from None
        return await self._use(upstream, connection, head, exchange)

    async def _use(
        self, upstream: Upstream, connection: UpstreamConnection, head: bytes, exchange: Exchange
    ) -> UpstreamAnswer:
        answer = await connection.request([head, *exchange.body])
        if connection.is_open and len(upstream.idle) < IDLE_CONNECTIONS_MAX:
            upstream.idle.append(connection)
        elif connection.is_open:
            connection.close()
        return answer


def _upstream(endpoint: Endpoint) -> Upstream:
    refusal = RefusedError(f"endpoint {endpoint.url!r} of node {endpoint.node!r} is not http://HOST:PORT")
    try:
        parts = urlsplit(endpoint.url)
        port = 80 if parts.port is None else parts.port
    except ValueError:
        raise refusal from None
    if parts.scheme != "http" or not parts.hostname or not port or parts.path.strip("/"):
        raise refusal
    return Upstream(endpoint, parts.hostname, port)


def _head(upstream: Upstream, exchange: Exchange, hops: int) -> bytes:
    target = exchange.path + (f"?{exchange.query}" if exchange.query else "")
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    lines = [
        f"{exchange.method} {target} HTTP/1.1\r\nhost: {host}:{upstream.port}\r\n".encode("latin-1"),
        b"content-length: %d\r\n%b: %d\r\n" % (exchange.body_len, HOPS, hops),
        *(b"%b: %b\r\n" % (name, exchange.headers[name]) for name in FORWARDED if name in exchange.headers),
        b"\r\n",
    ]
    return b"".join(lines)

"""A listener's connections and what they share: limits, counts, the sweep for deadlines, and the handler."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..settings import Limits
from .connection import HttpConnection
from .exchange import Exchange

SWEEP_S = 1.0
_PEER_CREDENTIALS = struct.Struct("3i")

Handler = Callable[[Exchange], None]
Refusal = tuple[int, str]


@dataclass(eq=False)
class HttpServer:
    """Makes connections (`server.connect` is the protocol factory) and hands their requests to `handler`."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    handler: Handler
    authorize: Callable[[Exchange], Refusal | None]
    same_user_only: bool = False
    """Refuse peers of another uid (but root) by SO_PEERCRED; for Unix sockets."""
    in_flight: int = 0
    buffered_bytes: int = 0
    refused: int = 0
    """Requests that were over a limit, not allowed, or no HTTP."""
    _connections: set[HttpConnection] = field(default_factory=set)
    _sweep: asyncio.TimerHandle | None = None

    def connect(self) -> HttpConnection:
        """A protocol for a new connection."""
        return HttpConnection(self)

    def now_s(self) -> float:
        """Monotonic and precise; uvloop's own clock counts milliseconds."""
        return time.monotonic()

    def admit(self, connection: HttpConnection) -> bool:
        """Take a new connection, or say no when there are too many or it is somebody else's."""
        if self.same_user_only and not _is_same_user(connection.transport.get_extra_info("socket")):
            self.refused += 1
            return False
        if len(self._connections) >= self.limits.connections_max:
            self.refused += 1
            return False
        self._connections.add(connection)
        if self._sweep is None:
            self._sweep = self.loop.call_later(SWEEP_S, self._cut_off_late)
        return True

    def forget(self, connection: HttpConnection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)

    def refusal(self, exchange: Exchange) -> Refusal | None:
        """Why this request isn't handled, if so; asked before a body is received and again with it."""
        if self.in_flight >= self.limits.in_flight_max:
            return 503, f"{self.in_flight} requests are being handled, no more are taken now"
        return self.authorize(exchange)

    def begin(self, exchange: Exchange) -> None:
        """Handle a complete request."""
        refusal = self.refusal(exchange)
        self.in_flight += 1
        if refusal is None:
            self.handler(exchange)
        else:
            self.refused += 1
            exchange.refuse(*refusal, retry_after_s=1.0 if refusal[0] == 503 else None)

    def end(self) -> None:
        """A request that was begun has its answer, or nobody to give it to."""
        self.in_flight -= 1

    def close(self) -> None:
        """Cut off every client; answers that are on their way out are still written."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._connections):
            connection.transport.close()

    def _cut_off_late(self) -> None:
        now_s = self.now_s()
        for connection in [each for each in self._connections if each.deadline_s < now_s]:
            connection.cut_off()
        self._sweep = self.loop.call_later(SWEEP_S, self._cut_off_late) if self._connections else None


def _is_same_user(sock: socket.socket) -> bool:
    """Whether the peer of a Unix socket runs as us or as root."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
    return uid in (0, os.geteuid())

"""What a link is told and what it tells: options, presence, states, counters. Pure data, read by agents, the control
plane and tests; `link.py` does the work.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from ..descriptions.errors import DescriptionError
from .publication import Priority, Publication

PAYLOAD_BYTES_MAX = 256 * 1024
"""Largest payload either way; Mosquitto < 2.1 has no limit of its own."""


class LinkState(Enum):
    """`CONNECTED` means: CONNACK received, subscriptions made and birth acknowledged."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Protocol(Enum):
    """MQTT versions; safety never depends on 5."""

    V311 = 4
    V5 = 5


@dataclass(frozen=True)
class Presence:
    """What says that a client is there: `will`, which the broker publishes, and `birth`, published by the client.

    Both carry the session id, so that a late will of an earlier connection cannot be taken for the death of this one
    (Sparkplug's bdSeq rule).
    """

    will: Publication | None = None
    birth: Publication | None = None


@dataclass(frozen=True)
class LinkOptions:
    """How to reach the broker and as whom."""

    url: str
    """`mqtt://host:port` or `mqtts://host:port`; ports 1883 and 8883 unless said."""
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    """For `mqtts`; `ssl.create_default_context()` unless given."""
    clean_session: bool = True
    session_expiry_s: int = 3600
    """How long the broker keeps a session that isn't clean; MQTT 5 only, in 3.1.1 the broker decides."""
    subscriptions: tuple[tuple[str, int], ...] = ()
    """(topic filter, QoS), made again after each connect."""
    presence: Callable[[str], Presence] | None = None
    """Called with the session id of each new connection."""
    is_bulk: Callable[[str], bool] = field(default=lambda topic: "/up/tel/" in topic)
    """Which received topics are telemetry and queue behind control."""
    protocol: Protocol = Protocol.V311
    keepalive_s: int = 30
    tcp_user_timeout_s: float = 20.0
    """Unacknowledged bytes for this long end the connection (Linux)."""
    connect_timeout_s: float = 10.0
    """TCP, TLS, CONNACK, SUBACK and the birth's PUBACK, all together."""
    puback_timeout_s: float = 30.0
    """A broker that takes longer is taken for broken: the link reconnects."""
    housekeeping_s: float = 5.0
    """How often keepalive and PUBACK deadlines are looked at."""
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 60.0
    stable_s: float = 10.0
    """A connection shorter than this doesn't reset the backoff."""
    inflight_max: int = 20
    inflight_bulk_max: int = 16
    """Telemetry's share of the in-flight window, so that control always finds a place."""
    send_control_max: int = 1000
    send_bulk_max: int = 1000
    receive_control_max: int = 1000
    receive_bulk_max: int = 4000

    def address(self) -> tuple[str, int, bool]:
        """Host, port and whether TLS is used; `DescriptionError` when the URL is none of ours."""
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise DescriptionError(f"broker URL {self.url!r}: {error}", expected="mqtt://host:port") from None
        if parts.scheme not in ("mqtt", "mqtts") or not host or parts.username or parts.path.strip("/"):
            raise DescriptionError(
                f"broker URL {self.url!r} is not usable", expected="mqtt://host:port or mqtts://host:port"
            )
        is_tls = parts.scheme == "mqtts"
        return host, port or (8883 if is_tls else 1883), is_tls


@dataclass
class LinkCounters:
    """All that a link counts since it was made; read at any time, written only by the link."""

    connects: int = 0
    connect_failures: int = 0
    connections_lost: int = 0
    inbox_overflows: int = 0
    """Times the link disconnected because a receive queue was full."""
    oversized: int = 0
    """Connections ended because a packet was over the size cap."""
    publish_refused: int = 0
    """Publications refused because the link was not connected."""
    published: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    """Handed to the socket."""
    acknowledged: int = 0
    """PUBACKs received."""
    lost_in_flight: int = 0
    """QoS 1 publications sent and not acknowledged when the connection ended."""
    received: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    malformed_topics: int = 0
    acks_sent: int = 0
    acks_stale: int = 0
    """`ack()` after the connection it came from had ended."""
    subscriptions_refused: int = 0
    shed_send: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    shed_receive: int = 0

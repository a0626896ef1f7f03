"""The MQTT packets that matter here, as values; made by `link.py` and `broker.py`, carried by `network.py`."""

from __future__ import annotations

import msgspec


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes when a connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class Publish(msgspec.Struct, frozen=True):
    """PUBLISH; `mid` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    mid: int = 0
    origin: str = ""
    """Who really published it; not on the wire, for the eye that sees all."""


class Connect(msgspec.Struct, frozen=True):
    """CONNECT, with the SUBSCRIBE and the birth that our link sends before it calls itself connected."""

    client: str
    session: str
    clean: bool
    keepalive_s: float
    subscriptions: tuple[tuple[str, int], ...] = ()
    will: Will | None = None
    birth: Publish | None = None
    username: str = ""


class Connack(msgspec.Struct, frozen=True):
    """CONNACK, SUBACK and the birth's PUBACK in one."""

    accepted: bool
    session_present: bool = False


class Puback(msgspec.Struct, frozen=True):
    """PUBACK."""

    mid: int


class Ping(msgspec.Struct, frozen=True):
    """PINGREQ upwards, PINGRESP downwards."""


class Disconnect(msgspec.Struct, frozen=True):
    """DISCONNECT: the will is dropped."""


class Reset(msgspec.Struct, frozen=True):
    """The TCP connection is gone: FIN or RST."""


Packet = Publish | Connect | Connack | Puback | Ping | Disconnect | Reset

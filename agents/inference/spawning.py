"""What gateway and zygote say to each other: one JSON message a packet over a SOCK_SEQPACKET pair, fds beside it.

`gateway/zygote_link.py` and `worker/zygote.py` use it. A packet of the gateway carries `Spawn` and three descriptors
(worker socket, lifeline, log); a packet of the zygote carries `Preloaded`, `Spawned` (with a pidfd) or `Exited`.
"""

from __future__ import annotations

import msgspec

PACKET_MAX = 64 * 1024
SPAWN_FDS = 3


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Fork a worker."""

    incarnation: int
    """Names the worker in the answers; the gateway never uses a number twice."""
    replica: str
    plugin: str
    env: dict[str, str] = {}
    memory_limit_mib: int | None = None
    body_len_max: int = 1 << 28


class Preloaded(msgspec.Struct, frozen=True, tag="preloaded"):
    """The first packet of a zygote: its imports are done, or `error` says why it ends."""

    error: str = ""
    threads: int = 1
    """Of the zygote after its imports; more than one makes forking unsafe."""


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    """A worker runs; its pidfd comes with the packet."""

    incarnation: int
    pid: int


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A worker ended, or could not be forked."""

    incarnation: int
    reason: str


FromZygote = Preloaded | Spawned | Exited

_from_zygote = msgspec.json.Decoder(FromZygote)
_spawn = msgspec.json.Decoder(Spawn)


def encode(message: Spawn | FromZygote) -> bytes:
    """One packet."""
    return msgspec.json.encode(message)


def decode_from_zygote(packet: bytes) -> FromZygote:
    """What a zygote said; `msgspec.DecodeError` when it isn't that."""
    message: FromZygote = _from_zygote.decode(packet)
    return message


def decode_spawn(packet: bytes) -> Spawn:
    """What the gateway asked for."""
    return _spawn.decode(packet)

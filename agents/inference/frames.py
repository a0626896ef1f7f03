"""The worker protocol: bytes of a stream socket to frames and back, without any I/O.

Gateway and worker both use it; a worker in another language implements this page (`docs/inference.md`, "The worker
protocol"). A frame is a header of 32 bytes, little-endian and naturally aligned, `header_len` bytes of fields, and
`body_len` bytes of body:

    0  u32 magic "SHW1"   4  u16 type   6  u16 flags (0)   8  u64 id
    16 u32 header_len    20  u32 reserved (0)             24  u64 body_len

Fields are UTF-8 lines `name: value\n`; names that start with a colon are the protocol's own, others are HTTP headers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from ...descriptions.errors import ProtocolError

MAGIC = int.from_bytes(b"SHW1", "little")
HEADER = struct.Struct("<IHHQIIQ")
FIELDS_LEN_MAX = 64 * 1024
BODY_LEN_MAX = 1 << 30
"""What a reader takes unless told otherwise; the gateway's body limit is far below."""

Buffer = bytes | bytearray | memoryview


class FrameType(IntEnum):
    """Who sends what: `>` gateway to worker, `<` worker to gateway."""

    LOAD = 1
    """> fields: model, version, plugin, path, device, code-folders; body: options as JSON. Always the first."""
    READY = 2
    """< answer to LOAD; fields: device, reason; body: metadata as JSON."""
    INFER = 3
    """> fields: `:path`, `:operation` and request headers; body: the request's body as it came."""
    RESULT = 4
    """< answer to INFER; fields: `:status` and answer headers; body: the answer's body."""
    ERROR = 5
    """< answer to anything that could not be done; fields: `:status`; body: UTF-8 text for people."""
    METADATA = 6
    """> without body, < with the body of READY."""
    PING = 7
    """> any body up to 64 bytes."""
    PONG = 8
    """< the body of the PING."""
    DRAIN = 9
    """> answer what came before, then end; < acknowledged, nothing follows."""
    STATS = 10
    """> without body, < counters as JSON."""


class Frame(NamedTuple):
    """One frame; `body` may be a view into a larger buffer."""

    type: int
    id: int
    fields: bytes
    body: Buffer


def pack_header(frame_type: int, frame_id: int, fields_len: int, body_len: int) -> bytes:
    """The 32 bytes before fields and body."""
    return HEADER.pack(MAGIC, frame_type, 0, frame_id, fields_len, 0, body_len)


def unpack_header(data: Buffer, body_len_max: int = BODY_LEN_MAX) -> tuple[int, int, int, int]:
    """`(type, id, fields_len, body_len)`; `ProtocolError` when it is no frame or over a limit."""
    magic, frame_type, flags, frame_id, fields_len, reserved, body_len = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError(f"frame starts with {magic:#010x}, expected {MAGIC:#010x}")
    if flags or reserved:
        raise ProtocolError(f"frame has flags {flags:#x} and reserved {reserved:#x}, expected zeros")
    if not 1 <= frame_type <= FrameType.STATS:
        raise ProtocolError(f"frame type {frame_type} is unknown")
    if fields_len > FIELDS_LEN_MAX:
        raise ProtocolError(f"frame has {fields_len} bytes of fields, over {FIELDS_LEN_MAX}")
    if body_len > body_len_max:
        raise ProtocolError(f"frame has a body of {body_len} bytes, over {body_len_max}")
    return frame_type, frame_id, fields_len, body_len


def pack_fields(fields: Mapping[str, str]) -> bytes:
    """Lines of `name: value`; `ProtocolError` for a name or value that would break the lines."""
    for name, value in fields.items():
        if "\n" in value or "\r" in value or "\n" in name or not name.lstrip(":") or ":" in name[1:]:
            raise ProtocolError(f"field {name!r} can't be written")
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()


def unpack_fields(data: Buffer) -> dict[str, str]:
    """Inverse of `pack_fields`; a later line of the same name wins."""
    try:
        lines = bytes(data).decode().split("\n")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"fields are not UTF-8: {error.reason} at byte {error.start}") from None
    if lines.pop():
        raise ProtocolError("fields don't end with a newline")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line[1:].partition(": ")
        if not colon:
            raise ProtocolError(f"field line {line[:40]!r} is not `name: value`")
        fields[line[0] + name] = value
    return fields


class FrameReader:
    """Collects stream bytes and yields whole frames; never copies a byte more than twice."""

    __slots__ = ("_body_len_max", "_have", "_need", "_parts")

    def __init__(self, body_len_max: int = BODY_LEN_MAX) -> None:
        self._body_len_max = body_len_max
        self._parts: list[Buffer] = []
        self._have = 0
        self._need = HEADER.size

    @property
    def pending(self) -> int:
        """Bytes of a frame that has not come whole."""
        return self._have

    def feed(self, data: Buffer) -> list[Frame]:
        """Frames that `data` completes; after a `ProtocolError` the stream is lost."""
        self._have += len(data)
        self._parts.append(data)
        if self._have < self._need:
            return []
        view = memoryview(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        frames: list[Frame] = []
        at, self._need = 0, HEADER.size
        while self._have - at >= HEADER.size:
            frame_type, frame_id, fields_len, body_len = unpack_header(view[at : at + HEADER.size], self._body_len_max)
            size = HEADER.size + fields_len + body_len
            if self._have - at < size:
                self._need = size
                break
            body_at = at + HEADER.size + fields_len
            frames.append(
                Frame(frame_type, frame_id, bytes(view[at + HEADER.size : body_at]), view[body_at : at + size])
            )
            at += size
        self._have -= at
        self._parts = [view[at:]] if self._have else []
        return frames

"""Reads protobuf's wire format, bounded, without protobuf: field numbers and raw values in the order they come.

`otlp_reading.py` gives the numbers a meaning. The protobuf runtime would cost an agent more memory than all else that
it does with telemetry, and OTLP's definitions are not among its dependencies.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..descriptions.errors import ProtocolError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIELD_MAX = (1 << 29) - 1

Value = int | memoryview
"""A number for varints, the bytes for everything else."""


def fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Field number, wire type and value of each field; `ProtocolError` for bytes that are no message."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= FIELD_MAX:
            raise ProtocolError(f"protobuf: field number {number}")
        if wire_type == VARINT:
            value, at = _varint(message, at)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH:
            size, at = _varint(message, at)
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
        else:
            raise ProtocolError(f"protobuf: wire type {wire_type}")
        if size > end - at:
            raise ProtocolError("protobuf: a field reaches past the end of its message")
        yield number, wire_type, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ProtocolError("protobuf: malformed varint")


def sub_message(value: Value) -> memoryview:
    """A field that has to be a message."""
    if isinstance(value, int):
        raise ProtocolError("protobuf: a number where a message belongs")
    return value


def text(value: Value) -> str:
    """A field that has to be a string."""
    try:
        return bytes(sub_message(value)).decode()
    except UnicodeDecodeError:
        raise ProtocolError("protobuf: a string that isn't UTF-8") from None


def integer(value: Value) -> int:
    """A field that has to be an unsigned number, as varint."""
    if not isinstance(value, int):
        raise ProtocolError("protobuf: bytes where a number belongs")
    return value


def double(value: Value) -> float:
    """A `double`."""
    return float(_unpack("<d", value))


def fixed64(value: Value) -> int:
    """A `fixed64`."""
    return int(_unpack("<Q", value))


def sfixed64(value: Value) -> int:
    """An `sfixed64`."""
    return int(_unpack("<q", value))


def packed(layout: str, wire_type: int, value: Value) -> list[float]:
    """Elements of a repeated 64-bit field: one, or all of them packed. `layout` is of `struct`, such as `<d`."""
    raw = sub_message(value)
    if wire_type not in (FIXED64, LENGTH) or len(raw) % 8:
        raise ProtocolError("protobuf: malformed packed field")
    return [found for (found,) in struct.iter_unpack(layout, raw)]


def _unpack(layout: str, value: Value) -> float:
    raw = sub_message(value)
    if len(raw) != 8:
        raise ProtocolError("protobuf: a 64-bit field of another size")
    found: float = struct.unpack(layout, raw)[0]
    return found

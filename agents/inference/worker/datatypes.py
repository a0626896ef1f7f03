"""Datatypes of the Open Inference Protocol: table, element counts, and tensors as little-endian bytes.

Source: open-inference-protocol `inference_rest.md` and Triton's `extension_binary_data.md`. The worker uses it for
requests and answers; JSON data is `json_data.py`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....descriptions.errors import RefusedError
from ..frames import Buffer

NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<f4"),  # the upper half of a float32; numpy has no type of its own
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
SIZE = {name: dtype.itemsize for name, dtype in NUMPY.items() if name != "BYTES"} | {"BF16": 2}
"""Bytes of one element on the wire; BYTES elements carry their length before them."""
BINARY_ONLY = frozenset({"FP16", "BF16"})
"""Have no JSON form."""
ELEMENTS_MAX = 1 << 31
DIMENSIONS_MAX = 32

_BY_KIND = {dtype: name for name, dtype in NUMPY.items() if name not in {"BF16", "BYTES"}}
_LENGTH = struct.Struct("<I")


def datatype_of(array: NDArray[Any]) -> str | None:
    """The datatype that carries this array, None when none does (complex, dates, structures)."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    return _BY_KIND.get(array.dtype.newbyteorder("<"))


def element_count(name: str, shape: list[int]) -> int:
    """Product of the dimensions; refused when it could not be held, so that no size ever wraps."""
    if len(shape) > DIMENSIONS_MAX:
        raise RefusedError(f"shape of {name!r} has {len(shape)} dimensions, at most {DIMENSIONS_MAX} are allowed")
    count = 1
    for dimension in shape:
        count *= dimension
        if count > ELEMENTS_MAX:
            raise RefusedError(f"shape {shape} of {name!r} has more than {ELEMENTS_MAX} elements")
    return count


def from_bytes(name: str, datatype: str, shape: list[int], blob: Buffer) -> NDArray[Any]:
    """A tensor out of its binary form; a view of `blob` where possible."""
    count = element_count(name, shape)
    if datatype == "BYTES":
        return _split_elements(name, count, blob).reshape(shape)
    if len(blob) != count * SIZE[datatype]:
        raise RefusedError(
            f"{name!r} has {len(blob)} bytes of binary data, expected {count * SIZE[datatype]} for {datatype} {shape}"
        )
    if datatype == "BF16":
        return (np.frombuffer(blob, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    if datatype == "BOOL" and np.frombuffer(blob, np.uint8).max(initial=0) > 1:
        raise RefusedError(f"{name!r} has BOOL bytes other than 0 and 1")
    array = np.frombuffer(blob, NUMPY[datatype]).reshape(shape)
    return array if array.flags.aligned else array.copy()  # runtimes read whole vectors


def to_bytes(datatype: str, array: NDArray[Any]) -> Buffer:
    """The binary form of a tensor, row-major."""
    if datatype == "BYTES":
        elements = [element_bytes(element) for element in array.ravel().tolist()]
        return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))
    if datatype == "BF16":
        return _to_bfloat16(array).tobytes()
    flat: Any = np.ascontiguousarray(array, NUMPY[datatype]).ravel()
    return memoryview(flat).cast("B") if array.size else b""


def element_bytes(element: object) -> bytes:
    """One element of a BYTES tensor."""
    return element if isinstance(element, bytes) else str(element).encode()


def _to_bfloat16(array: NDArray[Any]) -> NDArray[np.uint16]:
    """Round to the nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2")


def _split_elements(name: str, count: int, blob: Buffer) -> NDArray[Any]:
    if len(blob) < count * _LENGTH.size:
        raise RefusedError(f"{name!r} has {len(blob)} bytes, too few for {count} BYTES elements")
    elements = np.empty(count, object)
    data, at = bytes(blob), 0
    for index in range(count):
        if at + 4 > len(data):
            raise RefusedError(f"{name!r} ends inside the length of element {index}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise RefusedError(f"element {index} of {name!r} has {length} bytes, {len(data) - at} are left")
        elements[index] = data[at : at + length]
        at += length
    if at != len(data):
        raise RefusedError(f"{name!r} has {len(data) - at} bytes after its {count} elements")
    return elements

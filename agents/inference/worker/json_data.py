"""JSON text to tensors and back, typed: no float becomes an int, no `true` a 1, no number too large an infinity.

NaN and the infinities are not JSON. Triton writes and reads them as the words `NaN`, `Infinity`, `-Infinity`, as
Python's `json` does; so does this module, on a slower path. Who wants strict JSON asks for binary outputs.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from ....descriptions.errors import RefusedError
from ..frames import Buffer
from .datatypes import BINARY_ONLY, NUMPY, element_bytes

_OPENING = re.compile(rb"[\s\[]*")
_ELEMENT: dict[str, type] = {"b": bool, "u": int, "i": int, "f": float, "O": str}


def has_non_finite_words(text: Buffer) -> bool:
    """True when the text may hold NaN or Infinity, which strict parsers refuse."""
    return b"NaN" in bytes(text) or b"Infinity" in bytes(text)


def loads_with_non_finite(text: Buffer) -> Any:
    """Parse JSON that holds NaN or Infinity; `RefusedError` when it is malformed."""
    try:
        return json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the request is not valid JSON: {error}") from None


def from_json(name: str, datatype: str, shape: list[int], data: Any) -> NDArray[Any]:
    """A tensor out of `data`: `msgspec.Raw` text or parsed lists, flat or nested as `shape`, row-major."""
    if datatype in BINARY_ONLY:
        raise RefusedError(f"{name!r} is {datatype}, which has no JSON form; send it as binary data")
    element = _ELEMENT[NUMPY[datatype].kind]
    array = _to_array(name, datatype, _typed_lists(name, element, len(shape), data))
    count = math.prod(shape)
    if array.ndim > 1 and array.size and list(array.shape) != shape:
        raise RefusedError(f"data of {name!r} is nested as {list(array.shape)}, but its shape is {shape}")
    if array.size != count:
        raise RefusedError(f"data of {name!r} has {array.size} elements, expected {count} for shape {shape}")
    return array.reshape(shape)


def to_json(name: str, datatype: str, array: NDArray[Any]) -> bytes:
    """The flat JSON list of a tensor; refused when it has no JSON form."""
    if datatype in BINARY_ONLY:
        raise RefusedError(f"output {name!r} is {datatype}, which has no JSON form; ask for it as binary data")
    flat = array.ravel()
    if datatype == "BYTES":
        return orjson.dumps([_text(name, element) for element in flat.tolist()])
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return json.dumps(flat.tolist(), separators=(",", ":")).encode()
    return orjson.dumps(np.ascontiguousarray(flat, NUMPY[datatype]), option=orjson.OPT_SERIALIZE_NUMPY)


def _text(name: str, element: object) -> str:
    try:
        return element_bytes(element).decode()
    except UnicodeDecodeError:
        raise RefusedError(f"output {name!r} has bytes that are not UTF-8; ask for it as binary data") from None


@cache
def _list_type(element: type, depth: int) -> Any:
    inner: Any = element if depth <= 1 else _list_type(element, depth - 1)
    return list[inner]


@cache
def _decoder(element: type, depth: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_list_type(element, depth))


def _typed_lists(name: str, element: type, dimensions: int, data: Any) -> Any:
    """Lists of `element`, nested as deep as the text begins; the error says where another type stands."""
    try:
        if isinstance(data, msgspec.Raw):
            text = bytes(data)
            depth = _OPENING.match(text)[0].count(b"[")  # type: ignore[index]  # matches always
            return _decoder(element, min(depth, max(dimensions, 1))).decode(text)
        depth, inner = 0, data
        while isinstance(inner, list) and depth < max(dimensions, 1):
            depth, inner = depth + 1, inner[0] if inner else None
        return msgspec.convert(data, _list_type(element, depth))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RefusedError(f"data of {name!r}: {error}") from None


def _to_array(name: str, datatype: str, lists: Any) -> NDArray[Any]:
    try:
        if datatype == "BYTES":
            array = np.array(lists, object)
            flat = array.ravel()
            flat[:] = [element.encode() if isinstance(element, str) else element for element in flat.tolist()]
            if any(isinstance(element, list) for element in flat.tolist()):
                raise RefusedError(f"data of {name!r} is ragged: inner lists differ in length")
            return flat.reshape(array.shape)
        if datatype != "FP32":
            return np.array(lists, NUMPY[datatype])
        with np.errstate(over="raise"):  # doubles that no float can hold would become infinite
            return np.array(lists, NUMPY[datatype])
    except (OverflowError, FloatingPointError):
        raise RefusedError(f"data of {name!r} has a number that is out of range for {datatype}") from None
    except ValueError:
        raise RefusedError(f"data of {name!r} is ragged: inner lists differ in length") from None

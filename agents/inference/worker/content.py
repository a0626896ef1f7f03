"""Request bodies in `Content-Encoding: gzip` or `deflate` to what they hold, with a limit against bombs."""

from __future__ import annotations

import zlib

from ....descriptions.errors import RefusedError
from ..frames import Buffer

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def decode(encoding: str | None, body: Buffer, size_max: int) -> Buffer:
    """The body without its encoding; `RefusedError` when it is unknown, damaged, or larger than `size_max` bytes."""
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in _WINDOW_BITS:
        raise RefusedError(f"Content-Encoding {name!r} is not supported; use gzip, deflate or none")
    inflater = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        data = inflater.decompress(body, size_max)
    except zlib.error as error:
        raise RefusedError(f"the body is not {name}: {error}") from None
    if inflater.unconsumed_tail:
        raise RefusedError(f"the body is larger than {size_max} bytes when it is decompressed")
    if not inflater.eof or inflater.unused_data:
        raise RefusedError(f"the {name} body is cut short or followed by other bytes")
    return data

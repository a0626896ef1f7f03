"""Bytes to message and back, with a size cap; all malformed input ends as `ProtocolError`."""

from __future__ import annotations

from functools import cache
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from ..errors import ProtocolError

SIZE_MAX = 256 * 1024
"""Largest payload on the wire in bytes; a larger desired document goes as digest and URL."""


Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
"""What names something: uids, sessions, streams, replica ids."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A number that counts up; what databases keep as an integer."""

Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
"""A quantity in the unit of its name, which is never negative."""


class Message(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What every message is built from: immutable, camelCase on the wire, defaults left out."""


T = TypeVar("T", bound=Message)


@cache
def _decoder(message_type: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(message_type)


def encode(message: Message) -> bytes:
    """UTF-8 JSON."""
    return msgspec.json.encode(message)


def decode(message_type: type[T], payload: bytes, size_max: int = SIZE_MAX) -> T:
    """Parse and validate; `ProtocolError` says what is wrong, in at most a line."""
    if len(payload) > size_max:
        raise ProtocolError(f"{message_type.__name__}: {len(payload)} bytes, over the limit of {size_max}")
    try:
        message: T = _decoder(message_type).decode(payload)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(f"{message_type.__name__}: {str(error)[:300]}") from None
    return message

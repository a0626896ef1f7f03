"""Reads what came with a request: query, headers and body, each held to its limits and turned into its model.

Called by `gate.py` for every route. Raises `InvalidError` (400) for what isn't what its type says, `DescriptionError`
(422) for what is, but says something impossible.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web
from multidict import CIMultiDictProxy
from pydantic import BaseModel, ValidationError

from ...descriptions.document import Document, Limits, Value
from ...descriptions.errors import DescriptionError
from ...descriptions.kinds import KINDS, Kind
from ...descriptions.load import load_body
from ...descriptions.messages.codec import Message, decode
from ...descriptions.strict_json import load_json, locate
from ...descriptions.validation import validate_as
from .call import Preconditions
from .limits import ApiLimits
from .refusals import InvalidError, TooLargeError, UnavailableError, UnsupportedError
from .route import PATH_PARAMETERS, Route
from .tags import parse_tag

KEY_CHARS_MAX = 128
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARS_MAX}}}")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def read_path(route: Route[Any], http: web.Request) -> dict[str, str]:
    """The parameters of the path, each of the form that it must have."""
    found = {name: http.match_info[name] for name in route.parameters}
    for name, value in found.items():
        if not re.fullmatch(PATH_PARAMETERS[name], value):
            raise InvalidError(f"{name} in the path must match {PATH_PARAMETERS[name]}")
    return found


def read_query(route: Route[Any], http: web.Request) -> BaseModel:
    """The query as the route's model; unknown and repeated parameters are errors."""
    given: dict[str, Any] = {}
    fields = {field.alias or name: field for name, field in route.query.model_fields.items()}
    for name, value in http.query.items():
        if name in given:
            raise InvalidError(f"the query parameter {name[:64]!r} comes twice")
        annotation = fields[name].annotation if name in fields else None
        given[name] = _WORDS.get(value.lower(), value) if annotation is bool else value
    try:
        return route.query.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:64]
        known = f" (known: {', '.join(fields) or 'none'})" if first["type"] == "extra_forbidden" else ""
        raise InvalidError(f"query parameter {where!r}: {first['msg']}{known}") from None


def read_preconditions(route: Route[Any], headers: CIMultiDictProxy[str]) -> Preconditions:
    """`If-Match` and `If-None-Match` (RFC 9110 §13.1)."""
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if route.method == "GET":
        return Preconditions(not_modified=(none_match or "").strip())
    if not route.preconditions:
        return Preconditions()
    if match is not None and none_match is not None:
        raise InvalidError("If-Match and If-None-Match cannot both hold")
    if none_match is not None:
        if none_match.strip() != "*":
            raise InvalidError("If-None-Match of a write is *, for an object that must not exist")
        return Preconditions(version=0)
    if match is None:
        return Preconditions()
    return Preconditions(exists=True) if match.strip() == "*" else Preconditions(version=parse_tag(match.strip()))


def read_idempotency_key(route: Route[Any], headers: CIMultiDictProxy[str]) -> str:
    """The `Idempotency-Key` of a route that changes something; empty when there is none."""
    key = headers.get("Idempotency-Key")
    if key is None or not route.mutates:
        return ""
    if not _KEY.fullmatch(key):
        raise InvalidError(f"Idempotency-Key is 1 to {KEY_CHARS_MAX} visible ASCII characters")
    return key


def check_media_type(route: Route[Any], http: web.Request) -> None:
    """Refuse bodies of other types, and compressed ones: a small one may unfold into a bomb."""
    if http.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedError("compressed bodies are not accepted: send it as it is")
    if not http.body_exists:
        if route.body_type:
            raise InvalidError(f"a body of type {route.body_type} is needed")
        return
    if route.body_type and http.content_type != route.body_type:
        raise UnsupportedError(f"Content-Type is {http.content_type[:64]}; expected {route.body_type}")


async def read_body(route: Route[Any], http: web.Request, limits: ApiLimits) -> bytes:
    """The whole body, at most `body_bytes_max` long and within the time that its length allows."""
    parts = [part async for part in body_parts(route, http, limits)]
    return b"".join(parts)


async def body_parts(route: Route[Any], http: web.Request, limits: ApiLimits) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `TooLargeError`, or `UnavailableError` if it comes too slowly."""
    if (http.content_length or 0) > route.body_bytes_max:
        raise TooLargeError(f"the body is over {route.body_bytes_max} bytes")
    received = 0
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    while True:
        allowed_s = limits.slow_body_s * (1 + received / limits.slow_body_bytes)
        try:
            async with asyncio.timeout_at(started_s + allowed_s):
                part = await http.content.readany()
        except TimeoutError:
            raise UnavailableError(f"the body came too slowly: {received} bytes in {allowed_s:.0f} s") from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise InvalidError("the body broke off") from error
        if not part:
            return
        received += len(part)
        if received > route.body_bytes_max:
            raise TooLargeError(f"the body is over {route.body_bytes_max} bytes")
        yield part


def parse_body(route: Route[Any], raw: bytes) -> BaseModel | msgspec.Struct | None:
    """The body as the route's model."""
    model = route.body
    if model is None:
        if raw.strip() not in (b"", b"{}") and not route.body_type:
            raise InvalidError("this route takes no body")
        return None
    if issubclass(model, Message):
        return decode(model, raw)
    assert issubclass(model, BaseModel)
    return parse_kind(raw) if model.__name__ in KINDS else parse_model(raw, model)


def parse_kind(raw: bytes) -> Kind:
    """A kind, with the words and places of its mistakes."""
    well_formed(raw)
    return load_body(raw, limits=BODY_LIMITS)


def parse_model(raw: bytes, model: type[BaseModel]) -> BaseModel:
    """Any other model, with the same words."""
    document = well_formed(raw)
    try:
        return validate_as(document, model)
    except DescriptionError:
        return validate_as(locate(raw.decode("utf-8-sig"), limits=BODY_LIMITS), model)


def well_formed(raw: bytes) -> Document:
    """The body as JSON data. Raises `InvalidError` with the place of what isn't JSON, or is over a limit."""
    try:
        document = load_json(raw, limits=BODY_LIMITS)
    except DescriptionError as error:
        raise InvalidError(f"the body cannot be read: {error}") from None
    _check_sizes(document.value)
    return document


BODY_LIMITS = Limits(document_bytes_max=1024 * 1024, stream_bytes_max=1024 * 1024, documents_max=1, depth_max=32)
LIST_ITEMS_MAX = 10_000
TEXT_CHARS_MAX = 64 * 1024


def _check_sizes(value: Value) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and len(item) > TEXT_CHARS_MAX:
            raise InvalidError(f"a text in the body is over {TEXT_CHARS_MAX} characters")
        if isinstance(item, dict | list):
            if len(item) > LIST_ITEMS_MAX:
                raise InvalidError(f"a list or mapping in the body is over {LIST_ITEMS_MAX} entries")
            waiting.extend(item.values() if isinstance(item, dict) else item)

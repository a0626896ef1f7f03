"""One HTTP call of the client: sends what a route takes, tries again where that is safe, and turns answers into models.

`client.py` gives it names. Safe to try again are reads and, because they carry an `Idempotency-Key`, changes.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar, cast

import aiohttp
import msgspec
from pydantic import BaseModel, ValidationError

from ... import __version__
from ...descriptions.errors import ProtocolError, RefusedError, TransportError
from .answers import Problem
from .route import DEADLINE_S, JSON, PROBLEM_JSON, Route
from .sse import EventParser, ServerEvent

A = TypeVar("A")

TRIES_MAX = 4
BACKOFF_S = 0.2
BACKOFF_S_MAX = 5.0
ANSWER_BYTES_MAX = 256 * 1024 * 1024
STREAM_SILENCE_S = 60.0
"""A stream that says nothing for this long, not even that it is alive, is dead."""


class ApiError(RefusedError):
    """The server refused; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """Stable word for programs."""
        return self.problem.code


@dataclass(frozen=True)
class Request:
    """What goes into a route."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: BaseModel | None = None
    body: BaseModel | msgspec.Struct | Mapping[str, Any] | bytes | AsyncIterator[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """A connection pool to one server."""

    def __init__(self, url: str, token: str = "", *, ca: str = "", timeout_s: float = 30.0) -> None:
        """`ca` is a PEM file that replaces the system's authorities."""
        self._url = url.rstrip("/")
        self._token = token
        self._ca = ca
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        context = ssl.create_default_context(cafile=self._ca) if self._ca else None
        connector = aiohttp.TCPConnector(ssl=context) if context is not None else aiohttp.TCPConnector()
        headers = {"User-Agent": f"shoal/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, read_bufsize=256 * 1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, route: Route[A], request: Request = Request()) -> A:
        """Call a route. Raises `ApiError` when refused, `TransportError` when the server cannot be reached or fails."""
        headers = dict(request.headers)
        if route.mutates:
            headers.setdefault("Idempotency-Key", secrets.token_hex(16))
        is_repeatable = not isinstance(request.body, AsyncIterator)
        for tries_left in range(TRIES_MAX - 1, -1, -1):
            try:
                return await self._once(route, request, headers)
            except _TryAgainError as error:
                if not tries_left or not is_repeatable:
                    raise error.cause from None
                await asyncio.sleep(error.wait_s(TRIES_MAX - tries_left))
        raise AssertionError("the last try returns or raises")

    async def stream(self, route: Route[Any], request: Request) -> AsyncIterator[ServerEvent]:
        """Events of one stream until it ends or breaks. Raises as `call` does."""
        headers = {"Accept": "text/event-stream", **request.headers}
        timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=STREAM_SILENCE_S)
        try:
            async with self._request(route, request, headers, timeout) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await _whole(response), response.headers.get("Content-Type", ""))
                parser = EventParser()
                async for chunk in response.content.iter_any():
                    for event in parser.feed(chunk):
                        yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _once(self, route: Route[A], request: Request, headers: dict[str, str]) -> A:
        try:
            async with self._request(route, request, headers, None) as response:
                body = await _whole(response)
                if response.status >= 400 and response.status not in route.also:
                    raise _refusal(response.status, body, response.headers.get("Content-Type", ""), response.headers)
                return _decoded(route, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _TryAgainError(self._unreachable(error), None) from error

    def _request(
        self, route: Route[Any], request: Request, headers: dict[str, str], timeout: aiohttp.ClientTimeout | None
    ) -> aiohttp.client._RequestContextManager:
        assert self._session is not None, "use the client with `async with`"
        params = _params(request.query)
        data = _encoded(request.body)
        if data is not None:
            headers = {"Content-Type": route.body_type or JSON, **headers}
        url = f"{self._url}{route.url(**request.path)}"
        timeout = timeout or aiohttp.ClientTimeout(total=_total_s(self._timeout_s, route), connect=10.0)
        return self._session.request(route.method, url, params=params, data=data, headers=headers, timeout=timeout)

    def _unreachable(self, error: Exception) -> TransportError:
        told = str(error) or type(error).__name__
        return TransportError(f"cannot reach the control plane at {self._url}: {told}")


class _TryAgainError(Exception):
    """Inside this module: the call may succeed if it is made again."""

    def __init__(self, cause: Exception, retry_after_s: float | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self._retry_after_s = retry_after_s

    def wait_s(self, tries: int) -> float:
        """Full jitter under a growing, bounded ceiling; what the server asks for, if it asks."""
        ceiling_s = min(BACKOFF_S_MAX, BACKOFF_S * 2**tries)
        return random.uniform(0, ceiling_s) + min(self._retry_after_s or 0.0, BACKOFF_S_MAX)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise ProtocolError(f"the answer is over {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _total_s(timeout_s: float, route: Route[Any]) -> float:
    """What the client allows; for routes that move much, what the server allows."""
    return timeout_s if route.deadline_s <= DEADLINE_S else route.deadline_s


def _refusal(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Exception:
    try:
        if not content_type.startswith(PROBLEM_JSON):
            raise ValueError
        error: Exception = ApiError(Problem.model_validate_json(body))
    except ValueError:
        error = TransportError(f"the server answered {status} without saying why; is it Shoal?")
    if status not in (429, 503):
        return error
    cause = error if status == 429 else TransportError(f"the control plane cannot answer now: {error}")
    if headers is None:
        return cause
    asked = headers.get("Retry-After", "")
    return _TryAgainError(cause, float(asked) if asked.isdigit() else None)


def _decoded(route: Route[A], body: bytes) -> A:
    answer = route.answer
    try:
        if answer is bytes:
            return cast("A", body)
        if answer is str:
            return cast("A", body.decode())
        if answer is dict:
            return cast("A", json.loads(body))
        if issubclass(answer, BaseModel):
            return answer.model_validate_json(body)
        return msgspec.json.decode(body, type=answer)
    except (ValidationError, msgspec.DecodeError, ValueError) as error:
        told = f"the answer to {route.name} cannot be read; is the control plane of another version? {error}"
        raise ProtocolError(told[:2048]) from None


def _params(query: BaseModel | None) -> dict[str, str]:
    if query is None:
        return {}
    plain = query.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in plain.items()}


def _encoded(body: Any) -> io.BytesIO | AsyncIterator[bytes] | None:
    if body is None or isinstance(body, AsyncIterator):
        return body
    if isinstance(body, BaseModel):
        return io.BytesIO(body.model_dump_json(by_alias=True, exclude_none=True).encode())
    return io.BytesIO(body if isinstance(body, bytes) else msgspec.json.encode(body))

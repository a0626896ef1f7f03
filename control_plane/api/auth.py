"""Finds out who makes a request, and refuses whoever may not.

Bearer tokens are looked up in the store for each request, so a revoked one is dead at once. Without tokens
(`--insecure`, on loopback alone) every caller is the admin, so there the request must come from this machine's own
programs and not from a web page that a browser on it happens to show.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from multidict import CIMultiDictProxy

from ..store.store import Store
from .refusals import ForbiddenError, UnauthorizedError
from .roles import Role
from .route import Route
from .tokens import Principal, find

NOBODY = Principal("", Role.VIEWER, "")
"""Who asks for what needs no token."""

INSECURE = Principal("insecure", Role.SLICE_ADMIN, "insecure")
"""Everybody, on loopback with `--insecure`."""


class Authenticator:
    """Checks tokens against the store."""

    def __init__(self, store: Store, *, insecure: bool, now_s: Callable[[], float] = time.time) -> None:
        self._store = store
        self._insecure = insecure
        self._now_s = now_s

    async def principal(self, route: Route[object], headers: CIMultiDictProxy[str]) -> Principal:
        """Who asks. Raises `UnauthorizedError` or `ForbiddenError`."""
        if self._insecure:
            _refuse_browsers(headers)
        if route.credential != "api":
            return NOBODY
        if self._insecure and "Authorization" not in headers:
            return INSECURE
        principal = await self._find(bearer(headers))
        if principal.role not in route.roles:
            raise ForbiddenError(f"the role {principal.role.value} may not {_lowered(route.summary)}")
        return principal

    async def still_counts(self, principal: Principal, headers: CIMultiDictProxy[str]) -> bool:
        """Whether the token of an open stream has not been revoked since."""
        if principal in (NOBODY, INSECURE):
            return True
        try:
            return await self._find(bearer(headers)) == principal
        except UnauthorizedError:
            return False

    async def _find(self, token: str) -> Principal:
        now_ms = int(self._now_s() * 1000)
        principal = await self._store.read(lambda tx: find(tx, token, now_ms))
        if principal is None:
            raise UnauthorizedError("the token is unknown, expired or revoked")
        return principal


def bearer(headers: CIMultiDictProxy[str]) -> str:
    """The bearer token (RFC 6750 §2.1). Raises `UnauthorizedError` if there is none."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("a bearer token is needed: Authorization: Bearer …")
    return token.strip()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refuse_browsers(headers: CIMultiDictProxy[str]) -> None:
    """A page from elsewhere cannot read our answers, but without this it could still send us requests."""
    host = headers.get("Host", "localhost")
    if not is_loopback(host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host):
        raise ForbiddenError("without tokens only requests to a loopback host are served (DNS rebinding)")
    origin = headers.get("Origin", "")
    if origin and origin.partition("://")[2] != host:
        raise ForbiddenError("without tokens no requests of pages from elsewhere are served")
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise ForbiddenError("without tokens no requests of pages from elsewhere are served")


def _lowered(summary: str) -> str:
    return f"{summary[:1].lower()}{summary[1:].rstrip('.')}"

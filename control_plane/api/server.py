"""Serves the route table over HTTP(S): made by the control plane's driver, used with `async with`.

Bound to loopback unless TLS is configured or plain text is allowed explicitly; without tokens on loopback alone.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ...descriptions.errors import DescriptionError, TransportError
from ..store.store import Store
from .auth import Authenticator, is_loopback
from .context import Context
from .gate import Gate, identified
from .handlers import HANDLERS
from .limits import ApiLimits, Occupancy
from .measures import Measures
from .routes import ROUTES
from .services import Services

HEADER_BYTES_MAX = 8190
HEADERS_MAX = 64
IDLE_S = 75.0
LINGER_S = 1.0
"""After a refusal, how long the rest of the body is read and thrown away, so that the client can read why."""


@dataclass(frozen=True)
class ApiOptions:
    """Where and how the API is served."""

    host: str = "127.0.0.1"
    port: int = 7400
    """0 = any free port."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_plaintext: bool = False
    """Serve other hosts without TLS, such as behind a proxy that has it."""
    insecure: bool = False
    """Ask for no tokens; on loopback alone."""
    limits: ApiLimits = field(default_factory=ApiLimits)
    shutdown_s: float = 5.0
    """How long requests in work may take when the server stops."""


def check_binding(options: ApiOptions) -> None:
    """Refuse to serve others without TLS, or anybody but this machine without tokens. Raises `DescriptionError`."""
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise DescriptionError("TLS needs a certificate and its key", expected="both tlsCertificate and tlsKey")
    if is_loopback(options.host):
        return
    if options.insecure:
        raise DescriptionError(f"without tokens {options.host} is not served", expected="a loopback address")
    if options.tls_certificate is None and not options.allow_plaintext:
        raise DescriptionError(
            f"tokens would cross the network readable: {options.host} is not served without TLS",
            expected="tlsCertificate and tlsKey, or --allow-plaintext behind a proxy that has them",
        )


class ApiServer:
    """A running API."""

    def __init__(
        self,
        store: Store,
        services: Services,
        options: ApiOptions,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        check_binding(options)
        self._options = options
        limits = options.limits
        self._context = Context(
            store=store,
            services=services,
            auth=Authenticator(store, insecure=options.insecure, now_s=now_s),
            limits=limits,
            occupancy=Occupancy(limits),
            measures=Measures(),
            routes=ROUTES,
            now_s=now_s,
        )
        self._gate = Gate(self._context, HANDLERS)
        self._runner = web.AppRunner(
            self._app(),
            handle_signals=False,
            access_log=None,
            logger=_http_log(),
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            shutdown_timeout=options.shutdown_s,
        )
        self.url = ""
        """Where it is served, once started."""

    async def __aenter__(self) -> ApiServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind and serve. Raises `TransportError` when the port is taken."""
        await self._runner.setup()
        context = _tls(self._options)
        site = web.TCPSite(self._runner, self._options.host, self._options.port, ssl_context=context, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._options.host}:{self._options.port}"
            raise TransportError(f"cannot serve the API at {where}: {error.strerror or error}") from error
        port = self._runner.addresses[0][1]
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        self.url = f"{'https' if context else 'http'}://{host}:{port}"

    async def close(self) -> None:
        """End the streams, let requests in work finish, stop."""
        self._gate.end_streams()
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[identified])
        for route in ROUTES:
            endpoint = self._gate.endpoint(route)
            app.router.add_route(route.method, route.path, endpoint)
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, endpoint)
        return app


def _http_log() -> logging.Logger:
    """The HTTP library's log without what clients get wrong: anybody could fill it with traces."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.addFilter(_not_of_clients)
    return logger


def _not_of_clients(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionError)


def _tls(options: ApiOptions) -> ssl.SSLContext | None:
    if options.tls_certificate is None or options.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        told = f"cannot be used for TLS: {error.strerror or error}"
        raise DescriptionError(
            told, file=str(options.tls_certificate), expected="a PEM certificate and its key"
        ) from error
    return context

"""The admin routes that the node's agent calls; `docs/inference.md` has the table.

Bodies are `descriptions.messages.gateway`. The socket takes peers of the same user (or root) only, so nothing here asks
who is calling.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote

from .... import __version__
from ....descriptions.errors import ProtocolError, RefusedError
from ....descriptions.messages.codec import decode
from ....descriptions.messages.gateway import GatewayHealth, ServingReports, ServingSpec
from ....descriptions.messages.lease import Routes
from .http.exchange import Exchange
from .http.tasks import AnswerTasks
from .remote import RemoteModels
from .reports import Reports
from .serving import Replica, Serving

REPLICA_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
MODEL_NAME_LEN_MAX = 253
DRAIN_S = 5.0
DRAIN_S_MAX = 600.0
REPLICAS_MAX = 1024

_Handler = Callable[[Exchange, str], Awaitable[None]]


@dataclass(eq=False)
class Admin:
    """Answers the agent."""

    serving: Serving
    reports: Reports
    remote: RemoteModels
    tasks: AnswerTasks
    http: str
    shut_down: Callable[[float], None]
    """Drain and end; takes the seconds."""
    is_shutting_down: bool = False
    _born_s: float = field(default_factory=time.monotonic)

    def handle(self, exchange: Exchange) -> None:
        """Answer a request in a task of its own."""
        self.tasks.start(exchange, self._answer(exchange), f"admin {exchange.method} {exchange.path}")

    async def _answer(self, exchange: Exchange) -> None:
        found = self._find(exchange.path)
        if found is None:
            exchange.refuse(404, f"nothing is at {exchange.path[:200]}")
            return
        handlers, name = found
        handler = handlers.get(exchange.method)
        if handler is None:
            exchange.refuse(405, f"{exchange.path[:200]} takes {', '.join(handlers)}", allow=", ".join(handlers))
            return
        try:
            await handler(exchange, name)
        except (ProtocolError, RefusedError) as error:
            exchange.refuse(400, str(error))

    def _find(self, path: str) -> tuple[dict[str, _Handler], str] | None:
        """Handlers by verb, and the name in the path."""
        fixed: dict[str, dict[str, _Handler]] = {
            "/admin/health": {"GET": self._health},
            "/admin/replicas": {"GET": self._list},
            "/admin/shutdown": {"POST": self._shutdown},
        }
        if path in fixed:
            return fixed[path], ""
        replica_handlers: dict[str, _Handler] = {"GET": self._get, "PUT": self._put, "DELETE": self._delete}
        route_handlers: dict[str, _Handler] = {
            "GET": self._get_route,
            "PUT": self._put_route,
            "DELETE": self._delete_route,
        }
        for prefix, handlers in (("/admin/replicas/", replica_handlers), ("/admin/routes/", route_handlers)):
            if path.startswith(prefix) and len(path) > len(prefix):
                return handlers, unquote(path[len(prefix) :])
        return None

    async def _health(self, exchange: Exchange, _name: str) -> None:
        await self.reports.measure([os.getpid()])
        replicas = self.serving.replicas.values()
        health = GatewayHealth(
            pid=os.getpid(),
            version=__version__,
            http=self.http,
            uptime_s=round(time.monotonic() - self._born_s, 3),
            replicas=len(replicas),
            ready=sum(replica.core.phase == "ready" for replica in replicas),
            pss_mib=self.reports.memory_mib(os.getpid()),
            zygotes={name: zygote.pid for name, zygote in self.serving.zygotes.items() if zygote.pid},
        )
        exchange.answer_json(health)

    async def _list(self, exchange: Exchange, _name: str) -> None:
        replicas = [replica for _, replica in sorted(self.serving.replicas.items())]
        exchange.answer_json(ServingReports(tuple(await self.reports.of(replicas))))

    async def _get(self, exchange: Exchange, name: str) -> None:
        if (replica := self._known(exchange, name)) is not None:
            (report,) = await self.reports.of([replica])
            exchange.answer_json(report)

    async def _put(self, exchange: Exchange, name: str) -> None:
        if self.is_shutting_down:
            exchange.refuse(409, "the gateway is shutting down")
            return
        if REPLICA_ID.fullmatch(name) is None:
            raise RefusedError(f"replica id {name[:300]!r} doesn't match {REPLICA_ID.pattern}")
        if name not in self.serving.replicas and len(self.serving.replicas) >= REPLICAS_MAX:
            raise RefusedError(f"there are {REPLICAS_MAX} replicas already")
        spec = decode(ServingSpec, _body(exchange))
        _check_spec(spec, set(self.serving.zygotes))
        before = frozenset(self.serving.workers)
        replica = self.serving.put(name, spec)
        has_begun = any(number not in before for number in replica.workers)
        exchange.answer_json(self.reports.report(replica), 202 if has_begun else 200)

    async def _delete(self, exchange: Exchange, name: str) -> None:
        if (replica := self._known(exchange, name)) is not None:
            self.serving.delete(replica, min(DRAIN_S_MAX, _query(exchange, "drain_s", DRAIN_S)))
            exchange.answer_json(self.reports.report(replica), 202)

    async def _get_route(self, exchange: Exchange, model: str) -> None:
        routes = self.remote.routes.get(model)
        if routes is None:
            exchange.refuse(404, f"no route to model {model[:200]!r}")
        else:
            exchange.answer_json(routes)

    async def _put_route(self, exchange: Exchange, model: str) -> None:
        routes = decode(Routes, _body(exchange))
        if routes.model != model:
            raise RefusedError(f"the body is of model {routes.model!r}, the path of {model!r}")
        self.remote.put(routes)
        exchange.answer_json(self.remote.routes[model])

    async def _delete_route(self, exchange: Exchange, model: str) -> None:
        if model not in self.remote.routes:
            exchange.refuse(404, f"no route to model {model[:200]!r}")
            return
        self.remote.delete(model)
        exchange.answer_json({})

    async def _shutdown(self, exchange: Exchange, _name: str) -> None:
        drain_s = min(DRAIN_S_MAX, _query(exchange, "drain_s", DRAIN_S))
        self.is_shutting_down = True
        exchange.answer_json({}, 202)
        self.shut_down(drain_s)

    def _known(self, exchange: Exchange, name: str) -> Replica | None:
        replica = self.serving.replicas.get(name)
        if replica is None:
            exchange.refuse(404, f"no replica {name[:300]!r}")
        return replica


def _body(exchange: Exchange) -> bytes:
    return b"".join(exchange.body)


def _query(exchange: Exchange, name: str, default: float) -> float:
    """A number out of the query."""
    values = parse_qs(exchange.query).get(name)
    if not values:
        return default
    try:
        value = float(values[-1])
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise RefusedError(f"{name} is {values[-1][:40]!r}, expected a number of at least 0")
    return value


def _check_spec(spec: ServingSpec, plugins: set[str]) -> None:
    """Refuse what could never be served; a worker finds out the rest."""
    if (
        not spec.model
        or len(spec.model) > MODEL_NAME_LEN_MAX
        or not (spec.model + spec.version + spec.device).isprintable()
    ):
        raise RefusedError(
            f"model {spec.model[:300]!r}, version {spec.version[:300]!r}: expected short printable names"
        )
    if not spec.version or "/" in spec.version:
        raise RefusedError(f"version {spec.version!r} is empty or holds a slash")
    if spec.plugin not in plugins:
        raise RefusedError(f"plugin {spec.plugin!r} is not enabled here; enabled are {', '.join(sorted(plugins))}")
    path = Path(spec.path)
    if not path.is_absolute() or not spec.path.isprintable() or not path.exists():
        raise RefusedError(f"path {spec.path[:300]!r} is not an absolute path of something that is there")
    if spec.memory_limit_mib is not None and spec.memory_limit_mib < 1:
        raise RefusedError(f"memoryLimitMib is {spec.memory_limit_mib}, expected at least 1")
    for name, value in (("requestTimeoutS", spec.request_timeout_s), ("loadTimeoutS", spec.load_timeout_s)):
        if not 0 < value <= 86400:
            raise RefusedError(f"{name} is {value}, expected more than 0 and at most a day")
    if not 1 <= spec.in_flight_max <= 1024 or not 0 <= spec.queue_max <= 100_000:
        raise RefusedError("inFlightMax must be 1 to 1024, queueMax 0 to 100000")
    if any("=" in name or "\0" in name + value or not name for name, value in spec.env.items()):
        raise RefusedError("env has a name or value that no environment can hold")

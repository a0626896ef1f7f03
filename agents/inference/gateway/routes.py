"""The public routes: Open Inference Protocol v2 and `/metrics`. The gateway forwards bodies, workers read them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from .... import __version__
from .http.exchange import Exchange
from .http.tasks import AnswerTasks
from .metrics import PrometheusText
from .models import ModelTable
from .patrol import Patrol
from .pool import Call, Pool
from .remote import RemoteModels
from .serving import Serving
from .target import Target, parse
from .tokens import TokenFile
from .worker_process import WorkerProcess

OPEN = frozenset({"live", "ready"})
"""Need no token: load balancers and supervisors have none."""
TO_WORKER = (
    b"accept",
    b"content-encoding",
    b"content-type",
    b"inference-header-content-length",
    b"traceparent",
    b"tracestate",
    b"x-request-id",
)
PROMETHEUS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    versions: list[str]
    platform: str
    inputs: msgspec.Raw
    outputs: msgspec.Raw


@dataclass(eq=False)
class Routes:
    """Answers clients."""

    models: ModelTable
    serving: Serving
    patrol: Patrol
    remote: RemoteModels
    metrics: PrometheusText
    tokens: TokenFile | None
    tasks: AnswerTasks

    def authorize(self, exchange: Exchange) -> tuple[int, str] | None:
        """Why a request over TCP is refused, if so."""
        if (refusal := self.authorize_local(exchange)) is not None:
            return refusal
        if self.tokens is None or self.tokens.accepts(exchange.headers.get(b"authorization")):
            return None
        target = parse(exchange.path)
        if target is not None and target.operation in OPEN:
            return None
        return 401, "this gateway needs a bearer token"

    def authorize_local(self, exchange: Exchange) -> tuple[int, str] | None:
        """The same for the Unix socket, whose mode is its guard."""
        if b"origin" in exchange.headers:  # a web page in somebody's browser, not a client
            return 403, "requests of web pages are not taken"
        return None

    def handle(self, exchange: Exchange) -> None:
        """Answer a request now or later."""
        target = parse(exchange.path)
        if target is None:
            exchange.refuse(404, f"nothing is at {exchange.path[:200]}")
            return
        verb = "POST" if target.operation == "infer" else "GET"
        if exchange.method != verb:
            exchange.refuse(405, f"{exchange.path[:200]} takes {verb} only", allow=verb)
            return
        match target.operation:
            case "infer":
                self._infer(exchange, target)
            case "live":
                exchange.answer_json({"live": True})
            case "ready":
                self._ready(exchange)
            case "model":
                self._model(exchange, target)
            case "model-ready":
                self._model_ready(exchange, target)
            case "models":
                exchange.answer_json({"models": sorted({*self.models.versions, *self.remote.routes})})
            case "server":
                exchange.answer_json({"name": "shoal", "version": __version__, "extensions": ["binary_tensor_data"]})
            case "metrics":
                self.tasks.start(exchange, self._metrics(exchange), "metrics")

    def _infer(self, exchange: Exchange, target: Target) -> None:
        pool = self.models.find(target.model, target.version)
        if self._is_remote(exchange, target, pool):
            return
        if pool is None:
            _refuse_unknown(exchange, target)
            return
        self.patrol.wake()
        self.models.submit(pool, Call(exchange, _fields(exchange), target.version))

    def _is_remote(self, exchange: Exchange, target: Target, pool: Pool | None) -> bool:
        """Forward when no worker here can answer and another node may."""
        if (pool is not None and pool.is_promising) or not self.remote.has(target.model):
            return False
        self.remote.forward(exchange, target.model)
        return True

    def _ready(self, exchange: Exchange) -> None:
        """Ready when every replica here is; one that is loading, broken or starting again makes it 503."""
        is_ready = all(replica.core.phase in ("ready", "stopped") for replica in self.serving.replicas.values())
        exchange.answer_json({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    def _model(self, exchange: Exchange, target: Target) -> None:
        worker = self._worker_or_refusal(exchange, target)
        if worker is None or worker.loaded is None:
            return
        metadata = msgspec.json.decode(worker.loaded.metadata, type=_Metadata)
        versions = sorted(version for version, pool in self.models.versions[target.model].items() if pool.workers)
        exchange.answer_json(msgspec.structs.replace(metadata, versions=versions))

    def _model_ready(self, exchange: Exchange, target: Target) -> None:
        if self._worker_or_refusal(exchange, target) is not None:
            exchange.answer_json({"name": target.model, "ready": True})

    def _worker_or_refusal(self, exchange: Exchange, target: Target) -> WorkerProcess | None:
        """A worker that serves the target; without one the exchange is answered, here or by another node."""
        pool = self.models.find(target.model, target.version)
        if self._is_remote(exchange, target, pool):
            return None
        if pool is None:
            _refuse_unknown(exchange, target)
            return None
        worker = self.serving.ready_worker(pool)
        if worker is None:
            exchange.refuse(503, f"model {target.model!r} is not ready", retry_after_s=1.0)
        return worker

    async def _metrics(self, exchange: Exchange) -> None:
        await self.patrol.refresh_counters()
        exchange.answer(200, PROMETHEUS, (self.metrics.render(),))


def _refuse_unknown(exchange: Exchange, target: Target) -> None:
    version = f" version {target.version!r}" if target.version else ""
    exchange.refuse(404, f"Request for unknown model: {target.model!r}{version} is not found")


def _fields(exchange: Exchange) -> bytes:
    """The fields of the INFER frame; llhttp has refused values with line ends in them."""
    headers = exchange.headers
    lines = [b":path: %b\n:operation: infer\n" % exchange.path.encode("latin-1")]
    lines += [b"%b: %b\n" % (name, headers[name]) for name in TO_WORKER if name in headers]
    return b"".join(lines)

"""`python -m shoal.agents.inference.gateway`: put the parts together and run until told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from .... import __version__
from ....descriptions.errors import ShoalError
from ....descriptions.messages.gateway import GatewayFile
from ....telemetry.logs import set_up_logging
from ..plugins import class_paths
from .admin import DRAIN_S, Admin
from .http.exchange import Exchange
from .http.server import HttpServer
from .http.tasks import AnswerTasks
from .metrics import PrometheusText
from .models import ModelTable
from .patrol import Patrol
from .place import Place, start_time
from .remote import RemoteModels
from .reports import Reports
from .routes import Routes
from .serving import Serving
from .settings import Settings, parse
from .tokens import TokenFile
from .worker_process import WorkerPlace
from .zygote_link import ZygoteLink

logger = logging.getLogger("shoal.gateway")

BACKLOG = 512
END_S = 3.0
"""Beyond the drain, for workers to end."""


def main(argv: list[str] | None = None) -> int:
    """Run a gateway; 0 after a shutdown, 1 when it can't start."""
    try:
        settings = parse(argv)
        tokens = TokenFile(settings.token_file) if settings.token_file else None
        plugins = class_paths(settings.plugins)
        place = Place(settings.dir)
        lock = place.take()
    except (ShoalError, OSError) as error:
        print(f"shoal-gateway: {error}", file=sys.stderr)
        return 1
    set_up_logging(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(settings, plugins, place, tokens))
    finally:
        place.leave()
        os.close(lock)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run(settings: Settings, plugins: dict[str, str], place: Place, tokens: TokenFile | None) -> int:
    gateway = Gateway.build(settings, plugins, place, tokens)
    try:
        listener = _listen(settings)
    except OSError as error:
        print(f"shoal-gateway: can't listen on {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 1
    await gateway.serve(listener)
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)


@dataclass(eq=False)
class Gateway:
    """All parts of one gateway process."""

    settings: Settings
    place: Place
    serving: Serving
    patrol: Patrol
    remote: RemoteModels
    routes: Routes
    public: HttpServer
    local: HttpServer
    drain_s: asyncio.Future[float]
    """Set when it is told to end."""

    @classmethod
    def build(cls, settings: Settings, plugins: dict[str, str], place: Place, tokens: TokenFile | None) -> Gateway:
        """Connect the parts; nothing runs yet."""
        loop, limits = asyncio.get_running_loop(), settings.limits
        models = ModelTable(limits.queue_s_max, loop)
        where = WorkerPlace(place.logs, limits.body_bytes_max, settings.predictors)
        serving = Serving(models, {}, where, loop)
        for name, path in plugins.items():
            serving.zygotes[name] = ZygoteLink(name, path, serving)
        patrol = Patrol(serving)
        tasks = AnswerTasks(loop)
        remote = RemoteModels(settings.node, settings.hops_max, limits.body_bytes_max * 4, tasks)
        servers: list[HttpServer] = []
        routes = Routes(models, serving, patrol, remote, PrometheusText(serving, remote, servers), tokens, tasks)
        public = HttpServer(loop, limits, routes.handle, routes.authorize)
        local = HttpServer(loop, limits, routes.handle, routes.authorize_local)
        servers += [public, local]
        return cls(settings, place, serving, patrol, remote, routes, public, local, loop.create_future())

    async def serve(self, listener: socket.socket) -> None:
        """Serve until told to end, then drain."""
        loop = asyncio.get_running_loop()
        host, port = listener.getsockname()[:2]
        http = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        admin = Admin(self.serving, Reports(self.serving), self.remote, self.routes.tasks, http, self._told_to_end)
        admin_server = HttpServer(loop, self.settings.limits, admin.handle, _allow, same_user_only=True)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._told_to_end, DRAIN_S)
        os.umask(0o077)  # sockets and logs are this user's
        listeners = [
            await loop.create_server(self.public.connect, sock=listener, backlog=BACKLOG),
            await loop.create_unix_server(self.local.connect, str(self.place.inference), backlog=BACKLOG),
            await loop.create_unix_server(admin_server.connect, str(self.place.admin), backlog=BACKLOG),
        ]
        self.patrol.start()
        gc.collect()
        gc.freeze()
        pid = os.getpid()
        self.place.publish(
            GatewayFile(pid, start_time(pid), http, str(self.place.admin), str(self.place.inference), __version__)
        )
        logger.info("gateway=%d http=%s dir=%s ready", pid, http, self.place.dir)
        drain_s = await self.drain_s
        logger.info("gateway=%d drains for %g s", pid, drain_s)
        self.place.file.unlink(missing_ok=True)
        for each in listeners[:2]:
            each.close()
        await self._drain(drain_s)
        for server in (self.public, self.local, admin_server):
            server.close()
        listeners[2].close()

    def _told_to_end(self, drain_s: float) -> None:
        if not self.drain_s.done():
            self.drain_s.set_result(drain_s)

    async def _drain(self, drain_s: float) -> None:
        """Let every replica finish what it holds."""
        for replica in list(self.serving.replicas.values()):
            self.serving.delete(replica, drain_s)
        try:
            async with asyncio.timeout(drain_s + END_S):
                await self.serving.all_gone.wait()
        except TimeoutError:
            logger.warning("workers=%d didn't end in time", len(self.serving.workers))
        await self.routes.tasks.close(drain_s)
        self.remote.close()
        self.patrol.stop()
        for zygote in self.serving.zygotes.values():
            zygote.stop()


def _allow(_exchange: Exchange) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())

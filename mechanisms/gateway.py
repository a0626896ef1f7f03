"""The node's gateway process, from the agent's side: found by its file, started when missing, talked to by its socket.

`inference.py` holds one. The gateway runs in a session of its own and outlives the agent; which one is alive is decided
by pid, start time and an answer, never by the file alone. `agents/inference/gateway/` is the other side.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from ..descriptions.errors import ProtocolError, RefusedError, TransportError
from ..descriptions.messages.codec import Message, decode, encode
from ..descriptions.messages.gateway import (
    GatewayFile,
    GatewayHealth,
    GatewayRefusal,
    ServingReport,
    ServingReports,
    ServingSpec,
)
from ..descriptions.messages.lease import Routes
from .log_files import open_log
from .process_handle import ProcessHandle, start_time
from .runner import Host
from .unix_http import Answer, ask

logger = logging.getLogger(__name__)

MODULE = "shoal.agents.inference.gateway"
FILE_MAX = 64 * 1024
START_S = 20.0
LOOK_S = 0.05
PASSED_ON = ("PATH", "LANG", "HOME", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""What the gateway takes over of the agent's environment; the accelerators' libraries may need these."""

T = TypeVar("T", bound=Message)


@dataclass
class Gateway:
    """One gateway in one folder; at most one runs, which its lock ensures."""

    host: Host
    plugins: tuple[str, ...]
    found: GatewayFile | None = None
    handle: ProcessHandle | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def folder(self) -> Path:
        """Sockets, lock and log."""
        return self.host.runtime_dir / "gateway"

    @property
    def is_up(self) -> bool:
        """Whether the process that answered last is alive still."""
        return self.found is not None and self.handle is not None and self.handle.is_alive

    @property
    def url(self) -> str:
        """Where clients on this node reach it; empty when it is not up."""
        return self.found.http if self.found is not None and self.is_up else ""

    async def adopt(self) -> bool:
        """Take over a running gateway; false when there is none."""
        if self.is_up:
            return True
        self.forget()
        try:
            data = (self.folder / "gateway.json").read_bytes()
            found = decode(GatewayFile, data, FILE_MAX)
            handle = ProcessHandle(found.pid, found.start_time)
            answer = await ask(Path(found.admin), "GET", "/admin/health") if handle.is_alive else None
        except (OSError, ProtocolError, TransportError):
            return False
        if answer is None or answer.status != 200:
            return False
        self.found, self.handle = found, handle
        handle.watch(lambda: self.host.changed("inference"))
        logger.info("gateway=%d http=%s taken over", found.pid, found.http)
        return True

    async def ensure(self) -> bool:
        """Adopt or start one; true when it was started. `TransportError` when it does not come up."""
        async with self._starting:
            if await self.adopt():
                return False
            child = await asyncio.to_thread(self._spawn)
            deadline_s = time.monotonic() + START_S
            while not await self.adopt():
                if not child.is_alive:
                    raise TransportError(f"the gateway ended with code {child.exit_code}: {self._last_words()}")
                if time.monotonic() >= deadline_s:
                    child.signal_group(signal.SIGKILL)
                    raise TransportError(f"the gateway was not up within {START_S:.0f} s")
                await asyncio.sleep(LOOK_S)
            return True

    def _spawn(self) -> ProcessHandle:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        bind = self.host.gateway
        argv = [sys.executable, "-m", MODULE, "--dir", str(self.folder), "--http", f"{bind.host}:{bind.port}"]
        argv += ["--node", self.host.node]
        argv += [word for name in self.plugins for word in ("--plugin", name)]
        argv += [word for folder in bind.predictors for word in ("--predictors", str(folder))]
        argv += ["--token-file", str(bind.token_file)] if bind.token_file else []
        argv += ["--insecure"] if bind.insecure else []
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        log, null = open_log(self.folder / "gateway.log"), os.open(os.devnull, os.O_RDONLY)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            pid = os.posix_spawn(sys.executable, argv, env, file_actions=actions, setsid=True)
        except OSError as error:
            raise TransportError(f"the gateway cannot be started: {error.strerror}") from error
        finally:
            os.close(log)
            os.close(null)
        return ProcessHandle(pid, start_time(pid))

    def _last_words(self) -> str:
        lines = (self.folder / "gateway.log").read_bytes()[-2000:].decode("utf-8", "replace").splitlines()
        return lines[-1][:300] if lines else "it wrote nothing"

    def forget(self) -> None:
        """Let go of the process that was found; it goes on if it lives."""
        if self.handle is not None:
            self.handle.close()
        self.found = self.handle = None

    # --- admin API ----------------------------------------------------------------------------------------------

    async def put(self, replica: str, spec: ServingSpec) -> ServingReport:
        """Serve it, or swap to it."""
        return await self._call(ServingReport, "PUT", f"/admin/replicas/{quote(replica)}", encode(spec))

    async def delete(self, replica: str, drain_s: float) -> None:
        """Stop serving it; what is not there is no error."""
        await self._tell("DELETE", f"/admin/replicas/{quote(replica)}?drain_s={drain_s:g}")

    async def reports(self) -> tuple[ServingReport, ...]:
        """Everything that it serves."""
        found = await self._call(ServingReports, "GET", "/admin/replicas")
        return found.replicas

    async def health(self) -> GatewayHealth:
        """The process itself."""
        return await self._call(GatewayHealth, "GET", "/admin/health")

    async def put_routes(self, routes: Routes) -> None:
        """Tell which nodes serve a model."""
        await self._call(Routes, "PUT", f"/admin/routes/{quote(routes.model)}", encode(routes))

    async def routes(self, model: str) -> Routes | None:
        """What it was told of a model."""
        reply = await self._ask("GET", f"/admin/routes/{quote(model)}")
        return None if reply.status == 404 else decode(Routes, reply.body)

    async def delete_routes(self, model: str) -> None:
        """Forget which nodes serve a model."""
        await self._tell("DELETE", f"/admin/routes/{quote(model)}")

    async def shut_down(self, drain_s: float) -> None:
        """End it when requests in flight are answered."""
        await self._tell("POST", f"/admin/shutdown?drain_s={drain_s:g}")

    async def _call(self, answer: type[T], method: str, target: str, body: bytes = b"") -> T:
        reply = await self._ask(method, target, body)
        if reply.status >= 400:
            raise _refusal(reply)
        return decode(answer, reply.body, len(reply.body))

    async def _tell(self, method: str, target: str) -> None:
        reply = await self._ask(method, target)
        if reply.status >= 400 and reply.status != 404:
            raise _refusal(reply)

    async def _ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        if self.found is None:
            raise TransportError("no gateway runs")
        return await ask(Path(self.found.admin), method, target, body)


def _refusal(reply: Answer) -> RefusedError:
    return RefusedError(f"the gateway refuses: {decode(GatewayRefusal, reply.body).error[:500]}")

"""A control plane as a process of its own, called over HTTP, and what tests wait with."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from shoal.telemetry.broker_process import BrokerProcess

from .wire_agents import WireAgent, join

SLICE = "test"


@dataclass
class Plane:
    """One control plane process on its own state folder."""

    folder: Path
    broker: BrokerProcess
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """The admin's."""
        return (self.folder / "state" / "admin.token").read_text().strip()

    def start(self) -> None:
        """Start it; `wait` until it serves."""
        password = self.folder / "password"
        password.write_text(self.broker.password())
        password.chmod(0o600)
        self.ready.unlink(missing_ok=True)
        state = self.folder / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        if not (state / "broker.json").exists():
            self.broker.credentials.save(state / "broker.json")
        environment = {
            **os.environ,
            "SHOAL_CONTROL_PLANE_SLICE": SLICE,
            "SHOAL_CONTROL_PLANE_STATE_DIR": str(state),
            "SHOAL_CONTROL_PLANE_API_PORT": self.url.rpartition(":")[2] or "0",
            "SHOAL_CONTROL_PLANE_BROKER_URL": self.broker.url,
            "SHOAL_CONTROL_PLANE_BROKER_PASSWORD_FILE": str(password),
            **self.environment,
        }
        command = [sys.executable, "-m", "shoal", "control-plane", "--ready-file", str(self.ready)]
        with (self.folder / "control-plane.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    @property
    def ready(self) -> Path:
        """Where it says where it serves."""
        return self.folder / "ready"

    async def wait(self) -> None:
        """Return when it serves."""
        await until(lambda: self.ready.exists() or self.process is None or self.process.poll() is not None, 30.0)
        assert self.ready.exists(), (self.folder / "control-plane.log").read_text()
        self.url = self.ready.read_text()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One request with the admin's token; the JSON of its answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, **arguments) as answer,
        ):
            body = await answer.json(content_type=None)
            assert answer.status < 300, body
            return body

    async def apply(self, kind: str, name: str, spec: dict[str, Any], labels: dict[str, str] | None = None) -> Any:
        """PUT one object."""
        plural = {"Policy": "policies"}.get(kind, f"{kind.lower()}s")
        body = {
            "apiVersion": "shoal.dev/v1",
            "kind": kind,
            "metadata": {"name": name, "labels": labels or {}},
            "spec": spec,
        }
        return await self.call("PUT", f"/v1/{plural}/{name}", json=body)

    async def placements(self, application: str) -> dict[str, dict[str, Any]]:
        """Replica id → its placement."""
        answer = await self.call("GET", f"/v1/applications/{application}/placements")
        return {one["id"]: one for one in answer["placements"]}


async def until(is_true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        await asyncio.sleep(0.02)


async def eventually(is_true: Callable[[], Awaitable[object]], seconds: float = 15.0) -> None:
    """Wait for a condition that has to be asked for."""
    deadline_s = time.monotonic() + seconds
    while not await is_true():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def site(plane: Plane, *names: str, heartbeat_s: float = 0.2) -> AsyncIterator[dict[str, WireAgent]]:
    """A running control plane and joined agents."""
    plane.start()
    try:
        await plane.wait()
        timings = {"heartbeat": "200ms", "lease": "1500ms", "replaceAfter": "0s", "layers": {}}
        await plane.apply("Slice", SLICE, {"failover": timings})
        async with AsyncExitStack() as stack:
            agents = {}
            for name in names:
                reply = await join(plane.url, plane.token, name)
                await asyncio.to_thread(plane.broker.password, reply.node_uid)  # Mosquitto has a list of its own
                agent = WireAgent(reply, heartbeat_s)
                agents[name] = await stack.enter_async_context(agent.connected())
            await eventually(lambda: all_ready(plane, len(names)))
            yield agents
    finally:
        if plane.process is not None and plane.process.poll() is None:
            plane.kill()


async def all_ready(plane: Plane, count: int) -> bool:
    """Whether so many nodes are ready."""
    nodes = (await plane.call("GET", "/v1/nodes"))["items"]
    return [one["status"]["phase"] for one in nodes].count("ready") == count


def web(replicas: int = 1, *arguments: str, **component: Any) -> dict[str, Any]:
    """The spec of an application with one process."""
    one = {"name": "web", "process": {"command": ["/bin/web", *arguments]}, "replicas": replicas, **component}
    return {"components": [one]}


async def phases(plane: Plane, application: str) -> dict[str, str]:
    """Replica id → phase, of replicas that are wanted."""
    return {name: one["phase"] for name, one in (await plane.placements(application)).items() if one["wanted"] == "run"}


async def status(plane: Plane, kind: str, name: str) -> dict[str, Any]:
    """Of one object; empty before the first."""
    found: dict[str, Any] = (await plane.call("GET", f"/v1/{kind.lower()}s/{name}")).get("status") or {}
    return found


async def reasons(plane: Plane) -> list[str]:
    """Reasons of all events, oldest first."""
    items = (await plane.call("GET", "/v1/events", params={"limit": "1000"}))["items"]
    return [one["reason"] for one in reversed(items)]

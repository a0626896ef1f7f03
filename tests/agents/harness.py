"""A small control plane that speaks the real messages over a real broker, and agents as real processes.

Nothing of ours is faked: documents are sealed with the product's own signing, the wire is the product's own link, the
agent is `python -m shoal agent` with a configuration file. `Plane` answers joins over HTTP, keeps what it hears, grants
leases for heartbeats and acknowledges events, as `control_plane/` does with a database behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shoal.agents.local import LocalReply, LocalRequest, ask_agent
from shoal.descriptions.messages.codec import decode, encode
from shoal.descriptions.messages.desired import (
    Desired,
    DesiredSpec,
    MechanismSetting,
    ProcessTask,
    ReplicaSpec,
    Settings,
    digest_of,
)
from shoal.descriptions.messages.gateway import GatewayFile
from shoal.descriptions.messages.joining import BrokerAccess, JoinReply, JoinRequest
from shoal.descriptions.messages.lease import Ack, Command, ControlPlaneState, Heartbeat, Lease
from shoal.descriptions.messages.reported import CommandResult, EventBatch, NodeEvent, ReplicaReport, Reported, State
from shoal.descriptions.signing import SigningKey, generate_key, seal
from shoal.descriptions.topics import node_topic, parse_topic, shared_topic
from shoal.descriptions.yaml import dump_yaml
from shoal.mechanisms.process_handle import boot_id, start_time
from shoal.mechanisms.process_record import Records
from shoal.telemetry.broker_process import BrokerProcess
from shoal.telemetry.credentials import CONTROL_PLANE
from shoal.telemetry.link import Link, LinkOptions, LinkState

SLICE, TOKEN, NODE = "test", "sj1.0123456789abcdef.token-of-the-tests", "0196-node"
DEADLINE_S = 40.0


def wait_until(holds: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until it holds; fail with `what` when it never does."""
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.02)


def replica(name: str, command: tuple[str, ...], revision: int = 1, **changes: object) -> ReplicaSpec:
    """A process component's replica."""
    task = msgspec.convert({"command": command} | changes, ProcessTask)
    return ReplicaSpec(id=name, application="app", component=name.split(".")[1], revision=revision, task=task)


@dataclass
class Heard:
    """What the node said, oldest first."""

    states: list[State] = field(default_factory=list)
    reports: list[Reported] = field(default_factory=list)
    beats: list[Heartbeat] = field(default_factory=list)
    events: dict[str, list[NodeEvent]] = field(default_factory=dict)
    """By stream; each seq once."""
    batches: int = 0
    results: list[CommandResult] = field(default_factory=list)
    telemetry: dict[str, int] = field(default_factory=dict)
    """Batches by channel."""


class Plane:
    """The control plane of one node, on a thread of its own."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.key: SigningKey = generate_key()
        self.heard = Heard()
        self.grants_leases = True
        self.lease_s = 4.0
        self.acknowledges = True
        self.fence = 1
        self.joins: list[tuple[str, JoinRequest]] = []
        self.blobs: dict[str, bytes] = {}
        self.refuse_join = 0
        """Status with which joins are refused; 0 accepts them."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plane", daemon=True)
        self._thread.start()
        self._http = _serve_http(self)
        self._link: Link | None = None
        self._receiving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def topic(self, channel: str) -> str:
        return node_topic(SLICE, NODE, channel)

    # --- life ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Come up, or come back."""
        self._do(self._connect())

    def disconnect(self) -> None:
        """Be away: the node hears and is heard of no more."""
        self._do(self._disconnect())

    async def _connect(self) -> None:
        options = LinkOptions(
            self.broker.url, CONTROL_PLANE, CONTROL_PLANE, self.broker.password(),
            subscriptions=((self.topic("up/#"), 1),),
            backoff_base_s=0.05, backoff_cap_s=0.2,
        )  # fmt: skip
        self._link = await Link(options).__aenter__()
        self._receiving = asyncio.create_task(self._receive(self._link))
        async with asyncio.timeout(DEADLINE_S):
            await self._link.wait_for(LinkState.CONNECTED)
        state = ControlPlaneState(online=True, session=self._link.session_id)
        await self._link.publish(shared_topic(SLICE, "state"), encode(state), qos=1, retain=True)

    async def _disconnect(self) -> None:
        if self._link is not None and self._receiving is not None:
            await self._link.__aexit__(None, None, None)
            self._receiving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._receiving
            self._link = None

    def close(self) -> None:
        self.disconnect()
        self._http.shutdown()
        self._http.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)  # type: ignore[arg-type]

    # --- in -----------------------------------------------------------------------------------------------------

    async def _receive(self, link: Link) -> None:
        async for message in link:
            channel = parse_topic(message.topic).channel
            if message.payload:
                self._hear(link, channel, message.payload)
            message.ack()

    def _hear(self, link: Link, channel: str, payload: bytes) -> None:
        match channel.split("/")[1:]:
            case ["state"]:
                self.heard.states.append(decode(State, payload))
            case ["reported"]:
                self.heard.reports.append(decode(Reported, payload))
            case ["hb"]:
                beat = decode(Heartbeat, payload)
                self.heard.beats.append(beat)
                if self.grants_leases:
                    lease = Lease(NODE, beat.session, beat.seq, self.lease_s, self.fence, 1)
                    self._publish(link, "down/lease", lease, qos=0)
            case ["ev", stream]:
                self._hear_events(link, stream, decode(EventBatch, payload))
            case ["cmdres"]:
                self.heard.results.append(decode(CommandResult, payload))
            case ["tel", rate]:
                self.heard.telemetry[rate] = self.heard.telemetry.get(rate, 0) + 1
            case _:
                raise AssertionError(channel)

    def _hear_events(self, link: Link, stream: str, batch: EventBatch) -> None:
        known = self.heard.events.setdefault(stream, [])
        self.heard.batches += 1
        for event in batch.events:
            if event.seq > (known[-1].seq if known else 0):
                known.append(event)
        if self.acknowledges:
            link.publish(self.topic("down/ack"), encode(Ack(stream, known[-1].seq)), qos=1)

    # --- out ----------------------------------------------------------------------------------------------------

    def _publish(self, link: Link, channel: str, message: Desired | Lease | Command, *, qos: int) -> None:
        topic = self.topic(channel)
        link.publish(topic, self.sealed(message, channel), qos=qos, retain=channel == "down/desired")

    def sealed(self, message: Desired | Lease | Command, channel: str) -> bytes:
        return seal(self.key, encode(message), context=self.topic(channel))

    def document(
        self,
        generation: int,
        *replicas: ReplicaSpec,
        mechanisms: tuple[MechanismSetting, ...] = (),
        settings: Settings | None = None,
    ) -> Desired:
        """A whole document with quick timings."""
        quick = settings or Settings(heartbeat_s=0.5, lease_s=4.0, telemetry_interval_s=1.0)
        spec = DesiredSpec(replicas=replicas, settings=quick, mechanisms=mechanisms)
        return Desired(NODE, SLICE, 1, generation, self.fence, digest_of(spec), spec)

    def want(self, document: Desired) -> None:
        """Publish it, retained."""
        self.raw("down/desired", self.sealed(document, "down/desired"), retain=True)

    def want_by_url(self, document: Desired) -> None:
        """Put it where the API would have it, and announce the place."""
        self.blobs["/v1/blobs/document"] = self.sealed(document, "down/desired")
        self.want(msgspec.structs.replace(document, spec=None, url="/v1/blobs/document"))

    def command(self, command: Command) -> None:
        self.raw("down/cmd", self.sealed(command, "down/cmd"))

    def raw(self, channel: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish these bytes on a channel of the node, or on one that all share."""

        async def publish() -> None:
            assert self._link is not None, "connect first"
            shared = channel.startswith("_/")
            topic = shared_topic(SLICE, channel.removeprefix("_/")) if shared else self.topic(channel)
            await self._link.publish(topic, payload, qos=1, retain=retain)

        self._do(publish())

    # --- what tests ask -----------------------------------------------------------------------------------------

    def report_of(self, name: str) -> ReplicaReport | None:
        """The latest report of a replica."""
        if not self.heard.reports:
            return None
        return next((one for one in self.heard.reports[-1].replicas if one.id == name), None)

    def wait_for_phase(self, name: str, phase: str, revision: int = 1) -> ReplicaReport:
        def holds() -> bool:
            found = self.report_of(name)
            return found is not None and (found.phase, found.revision) == (phase, revision)

        wait_until(holds, f"{name} to be {phase} at revision {revision}, it is {self.report_of(name)}")
        found = self.report_of(name)
        assert found is not None
        return found

    def wait_for_generation(self, generation: int) -> None:
        wait_until(
            lambda: self.heard.reports and self.heard.reports[-1].observed_generation == generation,
            f"generation {generation} to be reported",
        )

    def result_of(self, command_id: str) -> CommandResult:
        wait_until(lambda: any(one.id == command_id for one in self.heard.results), f"the result of {command_id}")
        return [one for one in self.heard.results if one.id == command_id][-1]

    def reasons(self) -> list[str]:
        """Reasons of all events of all streams."""
        return [event.reason for stream in self.heard.events.values() for event in stream]


class _Joining(http.server.BaseHTTPRequestHandler):
    plane: Plane

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.plane.joins.append((self.headers.get("Authorization", ""), decode(JoinRequest, body)))
        if self.plane.refuse_join:
            self._answer(self.plane.refuse_join, json.dumps({"title": "no"}).encode())
            return
        reply = JoinReply(
            NODE, "node-1", SLICE, BrokerAccess(self.plane.broker.url, NODE, self.plane.broker.password(NODE)),
            self.plane.url, "api-token", (self.plane.key.verify_key,), 0.5, 4.0,
        )  # fmt: skip
        self._answer(201, encode(reply))

    def do_GET(self) -> None:
        found = self.plane.blobs.get(self.path)
        is_allowed = self.headers.get("Authorization") == "Bearer api-token"
        self._answer(200 if found and is_allowed else 404, found or b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


def _serve_http(plane: Plane) -> http.server.ThreadingHTTPServer:
    handler = type("Joining", (_Joining,), {"plane": plane})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


class AgentProcess:
    """`shoal agent` of one node, started and killed by the test."""

    def __init__(self, folder: Path, run: Path, plane_url: str) -> None:
        self.folder = folder
        self.state, self.run = folder / "state", run
        self.process: subprocess.Popen[bytes] | None = None
        self.config: dict[str, object] = {
            "name": "node-1",
            "stateDir": str(self.state),
            "runtimeDir": str(self.run),
            "controlPlane": {"url": plane_url, "tokenFile": str(folder / "token")},
            "gateway": {"port": 0},
            "outbox": {"reserve": 0},
            "mechanisms": {"inference": {}, "process": {"programs": [sys.executable]}},
            "logLevel": "debug",
        }
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(TOKEN + "\n")

    def start(self, *arguments: str, preload: str = "") -> None:
        """Start it; it may have run before. `preload` is code that runs first in its process."""
        path = self.folder / "agent.yaml"
        path.write_text(dump_yaml(self.config))  # type: ignore[arg-type]
        module = ["-m", "shoal"]
        if preload:
            module = ["-c", f"{preload}\nimport sys; from shoal.__main__ import main; sys.exit(main(sys.argv[1:]))"]
        argv = [sys.executable, *module, "agent", "--config", str(path), *arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def wait(self) -> int:
        """Its exit code, when it ends by itself."""
        assert self.process is not None
        return self.process.wait(DEADLINE_S)

    def ask(self, request: LocalRequest) -> LocalReply:
        return ask_agent(self.run, request)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self) -> None:
        """The agent and everything that it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        for record in Records(self.run / "processes").load(boot_id()) if self.run.exists() else ():
            if start_time(record.pid) == record.start_time:
                os.killpg(record.pid, signal.SIGKILL)
        file = self.run / "gateway" / "gateway.json"
        if file.exists():
            found = msgspec.json.decode(file.read_bytes(), type=GatewayFile)
            if start_time(found.pid) == found.start_time:
                os.kill(found.pid, signal.SIGTERM)
                wait_until(lambda: start_time(found.pid) != found.start_time, "the gateway to end")

"""A fleet of simulated agents for `bench.py`: real MQTT clients on one event loop that speak the real messages.

Each node is a `Link` with its own credentials: birth and will, heartbeats with jitter, a report for each document. What
it doesn't do is run anything. Run as a process of its own (`python -m shoal.control_plane.bench_fleet`), so that it
shares nothing with the control plane but the broker; it writes when which document was reported as JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..descriptions.errors import ShoalError
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.desired import Desired
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import Inventory, MechanismReport, ReplicaReport, Reported, State
from ..descriptions.signing import Sealed
from ..descriptions.topics import node_topic
from ..telemetry.credentials import BrokerCredentials
from ..telemetry.link import Link, LinkOptions, LinkState, Presence, Publication

CONNECTS_AT_ONCE = 50
DESIRED_MAX = 512 * 1024


class FleetOrder(msgspec.Struct, frozen=True):
    """What the fleet is told on its command line."""

    slice: str
    broker_url: str
    credentials: str
    uids: tuple[str, ...]
    log: str
    """JSON lines `[seconds, uid, ids of ready replicas, digest]` for each report sent."""
    ready: str
    """Written once all are connected."""
    heartbeat_s: float = 5.0


@dataclass
class SimulatedAgent:
    """One node's voice."""

    order: FleetOrder
    uid: str
    password: str
    log: list[tuple[float, str, tuple[str, ...], str]]
    desired: Desired | None = None
    reports: int = 0
    beats: int = 0
    leases: int = 0
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(
            LinkOptions(
                url=self.order.broker_url,
                client_id=f"{self.uid}.bench",
                username=self.uid,
                password=self.password,
                subscriptions=((node_topic(self.order.slice, self.uid, "down/#"), 1),),
                presence=self._presence,
                housekeeping_s=20.0,
                keepalive_s=60,
            )
        )

    async def run(self) -> None:
        """Listen and beat until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._beat())

    def report(self) -> None:
        """Say what the newest document asks for, as if it ran already."""
        self.reports += 1
        desired = self.desired
        spec = desired.spec if desired is not None else None
        ready = [one for one in (spec.replicas if spec is not None else ()) if not one.draining]
        reported = Reported(
            node=self.uid,
            boot_id="bench",
            incarnation=1,
            seq=self.reports,
            epoch=desired.epoch if desired else 0,
            observed_generation=desired.generation if desired else 0,
            digest=desired.digest if desired else "",
            replicas=tuple(ReplicaReport(one.id, one.revision, "ready") for one in ready),
            mechanisms=(MechanismReport("process"),),
            inventory=Inventory(architecture="x86_64", cpu=4.0, memory_bytes=8 << 30, disk_bytes=64 << 30),
            gateway="http://127.0.0.1:8080",
        )
        self._send("up/reported", encode(reported), qos=1, retain=True)
        if desired is not None:
            self.log.append((time.monotonic(), self.uid, tuple(one.id for one in ready), desired.digest))

    def _presence(self, session: str) -> Presence:
        topic = node_topic(self.order.slice, self.uid, "up/state")
        birth = State(self.uid, session, online=True, boot_id="bench", agent_version="bench")
        will = State(self.uid, session, online=False)
        return Presence(
            will=Publication(topic, encode(will), qos=1, retain=True),
            birth=Publication(topic, encode(birth), qos=1, retain=True),
        )

    async def _listen(self) -> None:
        desired_topic = node_topic(self.order.slice, self.uid, "down/desired")
        async for message in self.link:
            if message.topic == desired_topic and message.payload:
                self._desire(message.payload)
            elif message.topic.endswith("down/lease"):
                self.leases += 1
            message.ack()

    def _desire(self, payload: bytes) -> None:
        desired = decode(Desired, bytes(decode(Sealed, payload, DESIRED_MAX).body), DESIRED_MAX)
        now = self.desired
        if now is None or (desired.epoch, desired.generation) > (now.epoch, now.generation):
            self.desired = desired
            self.report()

    async def _beat(self) -> None:
        await asyncio.sleep(random.uniform(0, self.order.heartbeat_s))
        while True:
            self.beats += 1
            desired = self.desired
            beat = Heartbeat(
                node=self.uid,
                session=self.link.session_id,
                boot_id="bench",
                seq=self.beats,
                observed_generation=desired.generation if desired else 0,
                epoch=desired.epoch if desired else 0,
                digest=desired.digest if desired else "",
            )
            self._send("up/hb", encode(beat))
            await asyncio.sleep(self.order.heartbeat_s * random.uniform(0.9, 1.1))

    def _send(self, channel: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        with contextlib.suppress(ShoalError):
            self.link.publish(node_topic(self.order.slice, self.uid, channel), payload, qos=qos, retain=retain)


async def fleet(order: FleetOrder) -> None:
    """Connect all, say so, and be there until SIGTERM."""
    credentials = BrokerCredentials.load(Path(order.credentials))
    log: list[tuple[float, str, tuple[str, ...], str]] = []
    agents = [SimulatedAgent(order, uid, credentials.password(uid), log) for uid in order.uids]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(_write(log, Path(order.log)))]
        for start in range(0, len(agents), CONNECTS_AT_ONCE):
            group = agents[start : start + CONNECTS_AT_ONCE]
            for agent in group:
                await stack.enter_async_context(agent.link)
            for agent in group:
                await agent.link.wait_for(LinkState.CONNECTED)
                agent.report()
                tasks.append(asyncio.create_task(agent.run()))
        await asyncio.to_thread(Path(order.ready).write_text, str(len(agents)))
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(log: list[tuple[float, str, tuple[str, ...], str]], path: Path) -> None:
    with path.open("ab") as file:
        while True:
            await asyncio.sleep(0.2)
            lines, log[:] = list(log), []
            file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
            file.flush()


def main(argv: Sequence[str]) -> None:
    """`bench_fleet ORDER.json`."""
    order = msgspec.json.decode(Path(argv[0]).read_bytes(), type=FleetOrder)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(fleet(order))


if __name__ == "__main__":
    main(sys.argv[1:])

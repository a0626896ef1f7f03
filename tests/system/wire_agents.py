"""Agents that speak the real messages over a real broker and run nothing: for tests of the control plane alone.

One `WireAgent` is one node: it joins over HTTP with a token, connects to MQTT with its own credentials, verifies every
seal, answers documents with reports and sends heartbeats. `agents/` has the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from shoal.descriptions.messages.codec import decode, encode
from shoal.descriptions.messages.desired import Desired
from shoal.descriptions.messages.joining import JoinReply, JoinRequest
from shoal.descriptions.messages.lease import Ack, Command, Heartbeat, Lease
from shoal.descriptions.messages.reported import (
    CommandResult,
    EventBatch,
    Inventory,
    MechanismReport,
    NodeEvent,
    ReplicaReport,
    Reported,
    State,
)
from shoal.descriptions.signing import key_ring, open_sealed
from shoal.descriptions.topics import agent_subscriptions, node_topic, parse_topic
from shoal.telemetry.link import Link, LinkOptions, LinkState, Message, Presence, Publication

DOCUMENT_MAX = 8 * 1024 * 1024


@dataclass
class WireAgent:
    """One node's voice."""

    reply: JoinReply
    heartbeat_s: float
    phase: Callable[[str], str] = lambda replica: "ready"
    """Replica id → the phase that is reported."""
    desired: Desired | None = None
    leases: list[Lease] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answer: Callable[[Command], CommandResult] = lambda command: CommandResult(command.id, ok=True)
    refused: list[str] = field(default_factory=list)
    incarnation: int = 1
    _seq: int = 0
    _beats: int = 0
    _link: Link | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """The node's."""
        return self.reply.node_uid

    @property
    def running(self) -> tuple[str, ...]:
        """Replicas that the document wants here and that don't drain."""
        spec = self.desired.spec if self.desired is not None else None
        return tuple(one.id for one in spec.replicas if not one.draining) if spec is not None else ()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[WireAgent]:
        """Be there for as long as the block lasts; leaving it by an error looks like a crash."""
        options = LinkOptions(
            url=self.reply.broker.url,
            client_id=f"{self.uid}.wire",
            username=self.reply.broker.username,
            password=self.reply.broker.password,
            subscriptions=tuple((topic, 1) for topic in agent_subscriptions(self.reply.slice, self.uid)),
            presence=self._presence,
            backoff_base_s=0.05,
            backoff_cap_s=0.5,
        )
        async with Link(options) as self._link:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]
            try:
                await self._link.wait_for(LinkState.CONNECTED)
                self.report()
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def crash(self) -> None:
        """Be gone without a word; the broker publishes the will."""
        assert self._link is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.__aexit__(RuntimeError, RuntimeError("crash"), None)

    def report(self) -> None:
        """Say what runs."""
        self._seq += 1
        desired = self.desired
        spec = desired.spec if desired is not None else None
        replicas = tuple(
            ReplicaReport(one.id, one.revision, self.phase(one.id))  # type: ignore[arg-type]
            for one in (spec.replicas if spec is not None else ())
            if not one.draining
        )
        reported = Reported(
            self.uid, "boot", self.incarnation, self._seq,
            epoch=desired.epoch if desired else 0,
            observed_generation=desired.generation if desired else 0,
            digest=desired.digest if desired else "",
            replicas=replicas,
            inventory=Inventory(architecture="x86_64", cpu=4.0, memory_bytes=8 * 1024**3, disk_bytes=64 * 1024**3),
            gateway=f"http://{self.reply.node_name}.test:8080",
            mechanisms=(MechanismReport("inference"), MechanismReport("process")),
        )  # fmt: skip
        self._send("up/reported", encode(reported), qos=1, retain=True)

    def say_goodbye(self) -> None:
        """Offline by intention."""
        assert self._link is not None
        state = State(self.uid, self._link.session_id, online=False, boot_id="boot", clean=True)
        self._send("up/state", encode(state), qos=1, retain=True)

    def send_events(self, stream: str, first: int, count: int, *, first_available: int = 1) -> None:
        """A batch of durable events."""
        events = tuple(
            NodeEvent(seq, "2026-01-01T00:00:00Z", "Replica", "ReplicaReady", f"event {seq}")
            for seq in range(first, first + count)
        )
        batch = EventBatch(self.uid, stream, events, first_available)
        self._send(f"up/ev/{stream}", encode(batch), qos=1)

    def send_raw(self, channel: str, payload: bytes) -> None:
        """Whatever a test likes."""
        self._send(channel, payload, qos=1)

    def _presence(self, session: str) -> Presence:
        topic = node_topic(self.reply.slice, self.uid, "up/state")
        birth = State(self.uid, session, online=True, boot_id="boot", agent_version="0")
        will = State(self.uid, session, online=False)
        return Presence(
            will=Publication(topic, encode(will), qos=1, retain=True),
            birth=Publication(topic, encode(birth), qos=1, retain=True),
        )

    async def _beat(self) -> None:
        while True:
            if self._link is not None and self._link.state is LinkState.CONNECTED:
                self._beats += 1
                desired = self.desired
                beat = Heartbeat(
                    self.uid, self._link.session_id, "boot", self._beats,
                    desired.generation if desired else 0, desired.epoch if desired else 0,
                    desired.digest if desired else "",
                )  # fmt: skip
                self._send("up/hb", encode(beat))
            await asyncio.sleep(self.heartbeat_s)

    async def _listen(self) -> None:
        assert self._link is not None
        async for message in self._link:
            await self._take(message)
            message.ack()

    async def _take(self, message: Message) -> None:
        topic = parse_topic(message.topic)
        match topic.channel:
            case "down/desired" if message.payload:
                await self._desire(decode(Desired, self._open(message), DOCUMENT_MAX))
            case "down/lease":
                self.leases.append(decode(Lease, self._open(message)))
            case "down/ack":
                self.acks.append(decode(Ack, message.payload))
            case "down/cmd":
                command = decode(Command, self._open(message))
                self.commands.append(command)
                self._send("up/cmdres", encode(self.answer(command)), qos=1)
            case _:
                pass

    async def _desire(self, desired: Desired) -> None:
        now = self.desired
        if now is not None and (desired.epoch, desired.generation) < (now.epoch, now.generation):
            self.refused.append(f"{desired.generation} after {now.generation}")
            return
        if desired.url:
            desired = await self._fetch(desired)
        self.desired = desired
        self.report()

    async def _fetch(self, desired: Desired) -> Desired:
        headers = {"Authorization": f"Bearer {self.reply.api_token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.reply.api_url + desired.url, headers=headers) as got,
        ):
            got.raise_for_status()
            sealed = await got.read()
        topic = node_topic(self.reply.slice, self.uid, "down/desired")
        body = open_sealed(key_ring(self.reply.verify_keys), sealed, DOCUMENT_MAX, context=topic)
        return decode(Desired, body, DOCUMENT_MAX)

    def _open(self, message: Message) -> bytes:
        return open_sealed(key_ring(self.reply.verify_keys), message.payload, DOCUMENT_MAX, context=message.topic)

    def _send(self, channel: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        assert self._link is not None
        with contextlib.suppress(Exception):  # not connected: the next report says it again
            self._link.publish(node_topic(self.reply.slice, self.uid, channel), payload, qos=qos, retain=retain)


async def join(api_url: str, admin_token: str, name: str, layer: str = "edge") -> JoinReply:
    """Mint a token and join with it."""
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {admin_token}"}
        async with session.post(f"{api_url}/v1/join-tokens", json={"node": name}, headers=headers) as answer:
            answer.raise_for_status()
            token: Any = (await answer.json())["token"]
        request = JoinRequest(name, f"nonce-{name}", Inventory(cpu=4.0, memory_bytes=8 * 1024**3), "0", layer)
        async with session.post(
            f"{api_url}/v1/join",
            data=encode(request),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        ) as answer:
            body = await answer.read()
            assert answer.status == 200, body
    return msgspec.json.decode(body, type=JoinReply)

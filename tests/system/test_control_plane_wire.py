"""A real control plane process, a real broker, real HTTP; agents that speak the wire and run nothing."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shoal.descriptions.messages.codec import encode
from shoal.descriptions.messages.lease import Heartbeat
from shoal.descriptions.messages.logs import LogChunk, LogEntry
from shoal.descriptions.messages.reported import CommandResult
from shoal.telemetry.broker_process import BrokerProcess

from .planes import Plane, eventually, phases, reasons, site, status, until, web
from .wire_agents import WireAgent


@pytest.fixture
def plane(tmp_path: Path, broker: BrokerProcess) -> Plane:
    """Not started yet; over Mosquitto and the embedded broker in turn."""
    return Plane(tmp_path, broker)


def running(agents: dict[str, WireAgent]) -> dict[str, list[str]]:
    """Node → replicas that its newest document wants there."""
    return {name: list(agent.running) for name, agent in agents.items() if agent.running}


def test_an_application_is_placed_and_becomes_ready(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1", "n2") as agents:
            await plane.apply("Application", "app", web(2))
            await until(lambda: sum(map(len, running(agents).values())) == 2)
            await eventually(lambda: is_ready(plane, "app", 2))
            assert all(agent.leases for agent in agents.values())
            found = await status(plane, "Application", "app")
            assert {one["type"]: one["status"] for one in found["conditions"]}["Ready"] == "True"
            assert plane.stop() == 0

    asyncio.run(run())


async def is_ready(plane: Plane, application: str, count: int) -> bool:
    """Whether so many replicas are wanted and ready."""
    found = await status(plane, "Application", application)
    return (found.get("desired"), found.get("ready")) == (count, count)


def test_a_dead_node_is_replaced_and_gives_way_when_it_returns(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1", "n2") as agents, AsyncExitStack() as stack:
            await plane.apply("Application", "app", web(1))
            await eventually(lambda: is_ready(plane, "app", 1))
            first = next(iter(running(agents)))
            other = "n2" if first == "n1" else "n1"
            victim = agents[first]
            await victim.crash()
            await eventually(lambda: node_phase(plane, first, "lost"))
            await until(lambda: running(agents).get(other) == ["app.web.2"])
            await eventually(lambda: told_of(plane, "ReplicaLost"))
            told = await reasons(plane)
            assert told.index("NodeSuspect") < told.index("NodeLost") < told.index("ReplicaLost")
            await stack.enter_async_context(victim.connected())
            await until(lambda: not victim.running)
            await eventually(lambda: only(plane, "app.web.2"))

    asyncio.run(run())


async def node_phase(plane: Plane, name: str, phase: str) -> bool:
    """Whether a node is in this phase."""
    return bool((await status(plane, "Node", name)).get("phase") == phase)


async def only(plane: Plane, *replicas: str) -> bool:
    """Whether these are all the rows that there are, ready."""
    return await phases(plane, "app") == dict.fromkeys(replicas, "ready") and len(await plane.placements("app")) == len(
        replicas
    )


def test_a_drained_node_is_emptied(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1", "n2") as agents:
            await plane.apply("Application", "app", web(2, placement={"spread": [{"required": True}]}))
            await eventually(lambda: is_ready(plane, "app", 2))
            await plane.call("POST", "/v1/nodes/n1/cordon")
            await plane.apply("Application", "app", web(2))
            await plane.call("POST", "/v1/nodes/n1/drain")
            await until(lambda: len(running(agents).get("n2", [])) == 2 and "n1" not in running(agents))
            await eventually(lambda: is_ready(plane, "app", 2))
            await plane.call("POST", "/v1/nodes/n1/uncordon")

    asyncio.run(run())


def test_a_new_model_version_is_rolled_out_without_a_gap(plane: Plane) -> None:
    async def upload(contents: bytes, version: str) -> None:
        source = {"file": "m.onnx", "sha256": hashlib.sha256(contents).hexdigest()}
        spec = {"format": "onnx", "version": version, "source": source}
        await plane.apply("Model", "digits", spec)
        headers = {"Content-Type": "application/octet-stream"}
        await plane.call("PUT", "/v1/models/digits/content", data=contents, headers=headers)

    async def run() -> None:
        async with site(plane, "n1", "n2") as agents:
            component = {"name": "classify", "inference": {"model": "digits"}, "replicas": 2}
            await plane.apply("Application", "app", {"components": [component]})
            await upload(b"first", "1")
            await eventually(lambda: is_ready(plane, "app", 2))
            assert len((await status(plane, "Application", "app"))["replicas"][0]["url"]) > 0
            least = 2

            async def is_new() -> bool:
                nonlocal least
                found = await phases(plane, "app")
                least = min(least, list(found.values()).count("ready"))
                versions = {
                    one.task.version  # type: ignore[union-attr]
                    for agent in agents.values()
                    if agent.desired is not None and agent.desired.spec is not None
                    for one in agent.desired.spec.replicas
                }
                return versions == {"2"} and sorted(found) == ["app.classify.3", "app.classify.4"]

            await upload(b"second", "2")
            await eventually(is_new)
            assert least == 2
            digest = hashlib.sha256(b"second").hexdigest()
            assert await fetch(plane, agents["n1"], digest) == (200, b"second")
            assert (await fetch(plane, agents["n1"], "0" * 64))[0] == 404

    asyncio.run(run())


async def fetch(plane: Plane, agent: WireAgent, digest: str) -> tuple[int, bytes]:
    """Fetch contents as an agent does."""
    headers = {"Authorization": f"Bearer {agent.reply.api_token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{plane.url}/v1/blobs/{digest}") as answer,
    ):
        return answer.status, await answer.read()


def test_kill_9_loses_nothing_and_tells_nobody_anything_again(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1", "n2") as agents:
            await plane.apply("Application", "app", web(2))
            await eventually(lambda: is_ready(plane, "app", 2))
            before = await plane.placements("app")
            generations = {name: agent.desired.generation for name, agent in agents.items() if agent.desired}
            written = asyncio.create_task(plane.apply("Application", "late", web(1)))
            await written
            plane.kill()
            plane.start()
            await plane.wait()
            await eventually(lambda: is_ready(plane, "late", 1))
            assert await plane.placements("app") == before
            await eventually(lambda: both_ready(plane))
            changed = [n for n, agent in agents.items() if agent.desired and agent.desired.generation != generations[n]]
            assert len(changed) == 1, "only the node of `late` is told anything"
            assert not any(agent.refused for agent in agents.values())
            assert "NodeLost" not in await reasons(plane)

    asyncio.run(run())


async def both_ready(plane: Plane) -> bool:
    """Whether both nodes are ready."""
    return await node_phase(plane, "n1", "ready") and await node_phase(plane, "n2", "ready")


def test_a_dead_broker_is_no_reason_to_evict(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1", "n2") as agents:
            await plane.apply("Application", "app", web(2))
            await eventually(lambda: is_ready(plane, "app", 2))
            before = await plane.placements("app")
            await asyncio.to_thread(plane.broker.kill)
            await asyncio.sleep(3.0)  # two leases: time enough for a wrong verdict
            await asyncio.to_thread(plane.broker.start)
            await plane.apply("Application", "late", web(1))
            await eventually(lambda: is_ready(plane, "late", 1), 30.0)
            assert await plane.placements("app") == before
            assert "NodeLost" not in await reasons(plane)
            assert sum(map(len, running(agents).values())) == 3

    asyncio.run(run())


def test_events_count_once_and_are_acknowledged_after_the_commit(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1") as agents:
            agent = agents["n1"]
            agent.send_events("s1", 1, 3)
            agent.send_events("s1", 3, 2)
            agent.send_events("s1", 1, 5)
            await until(lambda: agent.acks and agent.acks[-1].upto == 5)
            agent.send_events("s1", 9, 2)
            agent.send_events("s2", 7, 1, first_available=7)
            await until(lambda: any(ack.stream == "s2" for ack in agent.acks))
            items = (await plane.call("GET", "/v1/events", params={"node": "n1", "limit": "1000"}))["items"]
            told = sorted(one["message"] for one in items if one["reason"] == "ReplicaReady")
            assert told == [f"event {seq}" for seq in (1, 2, 3, 4, 5, 7)]
            await eventually(lambda: told_of(plane, "EventsLost"))
            assert max(ack.upto for ack in agent.acks if ack.stream == "s1") == 5

    asyncio.run(run())


async def told_of(plane: Plane, reason: str) -> bool:
    """Whether there is an event with this reason."""
    return reason in await reasons(plane)


def test_nonsense_is_dropped_and_counted(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1") as agents:
            agent = agents["n1"]
            agent.send_raw("up/hb", b"{")
            agent.send_raw("up/reported", b"\xff" * 1000)
            agent.send_raw("up/hb", encode(Heartbeat("another", "s", "b", 1)))
            agent.send_raw("up/nothing", b"{}")
            agent.send_raw("up/tel/hi", b"no telemetry")
            await eventually(lambda: counted(plane, 'shoal_mqtt_dropped{reason="channel"} 1'))
            text = await metrics(plane)
            for line in ('reason="payload"} 2', 'reason="sender"} 1', 'reason="telemetry"} 1'):
                assert f"shoal_mqtt_dropped{{{line}" in text
            await plane.apply("Application", "app", web(1))
            await eventually(lambda: is_ready(plane, "app", 1))

    asyncio.run(run())


async def metrics(plane: Plane) -> str:
    """Prometheus text."""
    headers = {"Authorization": f"Bearer {plane.token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{plane.url}/metrics") as answer:
        return await answer.text()


async def counted(plane: Plane, line: str) -> bool:
    """Whether a line is among the metrics."""
    return line in await metrics(plane)


def test_a_large_document_is_fetched_by_its_url(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1") as agents:
            long = ["x" * 4000] * 40
            await plane.apply("Application", "app", web(1, *long))
            await until(lambda: agents["n1"].running == ("app.web.1",))
            await eventually(lambda: is_ready(plane, "app", 1))

    asyncio.run(run())


def test_logs_are_asked_of_the_node_that_has_them(plane: Plane) -> None:
    async def run() -> None:
        async with site(plane, "n1") as agents:

            def answer(command: Any) -> CommandResult:
                chunk = LogChunk((LogEntry("hello", replica="app.web.1"),), "1")
                return CommandResult(command.id, ok=True, body=encode(chunk).decode())

            agents["n1"].answer = answer
            await plane.apply("Application", "app", web(1))
            await until(lambda: agents["n1"].running == ("app.web.1",))
            lines = await plane.call("GET", "/v1/logs", params={"application": "app", "component": "web"})
            found = [(one["node"], one["replica"], one["line"]) for one in lines["lines"]]
            assert found == [("n1", "app.web.1", "hello")]
            assert agents["n1"].commands[0].verb == "logs"

    asyncio.run(run())

"""`shoal bench control`: how long from a change to 1,000 nodes having heard and answered, over a real Mosquitto.

Processes: Mosquitto, the control plane as it is, a fleet of 1,000 simulated agents (`bench_fleet.py`), and this one,
which changes one application after another over the API. Every application runs one replica on one node; a change is a
new command for it, which the control plane rolls out: a new replica, ready, the old one drained, gone. Measured is from
the API's answer (the change is durable then) to the report in which the new replica is ready. All clocks are the
machine's monotonic one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from ..descriptions.errors import TransportError
from ..descriptions.kinds import Node
from ..descriptions.kinds.meta import Metadata
from ..descriptions.kinds.node import Hardware, NodeSpec, NodeStatus
from ..telemetry.broker_process import Mosquitto
from ..telemetry.credentials import CONTROL_PLANE, BrokerCredentials
from .api.tokens import ensure_admin
from .bench_fleet import FleetOrder
from .documents import to_document
from .store.store import Store
from .store.transaction import Transaction, new_uid

SLICE = "bench"
NODES = 1000
CHANGES_PER_S = 100
SECONDS = 30
READS_PER_S = 10
START_S = 120.0
SETTLE_S = 60.0


@dataclass(frozen=True)
class Figure:
    """One measured number and the bar that it must reach."""

    name: str
    value: float
    unit: str
    reach: dict[str, float] = field(default_factory=dict)


@dataclass
class Bench:
    """The processes and what they are told."""

    folder: Path
    nodes: int
    uids: tuple[str, ...] = ()
    url: str = ""
    token: str = ""
    control_plane: psutil.Process | None = None

    def cpu_s(self) -> float:
        """What the control plane has used of all cores."""
        times = self.control_plane.cpu_times() if self.control_plane is not None else None
        return times.user + times.system if times is not None else 0.0

    @property
    def log(self) -> Path:
        """Where the fleet writes."""
        return self.folder / "reports.jsonl"

    def reports(self) -> Iterator[tuple[float, str, tuple[str, ...], str]]:
        """What was reported so far."""
        kind = tuple[float, str, tuple[str, ...], str]
        with self.log.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield msgspec.json.decode(line, type=kind)


def run(nodes: int = NODES, changes_per_s: int = CHANGES_PER_S, seconds: float = SECONDS) -> list[Figure]:
    """Measure; needs Mosquitto on this machine."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder, ExitStack() as stack:
        bench = Bench(Path(folder), nodes)
        credentials = BrokerCredentials.create(SLICE)
        broker = Mosquitto(bench.folder / "mosquitto", credentials, limits=("max_connections -1",))
        stack.enter_context(broker)
        asyncio.run(_prepare(bench, credentials))
        broker.passwords(*bench.uids)
        stack.enter_context(_control_plane(bench, broker))
        stack.enter_context(_fleet(bench, broker))
        return asyncio.run(_measure(bench, changes_per_s, seconds))


async def _prepare(bench: Bench, credentials: BrokerCredentials) -> None:
    """A database in which the nodes have joined already: what joining costs is not this bench's question."""
    state = bench.folder / "state"
    state.mkdir(mode=0o700)
    credentials.save(state / "broker.json")
    bench.uids = tuple(new_uid(1_700_000_000_000 + number) for number in range(bench.nodes))

    def fill(tx: Transaction) -> None:
        ensure_admin(tx, state / "admin.token")
        for number, uid in enumerate(bench.uids):
            status = NodeStatus(uid=uid, hardware=Hardware(cpu=4.0, memory=8 << 30))
            node = Node(metadata=Metadata(name=f"node-{number}"), spec=NodeSpec(), status=status)
            tx.put("Node", node.metadata.name, to_document(node), new_generation=True)

    async with await Store.open(f"sqlite:///{state / 'shoal.db'}") as store:
        await store.write(fill)
    bench.token = (state / "admin.token").read_text().strip()


@contextmanager
def _control_plane(bench: Bench, broker: Mosquitto) -> Iterator[None]:
    ready, password = bench.folder / "ready", bench.folder / "password"
    password.write_text(broker.password(CONTROL_PLANE))
    environment = {
        **os.environ,
        "SHOAL_CONTROL_PLANE_SLICE": SLICE,
        "SHOAL_CONTROL_PLANE_STATE_DIR": str(bench.folder / "state"),
        "SHOAL_CONTROL_PLANE_API_PORT": "0",
        "SHOAL_CONTROL_PLANE_BROKER_URL": broker.url,
        "SHOAL_CONTROL_PLANE_BROKER_PASSWORD_FILE": str(password),
        "SHOAL_CONTROL_PLANE_LOG_LEVEL": "warning",
    }
    profile = os.environ.get("SHOAL_BENCH_PROFILE", "")
    module = ["-m", "cProfile", "-o", profile] if profile else []
    command = [sys.executable, *module, "-m", "shoal", "control-plane", "--ready-file", str(ready)]
    with _process(command, bench.folder / "control-plane.log", environment) as process:
        bench.control_plane = psutil.Process(process.pid)
        _wait_for(ready, bench.folder / "control-plane.log")
        bench.url = ready.read_text()
        yield


@contextmanager
def _fleet(bench: Bench, broker: Mosquitto) -> Iterator[None]:
    order, ready = bench.folder / "fleet.json", bench.folder / "fleet.ready"
    told = FleetOrder(
        SLICE, broker.url, str(bench.folder / "state" / "broker.json"), bench.uids, str(bench.log), str(ready)
    )
    order.write_bytes(msgspec.json.encode(told))
    bench.log.touch()
    command = [sys.executable, "-m", f"{__package__}.bench_fleet", str(order)]
    with _process(command, bench.folder / "fleet.log", dict(os.environ)):
        _wait_for(ready, bench.folder / "fleet.log")
        yield


@contextmanager
def _process(command: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait_for(file: Path, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not file.exists():
        if time.monotonic() > deadline_s:
            raise TransportError(f"{file.name} did not appear: {log.read_text()[-2000:]}")
        time.sleep(0.05)


@asynccontextmanager
async def _session(bench: Bench) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {bench.token}"}
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(bench.url, headers=headers, connector=connector) as session:
        yield session


async def _measure(bench: Bench, changes_per_s: int, seconds: float) -> list[Figure]:
    async with _session(bench) as session:
        placed_s = await _place_all(bench, session)
        before_s, began_s = bench.cpu_s(), time.monotonic()
        answered, latencies_ms = await _change_evenly(bench, session, changes_per_s, seconds)
        cores = (bench.cpu_s() - before_s) / (time.monotonic() - began_s)
        delays_ms = await _delays(bench, answered)
        all_s = await _change_all(bench, session)
    missing = len(answered) - len(delays_ms)
    return [
        Figure("applications placed and reported, from nothing", placed_s, "s"),
        Figure("changes", len(answered), ""),
        Figure("changes not seen in reports", missing, "", {"<=": 0}),
        Figure("desired to reported, p50", _quantile(delays_ms, 0.5), "ms", {"<": 50}),
        Figure("desired to reported, p99", _quantile(delays_ms, 0.99), "ms", {"<": 500}),
        Figure("cores used by the control plane", cores, ""),
        Figure("API meanwhile, p50", _quantile(latencies_ms, 0.5), "ms"),
        Figure("API meanwhile, p99", _quantile(latencies_ms, 0.99), "ms", {"<": 100}),
        Figure("all nodes at once, to the last", all_s, "s"),
    ]


async def _place_all(bench: Bench, session: aiohttp.ClientSession) -> float:
    """One application a node; returns the seconds from the first request to the last report."""
    began_s = time.monotonic()
    for number in range(bench.nodes):
        await _apply(session, number, 0)
    await _until(lambda: _reported_replicas(bench) >= bench.nodes, SETTLE_S * 2)
    return max(at_s for at_s, *_ in bench.reports()) - began_s


def _reported_replicas(bench: Bench) -> int:
    return len({replica for _, _, replicas, _ in bench.reports() for replica in replicas})


async def _change_evenly(
    bench: Bench, session: aiohttp.ClientSession, changes_per_s: int, seconds: float
) -> tuple[dict[str, float], list[float]]:
    """Change one application after another; returns replica id → when the change was durable, and API latencies, ms."""
    answered: dict[str, float] = {}
    latencies_ms: list[float] = []
    versions = dict.fromkeys(range(bench.nodes), 1)

    async def change(number: int) -> None:
        began_s = time.monotonic()
        await _apply(session, number, versions[number])
        ended_s = time.monotonic()
        versions[number] += 1
        answered[f"app-{number}.web.{versions[number]}"] = ended_s
        latencies_ms.append((ended_s - began_s) * 1000)

    async def read(number: int) -> None:
        began_s = time.monotonic()
        async with session.get(f"/v1/applications/app-{number}/placements") as answer:
            await answer.read()
        latencies_ms.append((time.monotonic() - began_s) * 1000)

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for count in range(int(changes_per_s * seconds)):
            await asyncio.sleep(max(began_s + count / changes_per_s - time.monotonic(), 0.0))
            group.create_task(change(count % bench.nodes))
            if count % (changes_per_s // READS_PER_S or 1) == 0:
                group.create_task(read(count % bench.nodes))
    return answered, latencies_ms


async def _delays(bench: Bench, answered: dict[str, float]) -> list[float]:
    """Milliseconds from each change to the first report with its replica."""

    def first() -> dict[str, float]:
        seen: dict[str, float] = {}
        for at_s, _, replicas, _ in bench.reports():
            for replica in replicas:
                seen.setdefault(replica, at_s)
        return {replica: seen[replica] for replica in answered if replica in seen}

    await _until(lambda: len(first()) == len(answered), SETTLE_S, is_needed=False)
    # A report may overtake the answer to the request that led to it.
    return [max(at_s - answered[replica], 0.0) * 1000 for replica, at_s in first().items()]


async def _change_all(bench: Bench, session: aiohttp.ClientSession) -> float:
    """One setting of the Slice changes every node's document; returns the seconds to the last node's report."""
    await asyncio.sleep(2.0)  # drains of the last changes end
    spec = {"telemetry": {"interval": "20s"}}
    body = {"apiVersion": "shoal.dev/v1", "kind": "Slice", "metadata": {"name": SLICE}, "spec": spec}
    async with session.put(f"/v1/slices/{SLICE}", json=body) as answer:
        answer.raise_for_status()
    began_s = time.monotonic()

    def nodes() -> dict[str, float]:
        return {uid: at_s for at_s, uid, _, _ in bench.reports() if at_s > began_s}

    await _until(lambda: len(nodes()) >= bench.nodes, SETTLE_S)
    return max(nodes().values()) - began_s


async def _apply(session: aiohttp.ClientSession, number: int, version: int) -> None:
    component: dict[str, Any] = {
        "name": "web",
        "process": {"command": ["web", str(version)]},
        "resources": {"cpu": "100m", "memory": "64Mi"},
        "placement": {"nodes": [f"node-{number}"]},
    }
    name = f"app-{number}"
    body = {
        "apiVersion": "shoal.dev/v1",
        "kind": "Application",
        "metadata": {"name": name},
        "spec": {"components": [component]},
    }
    for _ in range(20):
        async with session.put(f"/v1/applications/{name}", json=body) as answer:
            if answer.status != 429:
                answer.raise_for_status()
                return
        await asyncio.sleep(0.1)
    raise TransportError("the API refuses more requests")


async def _until(is_true: Any, seconds: float, *, is_needed: bool = True) -> None:
    deadline_s = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline_s:
            if is_needed:
                raise TransportError(f"not done within {seconds:g} s")
            return
        await asyncio.sleep(0.3)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")

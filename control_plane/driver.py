"""Drives the core with asyncio: the wire, the store, the planner, adaptation and the clock on one event loop.

One life: take the leadership, read the rows, then deal with events until a commit fails or leadership is lost. `run.py`
owns what outlives a life (store, link, API) and begins the next one. Nothing here decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .. import __version__
from ..descriptions.errors import ProtocolError, ShoalError
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import EventBatch, Reported, State
from ..descriptions.topics import control_plane_subscriptions
from ..telemetry.inbox import Message
from ..telemetry.link_options import LinkState
from ..telemetry.window_query import Moment
from ..telemetry.windows import Windows
from .adapting import Adapting
from .committing import Committer
from .core import Core
from .effects import (
    AnswerAction,
    AnswerRollout,
    AskPlanner,
    AskScores,
    BumpEpoch,
    ClearDesired,
    Commit,
    Effect,
    Happening,
    SendAck,
    SendCanary,
    SendDesired,
    SendLease,
    SendRoutes,
    StoreStream,
    Tell,
    Timer,
    WakeAt,
)
from .events import EventLog
from .ingest import Answered, Canary, Ingest, Telemetry
from .inputs import (
    BatchSeen,
    CanaryEchoed,
    Event,
    HeartbeatSeen,
    LinkChanged,
    LoadMeasured,
    NodesScored,
    PlanFailed,
    PlanProposed,
    ReportSeen,
    RowsChanged,
    Started,
    StateSeen,
    StreamStored,
    TimerFired,
)
from .node_commands import NodeCommands
from .planner.snapshot import Snapshot
from .planning import Planning
from .readings import Readings
from .row_reading import OTHERS_WRITE, read_image, row_of
from .store.store import Store
from .timers import Timers
from .wire import Wire

logger = logging.getLogger(__name__)

LAG_S_MAX = 1.0
"""Messages that wait longer than this before they are dealt with raise the load level."""
LOAD_LOOK_S = 2.0
LOAD_LEVEL_MAX = 8
ASKED_MAX = 50
"""Nodes that are asked to measure at one time."""


@dataclass
class World:
    """What a life works with and leaves behind."""

    slice_name: str
    holder: str
    store: Store
    wire: Wire
    planning: Planning
    windows: Windows
    commands: NodeCommands
    clock: Callable[[], float] = time.monotonic


@dataclass
class Lag:
    """How long messages wait before they are dealt with, and the load level that follows: up fast, down slowly."""

    worst_s: float = 0.0
    level: int = 0

    def saw(self, waited_s: float) -> None:
        """A message was dealt with."""
        self.worst_s = max(self.worst_s, waited_s)

    def look(self) -> bool:
        """Review the level; true when it changed."""
        before = self.level
        if self.worst_s > LAG_S_MAX:
            self.level = min(self.level + 1, LOAD_LEVEL_MAX)
        elif self.worst_s < LAG_S_MAX / 4:
            self.level = max(self.level - 1, 0)
        self.worst_s = 0.0
        return self.level != before


@dataclass
class Unacked:
    """Event batches whose MQTT acknowledgement waits for the database."""

    waiting: dict[tuple[str, str], deque[tuple[int, Message]]] = field(default_factory=dict)

    def hold(self, node: str, stream: str, upto: int, message: Message) -> None:
        """Acknowledge when the stream is stored up to here."""
        self.waiting.setdefault((node, stream), deque()).append((upto, message))

    def stored(self, node: str, stream: str, position: int) -> None:
        """The stream is stored up to here."""
        held = self.waiting.get((node, stream), deque())
        while held and held[0][0] <= position:
            held.popleft()[1].ack()
        if not held:
            self.waiting.pop((node, stream), None)


class Driver:
    """One life of the core."""

    def __init__(self, world: World, on_ready: Callable[[], None]) -> None:
        self.world = world
        self._on_ready = on_ready
        self.core = Core(world.slice_name)
        self.ingest = Ingest(world.slice_name, self.core.membership.members.__contains__)
        self.timers = Timers(world.clock, self._fired)
        self.committer = Committer(world.store, self._committed, self.new_id, self.name_of_node)
        self.event_log = EventLog(world.store, world.clock)
        self.lag = Lag()
        self.listeners: list[Callable[[Effect], None]] = []
        """Told of every answer to an action or a rollout's request."""
        self._unacked = Unacked()
        self._told_nodes = 0
        self._ids = itertools.count(1)
        self._tasks: asyncio.TaskGroup | None = None
        self.ready = asyncio.Event()
        """Set once the core has the rows and events are dealt with."""

    @property
    def fence(self) -> int:
        """Of this life."""
        return self.core.membership.fence

    @property
    def epoch(self) -> int:
        """Of the database."""
        return self.core.membership.epoch

    async def live(self, *, is_first: bool = True) -> None:
        """Lead until something fails. Raises what ended it, in an `ExceptionGroup`.

        A life that isn't the first of its process has the broker repeat what it retains.
        """
        leader = await self.world.store.lead(self.world.holder)
        image = await self.world.store.read(read_image)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self.committer.run(), name="commit")
                self._tasks.create_task(self.event_log.run(), name="events")
                wall_offset_s = time.time() - self.world.clock()
                started = Started(
                    self.new_id("start"), leader.fence, leader.epoch, image.rows, image.positions, wall_offset_s
                )
                self.handle(started)
                self._tasks.create_task(self._watch(image.version), name="watch")
                self._tasks.create_task(self._listen(), name="listen")
                self._tasks.create_task(self._look_at_load(), name="load")
                self._tasks.create_task(Adapting(self).run(), name="adaptation")
                self.ready.set()
                self._on_ready()
                self.link_changed(self.world.wire.link.state)
                if not is_first:
                    for topic_filter in control_plane_subscriptions(self.world.slice_name):
                        await self.world.wire.link.subscribe(topic_filter)
        finally:
            self.ready.clear()
            self.timers.clear()
            await self.event_log.flush()

    def handle(self, event: Event) -> list[Effect]:
        """Hand an event to the core and carry out what follows."""
        effects = self.core.handle(event, self.world.clock())
        for effect in effects:
            self._perform(effect)
        return effects

    def snapshot(self) -> Snapshot:
        """What planning may know now."""
        now_s = self.world.clock()
        return self.core.snapshot(now_s, datetime.now(UTC), Readings(Moment(self.world.windows, now_s)))

    def new_id(self, what: str) -> str:
        """Of an event."""
        return f"{what}-{self.fence}-{next(self._ids)}"

    def name_of_node(self, uid: str) -> str:
        """The node's name; its uid when it is gone."""
        member = self.core.membership.members.get(uid)
        return member.name if member is not None else uid

    def link_changed(self, state: LinkState) -> None:
        """The link to the broker came up or went down."""
        if not self.ready.is_set():
            return
        is_up = state is LinkState.CONNECTED
        self.handle(LinkChanged(self.new_id("link"), is_up))
        if is_up:
            self.world.wire.state(self.fence, self.epoch, __version__)
            self._spread()

    def _ask_for_definitions(self) -> None:
        """Nodes whose series are unknown here, because this control plane is new, say again what they are."""
        undefined = self.world.windows.take_undefined()
        asked = [uid for uid, member in self.core.membership.members.items() if member.name in undefined]
        for uid in sorted(asked)[:ASKED_MAX]:
            self._begin(self._measure(uid), "measure")

    async def _measure(self, uid: str) -> None:
        with contextlib.suppress(ShoalError):  # a node that doesn't answer defines its series again by itself
            await self.world.commands.ask(uid, "measure", {})

    def _spread(self) -> None:
        """Say over how long nodes should spread their reconnects, where their number has changed much."""
        nodes = len(self.core.membership.members)
        if abs(nodes - self._told_nodes) * 10 > self._told_nodes or not self._told_nodes:
            self._told_nodes = nodes
            self.world.wire.spread(nodes)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case WakeAt():
                self.timers.set(effect.timer, effect.at_s)
            case Commit() | StoreStream() | BumpEpoch():
                self.committer.submit(effect)
            case Tell():
                self.event_log.tell(effect.happening)
            case AskPlanner():
                self._begin(self._plan(effect), "plan")
            case AskScores():
                self._begin(self._score(effect), "score")
            case AnswerAction() | AnswerRollout():
                for listener in list(self.listeners):
                    listener(effect)
            case _:
                self._send(effect)

    def _send(self, effect: Effect) -> None:
        wire = self.world.wire
        match effect:
            case SendLease():
                wire.lease(effect.lease)
            case SendDesired():
                wire.desired(effect.desired)
            case SendRoutes():
                wire.routes(effect.routes)
            case SendAck():
                wire.ack(effect.node_uid, effect.ack)
            case SendCanary():
                wire.canary(effect.seq)
            case ClearDesired():
                wire.clear(effect.node_uid)
            case _:
                raise AssertionError(f"nobody performs {type(effect).__name__}")

    def _begin(self, work: object, name: str) -> None:
        assert self._tasks is not None, "effects come while the driver lives"
        self._tasks.create_task(work, name=name)  # type: ignore[arg-type]

    async def _plan(self, ask: AskPlanner) -> None:
        try:
            proposal = await self.world.planning.decide(self.snapshot(), ask.needs)
        except ShoalError as error:
            self.handle(PlanFailed(self.new_id("plan"), ask.plan, str(error)))
        else:
            self.handle(PlanProposed(self.new_id("plan"), ask.plan, proposal))

    async def _score(self, ask: AskScores) -> None:
        try:
            scores = await self.world.planning.scores(self.snapshot(), ask.application, ask.component, ask.nodes)
        except ShoalError as error:
            logger.warning("application=%s component=%s not scored: %s", ask.application, ask.component, error)
            scores = ()
        self.handle(NodesScored(self.new_id("scores"), ask.application, ask.component, scores))

    def _fired(self, timer: Timer) -> None:
        self.handle(TimerFired(self.new_id("timer"), timer))

    def _committed(self, event: Event) -> None:
        if isinstance(event, StreamStored):
            self._unacked.stored(event.node, event.stream, event.position)
        self.handle(event)

    async def _watch(self, since: int) -> None:
        """Hand changes of others to the core, in the order of the commits."""
        watch = self.world.store.watch(since, OTHERS_WRITE)
        own = self.committer.own_versions
        while True:
            changes = await watch.batch()
            if not changes:
                return
            rows = []
            for change in changes:
                if change.version in own:
                    own.discard(change.version)
                else:
                    rows.append(row_of(change))
            if rows:
                self.handle(RowsChanged(self.new_id("rows"), tuple(rows)))

    async def _listen(self) -> None:
        async for message in self.world.wire.link:
            self.lag.saw(self.world.clock() - message.received_s)
            self._receive(message)
            await self.committer.room()

    def _receive(self, message: Message) -> None:
        found = self.ingest.read(message.topic, message.payload)
        match found:
            case Heartbeat():
                self.handle(HeartbeatSeen(self.new_id("hb"), found))
            case Telemetry():
                self._measured(found)
            case State():
                self.handle(StateSeen(self.new_id("state"), found))
            case Reported():
                self.handle(ReportSeen(self.new_id("report"), found))
            case EventBatch():
                if self._stored_later(found, message):
                    return
            case Answered():
                self.world.commands.answered(found.uid, found.result)
            case Canary():
                self.handle(CanaryEchoed(self.new_id("canary"), found.seq))
            case None:
                pass
        message.ack()

    def _stored_later(self, batch: EventBatch, message: Message) -> bool:
        """True when the message is acknowledged only after the commit."""
        effects = self.handle(BatchSeen(self.new_id("batch"), batch))
        stores = [effect for effect in effects if isinstance(effect, StoreStream)]
        for store in stores:
            self._unacked.hold(store.node, store.stream, store.upto, message)
        return bool(stores)

    def _measured(self, telemetry: Telemetry) -> None:
        try:
            self.world.windows.ingest(self.name_of_node(telemetry.uid), telemetry.payload, self.world.clock())
        except ProtocolError as error:
            self.ingest.dropped["telemetry"] += 1
            self.ingest.last_error = f"telemetry of {telemetry.uid}: {error}"

    async def _look_at_load(self) -> None:
        while True:
            await asyncio.sleep(LOAD_LOOK_S)
            if self.lag.look():
                told = f"messages wait too long: load level {self.lag.level}" if self.lag.level else "load is normal"
                self.event_log.tell(Happening("LoadLevel", told, "Slice", self.world.slice_name))
                self.handle(LoadMeasured(self.new_id("load"), self.lag.level))
            self._spread()
            self._ask_for_definitions()
            self.world.windows.window_s = self.core.rows.slice.spec.telemetry.window
            await asyncio.to_thread(self.world.windows.expire, self.world.clock())

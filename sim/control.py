"""One life of a control plane: the second driver of `control_plane/core.py` (the first is `control_plane/run.py`).

Takes the leadership in the simulated store, feeds messages, commits and deadlines to the core and to adaptation, and
carries their effects out. Whoever leads no more ends its life; `site.py` starts the next.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from ..control_plane import effects as todo
from ..control_plane import inputs as seen
from ..control_plane.adaptation import Act, ActionCommitted, ActionRejected, Adaptation, LookAt, Looked
from ..control_plane.adaptation import Effect as AdaptationEffect
from ..control_plane.adaptation import Event as AdaptationEvent
from ..control_plane.adaptation.wanted import wanted
from ..control_plane.core import Core
from ..control_plane.effects import Effect, Timer
from ..control_plane.ingest import Canary, Ingest, Telemetry
from ..control_plane.inputs import Event, Row
from ..control_plane.planner.snapshot import Snapshot
from ..control_plane.readings import Readings
from ..descriptions.errors import ProtocolError
from ..descriptions.kinds import Kind
from ..descriptions.messages.codec import Message as WireMessage
from ..descriptions.messages.codec import encode
from ..descriptions.messages.desired import INLINE_MAX, Desired
from ..descriptions.messages.lease import ControlPlaneState, Heartbeat
from ..descriptions.messages.reported import EventBatch, Reported, State
from ..descriptions.signing import seal
from ..descriptions.topics import node_topic, shared_topic
from ..telemetry.window_query import Moment
from ..telemetry.windows import Windows
from .clock import Clock
from .link import Link, Message
from .machine import Environment
from .observed import MessageTaken
from .planning import Planning
from .process import Life
from .sealing import MacKey
from .store import CommitResult, ControlLife, RowKey, Store

PLAN_S = 0.05
"""How long a plan takes."""


class ControlPlane:
    """A leader from its start to its death."""

    def __init__(self, env: Environment, store: Store, clock: Clock, link: Link, holder: str, number: int) -> None:
        """`number` counts the lives of this holder."""
        self._env = env
        self._store = store
        self._link = link
        self._holder = holder
        self._clock = clock
        self._key = MacKey()
        self.life: ControlLife = Life(holder, env.kernel, clock, f"{holder}.{number}.", self._fired)
        self.core = Core(slice_name=env.slice)
        self.windows = Windows(300.0)
        self._planning = Planning()
        self.adaptation = Adaptation(self._planning.better_node)
        self.fence = 0
        self.ingest = Ingest(env.slice, self.core.membership.members.__contains__)
        self.happenings: Counter[str] = Counter()
        self._unacked: dict[str, Message] = {}
        """By `StoreStream`: event batches whose acknowledgement waits for the database."""
        self._incoming: Message | None = None
        self.ended = ""
        """Why this life is over."""
        self._look_s = float("inf")

    # Lifetime.

    def begin(self) -> None:
        """Lead: a higher fence, all rows, then the wire."""
        leader = self._store.lead(self._holder)
        self.fence = leader.fence
        offset_s = self._clock.wall_s(self._env.kernel.now_s) - self.life.now_s()
        rows, positions = self._store.rows(), self._store.positions()
        self._handle(seen.Started(self.life.new_id(), leader.fence, leader.epoch, rows, positions, offset_s))
        self._look_later()

    def end(self, why: str) -> None:
        """Nothing of this life happens any more."""
        self.ended = self.ended or why
        self.life.end()
        self._store.crash(self.life)

    # The core.

    def _handle(self, event: Event, now_s: float | None = None) -> None:
        if self.life.is_over:
            return
        for effect in self.core.handle(event, self.life.now_s() if now_s is None else now_s):
            self._perform(effect)

    def _fired(self, timer: Timer | str, now_s: float) -> None:
        if isinstance(timer, Timer):
            self._handle(seen.TimerFired(self.life.new_id(), timer), now_s)
        else:
            self._look()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case todo.WakeAt():
                self.life.wake(effect.timer, effect.at_s)
            case todo.SendLease(lease=lease):
                self._send_sealed(lease.node, "down/lease", lease, qos=0)
            case todo.Commit() | todo.StoreStream() | todo.BumpEpoch():
                self._write(effect)
            case todo.AskPlanner() | todo.AskScores():
                self._plan(effect)
            case todo.Tell(happening=happening):
                self.happenings[happening.reason] += 1
            case todo.AnswerAction():
                self._answer(effect)
            case todo.AnswerRollout():
                pass  # only operators of a real control plane steer rollouts
            case _:
                self._send(effect)

    def _send(self, effect: Effect) -> None:
        slice_name = self._env.slice
        match effect:
            case todo.SendDesired():
                self._send_desired(effect.desired)
            case todo.SendAck(node_uid=uid, ack=ack):
                self._link.publish(node_topic(slice_name, uid, "down/ack"), encode(ack), 1)
            case todo.SendCanary(seq=seq):
                self._link.publish(shared_topic(slice_name, "canary"), str(seq).encode())
            case todo.SendRoutes(routes=routes):
                topic = shared_topic(slice_name, f"routes/{routes.model}")
                self._link.publish(topic, encode(routes), 1, retain=True)
            case todo.ClearDesired(node_uid=uid):
                self._link.publish(node_topic(slice_name, uid, "down/desired"), b"", 1, retain=True)
            case _:
                raise TypeError(effect)

    def _send_sealed(self, uid: str, channel: str, message: WireMessage, *, qos: int, retain: bool = False) -> bytes:
        topic = node_topic(self._env.slice, uid, channel)
        sealed = seal(self._key, encode(message), context=topic)
        self._link.publish(topic, sealed, qos, retain=retain)
        return sealed

    def _send_desired(self, desired: Desired) -> None:
        topic = node_topic(self._env.slice, desired.node, "down/desired")
        sealed = seal(self._key, encode(desired), context=topic)
        self._env.documents.add(sealed)
        if len(sealed) > INLINE_MAX:
            url = f"/v1/desired/{desired.digest}"
            self._env.large[url] = sealed
            short = Desired(
                desired.node, desired.slice, desired.epoch, desired.generation, desired.fence, desired.digest, url=url
            )
            sealed = seal(self._key, encode(short), context=topic)
        self._link.publish(topic, sealed, 1, retain=True)

    # The store.

    def _write(self, effect: todo.Commit | todo.StoreStream | todo.BumpEpoch) -> None:
        answers: list[Event] = []
        if isinstance(effect, todo.StoreStream) and self._incoming is not None:
            self._unacked[effect.id] = self._incoming

        def apply() -> None:
            answers.append(self._applied(effect))

        def answer() -> None:
            message = self._unacked.pop(effect.id, None)
            if message is not None:
                message.ack()
            self._handle(answers[0])

        self._store.submit(self.life, apply, answer, self._dethroned)

    def _applied(self, effect: todo.Commit | todo.StoreStream | todo.BumpEpoch) -> Event:
        store, event_id = self._store, self.life.new_id()
        match effect:
            case todo.Commit():
                result: CommitResult = store.commit(self.fence, self._holder, effect)
                return seen.Committed(event_id, effect.commit, result.version, result.generations)
            case todo.StoreStream():
                member = self.core.membership.members.get(effect.node)
                position = store.store_stream(self.fence, effect, member.name if member else effect.node)
                return seen.StreamStored(event_id, effect.node, effect.stream, position)
            case todo.BumpEpoch():
                return seen.EpochBumped(event_id, store.bump_epoch(self.fence, effect))

    def _dethroned(self) -> None:
        self.end("another control plane leads")

    def apply(self, kinds: tuple[Kind, ...], deletes: tuple[RowKey, ...], answered: Callable[[], None]) -> None:
        """An operator's write over the API; `answered` is called when it is on disk."""
        rows: list[tuple[Row, ...]] = []

        def answer() -> None:
            self._store.acknowledge(rows[0])
            self._handle(seen.RowsChanged(self.life.new_id(), rows[0]))
            answered()

        def write() -> None:
            rows.append(self._store.apply(self.fence, kinds, deletes))

        self._store.submit(self.life, write, answer, self._dethroned)

    # Planning and adaptation.

    def _plan(self, effect: todo.AskPlanner | todo.AskScores) -> None:
        snapshot = self._snapshot()

        def planned() -> None:
            if isinstance(effect, todo.AskScores):
                scores = self._planning.scores(snapshot, effect.application, effect.component, effect.nodes)
                self._handle(seen.NodesScored(self.life.new_id(), effect.application, effect.component, scores))
            else:
                proposal = self._planning.decide(snapshot, effect.needs)
                self._handle(seen.PlanProposed(self.life.new_id(), effect.plan, proposal))

        self.life.after(PLAN_S, planned)

    def _snapshot(self) -> Snapshot:
        now_s = self.life.now_s()
        wall = datetime.fromtimestamp(self._clock.wall_s(self._env.kernel.now_s), UTC)
        return self.core.snapshot(now_s, wall, Readings(Moment(self.windows, now_s)))

    def _look_later(self) -> None:
        interval_s = self.core.rows.slice.spec.adaptation.interval
        self.life.wake("adaptation", self.life.now_s() + interval_s)

    def _look(self) -> None:
        """Look at what is measured, where anything that runs asks for it."""
        self._look_later()
        applications = self.core.rows.applications.values()
        components = (part for app in applications for part in app.spec.components)
        is_measured = any(part.scaling is not None or part.qos for part in components)
        if is_measured or any(app.spec.policies for app in applications) or self.core.rows.policies:
            snapshot = self._snapshot()
            plans = self._planning.adapt(snapshot).plans
            self._adapt(Looked(self.life.new_id(), snapshot, plans, self.core.scales()))

    def _adapt(self, event: AdaptationEvent) -> None:
        for effect in self.adaptation.handle(event, self.life.now_s()):
            self._adapted(effect)

    def _adapted(self, effect: AdaptationEffect) -> None:
        match effect:
            case Act():
                self.happenings[f"adaptation {effect.record.verb}"] += 1
                self._handle(wanted(effect))
            case LookAt(at_s=at_s):
                self.life.wake("adaptation", max(at_s, self.life.now_s()))
            case _:
                self.happenings[f"adaptation {type(effect).__name__}"] += 1

    def _answer(self, effect: todo.AnswerAction) -> None:
        event_id = self.life.new_id()
        if effect.reason:
            self._adapt(ActionRejected(event_id, effect.id, effect.reason))
        else:
            self._adapt(ActionCommitted(event_id, effect.id, self.core.rows.version))

    # The wire.

    def link_up(self) -> None:
        """The broker is there."""
        state = ControlPlaneState(online=True, session=self._link.session, fence=self.fence)
        self._link.publish(shared_topic(self._env.slice, "state"), encode(state), 1, retain=True)
        self._handle(seen.LinkChanged(self.life.new_id(), True))

    def link_down(self) -> None:
        """The broker is away."""
        self._handle(seen.LinkChanged(self.life.new_id(), False))

    def received(self, message: Message) -> None:
        """Take a publication; what makes no sense, or speaks for another node, is dropped and counted by `Ingest`."""
        found = self.ingest.read(message.topic, message.payload)
        if isinstance(found, Heartbeat | State | Reported | EventBatch) and found.node != message.origin:
            self._env.note(MessageTaken(message.origin, found.node))
        event_id = self.life.new_id()
        match found:
            case Heartbeat():
                self._handle(seen.HeartbeatSeen(event_id, found))
            case Telemetry():
                self._measured(found)
            case State():
                self._handle(seen.StateSeen(event_id, found))
            case Reported():
                self._handle(seen.ReportSeen(event_id, found))
            case EventBatch():
                if self._is_stored_later(seen.BatchSeen(event_id, found), message):
                    return
            case Canary():
                self._handle(seen.CanaryEchoed(event_id, found.seq))
            case _:
                pass
        message.ack()

    def _is_stored_later(self, event: seen.BatchSeen, message: Message) -> bool:
        """True when the message is acknowledged only after the commit."""
        before = len(self._unacked)
        self._incoming = message
        self._handle(event)
        self._incoming = None
        return len(self._unacked) > before

    def _measured(self, telemetry: Telemetry) -> None:
        member = self.core.membership.members.get(telemetry.uid)
        with contextlib.suppress(ProtocolError):
            self.windows.ingest(member.name if member else telemetry.uid, telemetry.payload, self.life.now_s())

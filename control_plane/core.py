"""The pure core of the control plane: every event in, every effect out; no await, clock, socket or file.

It joins the cores: `membership.py` (who is alive), `nodes.py` (what they report), `row_changes.py` (what people wrote),
`components.py` (what should change), `plan.py` (what the planner is asked), `requests.py` (what adaptation and
operators want), `publishing.py` (what is sent), `streams.py` (durable events), `board.py` (statuses). `run.py` drives
it with asyncio, `sim/` under virtual time. One call deals with one event completely: rows change in memory as if the
`Commit` had succeeded, and what depends on the disk waits for `Committed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..descriptions.kinds.plugin import PluginStatus
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import Reported
from .board import StatusBoard
from .components import Components
from .desired import is_succeeded
from .draft import Draft
from .effects import BumpEpoch, Commit, DesiredDraft, Effect, Happening, SendDesired, Timer
from .inputs import (
    BatchSeen,
    CanaryEchoed,
    Committed,
    EpochBumped,
    Event,
    HeartbeatSeen,
    LinkChanged,
    LoadMeasured,
    MetricsWanted,
    MoveWanted,
    NodesScored,
    PlanFailed,
    PlanProposed,
    ReportSeen,
    RolloutWanted,
    RowsChanged,
    ScaleWanted,
    SettingWanted,
    Started,
    StateSeen,
    StreamStored,
    TimerFired,
)
from .membership import HeldChanged, Membership, PhaseChanged
from .nodes import Nodes
from .placement import Placement
from .plan import Answer, PlanQueue
from .planner.snapshot import Metrics, NoMetrics, PolicyFault, Snapshot
from .publishing import Publisher, Unsent
from .replicas import Replicas
from .requests import Requests
from .row_changes import RowChanges
from .rows import Key, Rows
from .streams import Streams

ROUNDS_MAX = 16
"""An event that isn't settled after so many rounds is a mistake of ours."""
REFUSALS_MAX = 5
"""Answers of the planner that are refused in a row before its need waits like one that fits nowhere."""

_APPLIED_FIRST = (
    "Slice",
    "Datacenter",
    "Cluster",
    "Node",
    "Secret",
    "Model",
    "Application",
    "Revision",
    "ComponentState",
)


@dataclass
class Core:
    """One slice's control plane, without the world."""

    slice_name: str = "default"
    rows: Rows = field(default_factory=Rows)
    membership: Membership = field(default_factory=Membership)
    plans: PlanQueue = field(default_factory=PlanQueue)
    streams: Streams = field(default_factory=Streams)
    wall_offset_s: float = 0.0

    def __post_init__(self) -> None:
        rows, membership, plans = self.rows, self.membership, self.plans
        self.publisher = Publisher(rows, membership, self.slice_name)
        self.nodes = Nodes(rows, membership, told=self.publisher.told)
        self.replicas = Replicas(rows, self.publisher.told)
        self.components = Components(rows, membership, plans, self.nodes.states, self.replicas)
        self.requests = Requests(rows, self.components)
        self.row_changes = RowChanges(rows, membership, self.nodes, self.components, plans)
        self.board = StatusBoard(rows, membership, self.nodes, self.components, plans)
        membership.may_grant = self.nodes.may_have_lease
        self._refusals: dict[Key, int] = {}
        self._unfit: list[Answer] = []
        self._is_bumping = False

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Deal with one event; `now_s` is the driver's monotonic clock."""
        draft = Draft(event.id, now_s, self.rows)
        self._dispatch(event, draft)
        documents = self._settle(draft)
        self._plan(event, draft)
        return self._effects(draft, documents)

    def snapshot(self, now_s: float, wall: datetime, metrics: Metrics | None = None) -> Snapshot:
        """What planning may know, as of now."""
        rows = self.rows
        return Snapshot(
            version=rows.version,
            now_s=now_s,
            wall=wall,
            slice=rows.slice,
            nodes=self.nodes.ordered(),
            clusters=tuple(rows.clusters.values()),
            datacenters=tuple(rows.datacenters.values()),
            applications=tuple(rows.applications.values()),
            models=tuple(rows.models.values()),
            policies=tuple(rows.policies.values()),
            placements=tuple(rows.placements.values()),
            metrics=metrics if metrics is not None else NoMetrics(),
        )

    def scales(self) -> dict[Key, int]:
        """Replicas that adaptation wanted last, by component."""
        states = self.rows.states.values()
        return {(one.application, one.component): one.scale for one in states if one.scale is not None}

    def _dispatch(self, event: Event, draft: Draft) -> None:
        match event:
            case HeartbeatSeen():
                self._alive(event, draft)
                self._observed(event.heartbeat, draft)
            case StateSeen():
                self.nodes.born(event.state)
                self._alive(event, draft)
            case CanaryEchoed() | LoadMeasured() | LinkChanged():
                self._alive(event, draft)
                if isinstance(event, LinkChanged) and event.connected:
                    draft.effects += self.publisher.repeat_routes(draft.id)
            case ReportSeen():
                self._reported(event.reported, draft)
            case BatchSeen():
                self._streamed(event, event.batch.node, draft)
            case StreamStored():
                self._streamed(event, event.node, draft)
            case Committed():
                self._committed(event, draft)
            case RowsChanged():
                for row in event.rows:
                    self.row_changes.take(row, draft)
            case TimerFired():
                self._fired(event, draft)
            case _:
                self._dispatch_rare(event, draft)

    def _dispatch_rare(self, event: Event, draft: Draft) -> None:
        match event:
            case Started():
                self._start(event, draft)
            case PlanProposed():
                self._proposed(event, draft)
            case PlanFailed():
                draft.tell(Happening("PlanFailed", event.reason, "Slice", self.slice_name, "warning"))
                draft.effects += self.plans.failed(event, draft.now_s)
            case NodesScored():
                self.components.scored((event.application, event.component), dict(event.scores), draft)
            case ScaleWanted():
                self.requests.scale(event, draft)
            case MoveWanted():
                self.requests.move(event, draft)
            case SettingWanted():
                self.requests.set(event, draft)
            case RolloutWanted():
                self.requests.steer(event, draft)
            case MetricsWanted():
                self.rows.watched = dict(event.intervals)
                draft.nodes |= set(self.membership.members)
            case EpochBumped():
                self._is_bumping = False
                self.membership.epoch = event.epoch
                draft.reissued = set(self.membership.members)
                draft.nodes |= draft.reissued
            case _:
                raise AssertionError(f"no handler for {type(event).__name__}")

    def _committed(self, event: Committed, draft: Draft) -> None:
        draft.effects += self.publisher.committed(event, draft.now_s)
        self.rows.version = max(self.rows.version, event.version)
        self._leave([uid for uid, _ in event.generations], draft)

    def _start(self, event: Started, draft: Draft) -> None:
        self.wall_offset_s = self.components.placing.wall_offset_s = event.wall_offset_s
        self.membership.fence, self.membership.epoch = event.fence, event.epoch
        order = {kind: at for at, kind in enumerate(_APPLIED_FIRST)}
        for row in sorted(event.rows, key=lambda row: order.get(row.kind, len(order))):
            self.rows.apply(row)
        self.streams.stored = {(node, stream): seq for node, stream, seq in event.positions}
        self.row_changes.configure()
        draft.effects += self.membership.start(draft.id, draft.now_s)
        for name, node in sorted(self.rows.nodes.items()):
            if node.status is not None and node.status.uid:
                self.nodes.learn(node, draft)
                draft.nodes.add(node.status.uid)
            self.nodes.see(name)
        for placement in self.rows.placements.values():
            self._remember(placement, draft)
        draft.keys |= set(self.rows.keys())
        draft.described |= draft.keys
        draft.models |= set(self.rows.models)
        draft.stale |= {("Application", name) for name in self.rows.applications} | {("Slice", "")}

    def _remember(self, placement: Placement, draft: Draft) -> None:
        """What an earlier control plane knew of a replica beyond its row."""
        self.replicas.saw(placement, draft.now_s)
        mark = self.rows.marks.get(placement.node_uid)
        if mark is not None and (placement.wanted != "run" or is_succeeded(self.rows, placement)):
            self.publisher.told[placement.id] = mark.generation

    def _alive(self, event: Event, draft: Draft) -> None:
        for effect in self.membership.handle(event, draft.now_s):
            if isinstance(effect, PhaseChanged):
                self.nodes.phase_changed(effect, draft)
            elif isinstance(effect, HeldChanged):
                self._held(effect, draft)
            else:
                draft.effects.append(effect)

    def _held(self, change: HeldChanged, draft: Draft) -> None:
        for uid, member in self.membership.members.items():
            if set(change.sites) & set(member.sites):
                draft.keys.update(self.rows.keys_on(uid))
        draft.stale.add(("Slice", ""))
        for kind, _, name in (site.partition(":") for site in change.sites):
            if name:
                draft.stale.add((kind.capitalize(), name))

    def _reported(self, reported: Reported, draft: Draft) -> None:
        self._observed(reported, draft)
        for placement in self.nodes.report(reported, draft):
            self.replicas.gone(placement, draft)
        told = {replica.id for replica in reported.replicas}
        for placement in self.rows.placements_on(reported.node):
            if placement.id in told:
                self.replicas.saw(placement, draft.now_s)

    def _observed(self, told: Heartbeat | Reported, draft: Draft) -> None:
        """Compare what a node was told last with what it should know."""
        if told.node not in self.membership.members or self._is_bumping:
            return
        mark = self.rows.marks.get(told.node)
        newest = (self.membership.epoch, mark.generation if mark is not None else 0)
        order = (told.epoch, told.observed_generation)
        seen = (told.seen_epoch, told.seen_generation) if isinstance(told, Heartbeat) else order
        # The same order with another digest: a database that was restored twice gave it to two documents.
        is_other = mark is not None and order == newest and told.digest != mark.digest
        if max(order, seen) > newest or (is_other and told.observed_generation):
            self._rewind(told.node, max(order, seen), newest, draft)
        else:
            draft.effects += self.publisher.heard(draft.id, told.node, told.digest, draft.now_s)

    def _rewind(self, uid: str, known: tuple[int, int], newest: tuple[int, int], draft: Draft) -> None:
        """A node that knows newer documents than the database shows that the database is a restored one."""
        self._is_bumping = True
        name = self.membership.members[uid].name
        text = (
            f"node {name} knows (epoch, generation) {known}, the database {newest}: it was restored from a backup; "
            "what was changed since that backup is lost, and every node is told the present state again"
        )
        draft.tell(Happening("DatabaseRestored", text, "Slice", self.slice_name, "warning"))
        draft.effects.append(BumpEpoch(draft.id, known[1], known[0]))

    def _streamed(self, event: Event, uid: str, draft: Draft) -> None:
        member = self.membership.members.get(uid)
        if member is not None:
            draft.effects += self.streams.handle(event, member.name)

    def _fired(self, event: TimerFired, draft: Draft) -> None:
        match event.timer:
            case Timer("component", key):
                application, _, component = key.partition(".")
                draft.keys.add((application, component))
            case Timer("plan"):
                self.plans.woken(draft.now_s)
            case Timer("status"):
                self.board.write(draft, self.wall_offset_s)
            case _:
                self._alive(event, draft)

    def _proposed(self, event: PlanProposed, draft: Draft) -> None:
        for fault in event.proposal.faults:
            self._fault(fault, draft)
        for answer in self.plans.answered(event, self.rows.component):
            refused = self.components.placing.place(answer, draft)
            draft.keys.add(answer.key)
            if answer.decision.unplaced:
                self._unfit.append(answer)
            elif refused:
                self._refusals[answer.key] = self._refusals.get(answer.key, 0) + 1
                if self._refusals[answer.key] >= REFUSALS_MAX:
                    self._unfit.append(answer)
            else:
                self._refusals.pop(answer.key, None)
                self.components.placing.unplaced.pop(answer.key, None)

    def _fault(self, fault: PolicyFault, draft: Draft) -> None:
        told = f"policy {fault.policy}: {fault.message}; the built-in decides" + ("; fenced" if fault.fenced else "")
        draft.tell(Happening("PolicyFault", told, "Policy", fault.policy, "warning"))
        policy = self.rows.policies.get(fault.policy)
        if policy is not None:
            status = (policy.status or PluginStatus()).model_copy(update={"strikes": fault.strikes})
            self.rows.put(policy.model_copy(update={"status": status}))
            draft.put_status("Policy", fault.policy, status)

    def _settle(self, draft: Draft) -> dict[str, DesiredDraft]:
        """Take every touched component as far as it goes now; returns the documents that this changes."""
        documents: dict[str, DesiredDraft] = {}
        for _ in range(ROUNDS_MAX):
            while draft.keys:
                key = min(draft.keys)
                draft.keys.discard(key)
                self.components.settle(key, draft)
                draft.keys.discard(key)
            uids = sorted(draft.nodes)
            documents |= self.publisher.drafts(draft)
            draft.nodes.clear()
            self._leave(uids, draft)
            if not draft.keys and not draft.nodes:
                return documents
        raise AssertionError(f"event {draft.id} does not settle: {draft.keys or draft.nodes}")

    def _leave(self, uids: list[str], draft: Draft) -> None:
        for uid in uids:
            for placement in self.nodes.stopped(uid):
                self.replicas.gone(placement, draft)

    def _plan(self, event: Event, draft: Draft) -> None:
        for answer in self._unfit:
            self._block(answer, draft)
        self._unfit.clear()
        if draft.has_room:
            draft.effects += self.plans.room(draft.id, draft.now_s)
        if not isinstance(event, HeartbeatSeen | CanaryEchoed):
            draft.effects += self.plans.ask(draft.id, draft.now_s, self._priority, self.rows.component)

    def _block(self, answer: Answer, draft: Draft) -> None:
        summary = answer.decision.summary
        if self.components.placing.unplaced.get(answer.key) != summary:
            self.components.placing.unplaced[answer.key] = summary
            told = f"{answer.key[1]}: {summary}"
            draft.tell(Happening("NoNodeFits", told, "Application", answer.key[0], "warning", answer.key[0]))
        for replica in answer.need.replaces if answer.need.cause == "move" else ():
            self.replicas.moves.pop(replica, None)
        if answer.need.cause == "move":
            draft.keys.add(answer.key)
            self._settle(draft)
        else:
            draft.effects += self.plans.block(draft.id, answer, draft.now_s)
        draft.stale.add(("Application", answer.key[0]))

    def _priority(self, key: Key) -> int:
        application = self.rows.applications.get(key[0])
        return application.spec.priority if application is not None else 0

    def _effects(self, draft: Draft, documents: dict[str, DesiredDraft]) -> list[Effect]:
        draft.effects += self.board.mark(draft)
        for uid in draft.forgotten:
            self.publisher.forget(uid)
            self.streams.forget(uid)
        routes = self.publisher.changed_routes(draft) if draft.models else ()
        writes, answers = tuple(draft.writes.values()), tuple(draft.answers)
        if not (writes or documents or draft.decisions or draft.forgotten):
            return [*draft.effects, *self.publisher.send_routes(draft.id, routes), *answers]
        draft.effects = [effect for effect in draft.effects if not _is_outdated(effect, documents)]
        drafts = tuple(documents.values())
        self.publisher.hold(draft.id, Unsent(drafts, routes, answers))
        commit = Commit(draft.id, draft.id, writes, drafts, tuple(draft.decisions), tuple(draft.forgotten))
        return [commit, *draft.effects]


def _is_outdated(effect: Effect, documents: Mapping[str, DesiredDraft]) -> bool:
    """True for a document that the same event replaces by a newer one."""
    return isinstance(effect, SendDesired) and effect.desired.node in documents

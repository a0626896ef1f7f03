"""A third driver of the core: one thread, a clock that tests move, a planner that takes the first node that fits.

Commits succeed at once and nodes answer at once unless a test says otherwise. After each event the invariants are
checked: what is in memory is what was committed, generations only grow, nothing is published before its commit, no node
is over capacity, ids are never used twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from shoal.control_plane.component_state import DESIRED_KIND, DesiredMark
from shoal.control_plane.core import Core
from shoal.control_plane.effects import (
    AskPlanner,
    AskScores,
    BumpEpoch,
    Commit,
    Delete,
    Effect,
    Put,
    PutStatus,
    SendCanary,
    SendDesired,
    SendLease,
    StoreStream,
    Tell,
    Timer,
    WakeAt,
)
from shoal.control_plane.inputs import (
    CanaryEchoed,
    Committed,
    EpochBumped,
    Event,
    HeartbeatSeen,
    LinkChanged,
    NodesScored,
    PlanProposed,
    ReportSeen,
    Row,
    RowsChanged,
    Started,
    StateSeen,
    StreamStored,
    TimerFired,
)
from shoal.control_plane.placement import Placement, Reservation
from shoal.control_plane.planner.snapshot import Assignment, Decision, Need, NodeState, PlanProposal, Snapshot
from shoal.control_plane.rows import kind_of, name_of
from shoal.descriptions.kinds import Application, Model, Node, Slice
from shoal.descriptions.kinds.node import NodeStatus
from shoal.descriptions.messages.desired import Desired
from shoal.descriptions.messages.lease import Heartbeat, Lease
from shoal.descriptions.messages.reported import ReplicaReport, Reported, State

E = TypeVar("E", bound=Effect)
SAFE_SHARE = 0.8
"""Of its lease, after which an agent stops single instances."""


@dataclass
class Agent:
    """A node that does as it is told, as soon as it hears it."""

    name: str
    uid: str
    alive: bool = True
    """It runs; false is a machine that is off."""
    connected: bool = True
    obeys: bool = True
    """False: it hears documents and reports nothing new."""
    phases: dict[str, str] = field(default_factory=dict)
    """Replica id → the phase that it reports instead of `ready`."""
    desired: Desired | None = None
    session: int = 0
    seq: int = 0
    reports: int = 0
    beats_s: float = 0.0
    """When the next heartbeat is due."""
    lease_until_s: float = 0.0

    def serving(self, now_s: float) -> tuple[str, ...]:
        """Replicas that run here now; a single instance only as long as the agent trusts its lease."""
        if not self.alive or self.desired is None or self.desired.spec is None:
            return ()
        return tuple(
            one.id
            for one in self.desired.spec.replicas
            if not one.draining
            and self.phases.get(one.id, "ready") == "ready"
            and (not one.single_instance or now_s < self.lease_until_s)
        )


@dataclass
class Harness:
    """The core in a small world."""

    slice_name: str = "test"
    now_s: float = 1000.0
    core: Core = field(init=False)
    agents: dict[str, Agent] = field(default_factory=dict)
    """By node name."""
    database: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What a restart would find."""
    version: int = 0
    generation: int = 0
    epoch: int = 1
    fence: int = 0
    timers: dict[Timer, float] = field(default_factory=dict)
    log: list[Effect] = field(default_factory=list)
    """Every effect so far."""
    broker_up: bool = True
    holds_commits: bool = False
    held: list[Commit] = field(default_factory=list)
    holds_plans: bool = False
    asked: list[tuple[AskPlanner, Snapshot]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    """Node name → score that `AskScores` is answered with."""
    count: int = 0
    published: dict[str, tuple[int, int]] = field(default_factory=dict)
    queue: list[Event] = field(default_factory=list)
    """The event that is dealt with, and those that follow from it."""
    issued: set[str] = field(default_factory=set)
    """Replica ids given so far."""

    def __post_init__(self) -> None:
        self.core = Core(self.slice_name)

    # --- the world -------------------------------------------------------------------------------------------------

    def start(self, *rows: Slice | Node | Application | Model) -> None:
        """Begin with these rows beside those of the database."""
        for row in rows:
            self.database[kind_of(row), name_of(row)] = row
        self.fence += 1
        self.core = Core(self.slice_name)
        self.timers.clear()
        found = tuple(Row(kind, name, value, self.version) for (kind, name), value in sorted(self.database.items()))
        self.send(Started(self._id("start"), self.fence, self.epoch, found))
        self.send(LinkChanged(self._id("link"), True))

    def restart(self) -> None:
        """kill -9 and start again: only the database is left."""
        self.held.clear()
        self.asked.clear()
        self.start()
        for agent in self.agents.values():
            if agent.alive and agent.connected:
                self.birth(agent)
                self.report(agent)

    def apply(self, *rows: Slice | Node | Application | Model) -> None:
        """People write rows."""
        for row in rows:
            self.version += 1
            before = self.database.get((kind_of(row), name_of(row)))
            if before is not None and row.status is None:
                row = row.model_copy(update={"status": before.status})  # as the API does  # noqa: PLW2901
            self.database[kind_of(row), name_of(row)] = row
            self.send(RowsChanged(self._id("rows"), (Row(kind_of(row), name_of(row), row, self.version),)))

    def delete(self, kind: str, name: str) -> None:
        """People delete a row."""
        self.version += 1
        self.database.pop((kind, name), None)
        self.send(RowsChanged(self._id("rows"), (Row(kind, name, None, self.version),)))

    def join(self, *nodes: Node) -> None:
        """Nodes join and come up."""
        for node in nodes:
            name = node.metadata.name
            uid = f"uid-{name}" if name not in self.agents else f"{self.agents[name].uid}x"
            self.agents[name] = Agent(name, uid)
            self.apply(node.model_copy(update={"status": NodeStatus(uid=uid)}))
            self.birth(self.agents[name])
            self.report(self.agents[name])
            self.beat(self.agents[name])

    def advance(self, seconds: float) -> None:
        """Let time pass: timers fire and heartbeats come in their order."""
        end_s = self.now_s + seconds
        while True:
            timer, at_s = min(self.timers.items(), key=lambda item: (item[1], item[0]), default=(None, end_s + 1))
            beating = [agent for agent in self.agents.values() if agent.alive and agent.connected]
            agent = min(beating, key=lambda agent: (agent.beats_s, agent.name), default=None)
            if agent is not None and agent.beats_s <= min(at_s, end_s):
                self.now_s = max(self.now_s, agent.beats_s)
                self.beat(agent)
            elif timer is not None and at_s <= end_s:
                self.now_s = max(self.now_s, at_s)
                del self.timers[timer]
                self.send(TimerFired(self._id("timer"), timer))
            else:
                break
        self.now_s = end_s

    def kill(self, name: str, *, will: bool = False) -> None:
        """The machine goes off."""
        agent = self.agents[name]
        agent.alive = False
        if will:
            self.send(StateSeen(self._id("will"), State(agent.uid, f"s{agent.session}", False)))

    def disconnect(self, name: str) -> None:
        """The machine runs on without the network."""
        self.agents[name].connected = False

    def revive(self, name: str) -> None:
        """The machine, or its network, is back; it runs what it was told last."""
        agent = self.agents[name]
        agent.alive = agent.connected = True
        self.birth(agent)
        self.report(agent)
        self.beat(agent)

    def birth(self, agent: Agent) -> None:
        """A new connection."""
        agent.session += 1
        agent.seq = 0
        agent.beats_s = self.now_s
        state = State(agent.uid, f"s{agent.session}", True, boot_id="b", agent_version="1")
        self.send(StateSeen(self._id("birth"), state))

    def beat(self, agent: Agent) -> None:
        """A heartbeat."""
        settings = agent.desired.spec.settings if agent.desired is not None and agent.desired.spec is not None else None
        agent.beats_s = self.now_s + (settings.heartbeat_s if settings is not None else 5.0)
        agent.seq += 1
        desired = agent.desired
        heartbeat = Heartbeat(
            agent.uid, f"s{agent.session}", "b", agent.seq,
            desired.generation if desired else 0, desired.epoch if desired else 0, desired.digest if desired else "",
        )  # fmt: skip
        self.send(HeartbeatSeen(self._id("beat"), heartbeat))

    def report(self, agent: Agent) -> None:
        """The agent says what runs."""
        agent.reports += 1
        desired = agent.desired
        spec = desired.spec if desired is not None else None
        replicas = [
            ReplicaReport(one.id, one.revision, agent.phases.get(one.id, "ready"))  # type: ignore[arg-type]
            for one in (spec.replicas if spec is not None else ())
            if not one.draining
        ]
        self.send(
            ReportSeen(
                self._id("report"),
                Reported(
                    agent.uid, "b", 1, agent.reports,
                    epoch=desired.epoch if desired else 0,
                    observed_generation=desired.generation if desired else 0,
                    digest=desired.digest if desired else "",
                    replicas=tuple(replicas),
                    gateway=f"http://{agent.name}:8080",
                ),
            )
        )  # fmt: skip

    # --- the core --------------------------------------------------------------------------------------------------

    def send(self, event: Event) -> list[Effect]:
        """Hand an event to the core, then all that follows from it; returns the effects of this event alone.

        Like a real driver, it finishes the effects of one event before it begins with the next.
        """
        self.queue.append(event)
        if len(self.queue) > 1:
            return []
        first: list[Effect] = []
        while self.queue:
            effects = self.core.handle(self.queue[0], self.now_s)
            assert all(effect.id == self.queue[0].id for effect in effects), "every effect repeats the id of its event"
            first = effects if self.queue[0] is event else first
            self.log += effects
            for effect in effects:
                self._perform(effect)
            self.queue.pop(0)
        if not self.holds_commits:
            self.check()
        return first

    def effects(self, kind: type[E]) -> list[E]:
        """All effects of one type so far."""
        return [effect for effect in self.log if isinstance(effect, kind)]

    def told(self, reason: str) -> list[str]:
        """Messages of the events with this reason."""
        return [effect.happening.message for effect in self.effects(Tell) if effect.happening.reason == reason]

    def release(self) -> None:
        """Let held commits and plans go on."""
        self.holds_commits = self.holds_plans = False
        held, self.held = self.held, []
        for commit in held:
            self._commit(commit)
        asked, self.asked = self.asked, []
        for ask, snapshot in asked:
            self.propose(ask, snapshot)

    def propose(self, ask: AskPlanner, snapshot: Snapshot) -> None:
        """Answer the core's question over this snapshot."""
        taken = dict[str, int]()
        decisions = tuple(self._decide(need, snapshot, taken) for need in ask.needs)
        proposal = PlanProposal(snapshot.version, decisions)
        self.send(PlanProposed(self._id("plan"), ask.plan, proposal))

    def placements(self, component: str = "", *, wanted: str = "run") -> dict[str, str]:
        """Replica id → node name, of replicas that are wanted."""
        found = self.core.rows.placements.values()
        return {
            one.id: one.node_name
            for one in sorted(found, key=lambda one: (one.component, one.ordinal))
            if one.wanted == wanted and component in ("", one.component)
        }

    def running(self, component: str) -> list[tuple[str, str]]:
        """Replica id and node of what really runs, wherever."""
        return sorted(
            (replica, agent.name)
            for agent in self.agents.values()
            for replica in agent.serving(self.now_s)
            if replica.split(".")[1] == component
        )

    def check(self) -> None:
        """Invariants that hold after every event."""
        rows = self.core.rows
        if not self.holds_commits:
            ours = {key: value for key, value in self.database.items() if key[0] in ("Placement", "Rollout")}
            assert ours == {
                **{("Placement", name): value for name, value in rows.placements.items()},
                **{("Rollout", name): value for name, value in rows.rollouts.items()},
            }, "what is in memory is what was committed"
        for node in rows.nodes.values():
            if node.status is None or node.spec.hardware.cpu is None:
                continue
            held = sum((one.reserved or Reservation()).cpu_millis for one in rows.placements_on(node.status.uid))
            assert held <= round(node.spec.hardware.cpu * 1000), f"{node.metadata.name} is over capacity"
        for placement in rows.placements.values():
            assert rows.revision_of(placement) is not None, f"nobody knows what {placement.id} runs"

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Commit():
                if self.holds_commits:
                    self.held.append(effect)
                else:
                    self._commit(effect)
            case WakeAt():
                self.timers[effect.timer] = effect.at_s
            case SendCanary():
                if self.broker_up:
                    self.send(CanaryEchoed(self._id("canary"), effect.seq))
            case SendDesired():
                self._publish(effect.desired)
            case SendLease():
                self._grant(effect.lease)
            case AskPlanner():
                snapshot = self.core.snapshot(self.now_s, datetime(2026, 1, 1, tzinfo=UTC))
                if self.holds_plans:
                    self.asked.append((effect, snapshot))
                else:
                    self.propose(effect, snapshot)
            case AskScores():
                scores = tuple((node, self.scores.get(node, 0.0)) for node in effect.nodes)
                self.send(NodesScored(self._id("scores"), effect.application, effect.component, scores))
            case _:
                self._perform_rare(effect)

    def _perform_rare(self, effect: Effect) -> None:
        match effect:
            case BumpEpoch():
                self.epoch = max(self.epoch, effect.epoch_min) + 1
                self.generation = max(self.generation, effect.generation_min)
                self.send(EpochBumped(self._id("epoch"), self.epoch))
            case StoreStream():
                self.send(StreamStored(self._id("stored"), effect.node, effect.stream, effect.upto))
            case _:
                pass  # leases, routes, acknowledgements and the like are looked up in the log

    def _commit(self, commit: Commit) -> None:
        self.version += 1
        for write in commit.writes:
            self._write(write)
        generations = []
        for draft in commit.desired:
            self.generation += 1
            generations.append((draft.node_uid, self.generation))
            mark = DesiredMark(draft.node_uid, self.generation, draft.digest)
            self.database[DESIRED_KIND, draft.node_uid] = mark
        for uid in commit.forget_streams:
            self.database.pop((DESIRED_KIND, uid), None)
        self.send(Committed(self._id("committed"), commit.commit, self.version, tuple(generations)))

    def _write(self, write: Put | Delete | PutStatus) -> None:
        match write:
            case Put():
                kind, name = kind_of(write.value), name_of(write.value)
                if isinstance(write.value, Placement) and (kind, name) not in self.database:
                    assert name not in self.issued, f"{name} is used twice"
                    self.issued.add(name)
                self.database[kind, name] = write.value
            case Delete():
                self.database.pop((write.kind, write.name), None)
            case PutStatus():
                row = self.database.get((write.kind, write.name))
                if row is not None:
                    self.database[write.kind, write.name] = row.model_copy(update={"status": write.status})

    def _grant(self, lease: Lease) -> None:
        for agent in self.agents.values():
            if agent.uid == lease.node and agent.alive and agent.connected and lease.session == f"s{agent.session}":
                agent.lease_until_s = self.now_s + SAFE_SHARE * lease.lease_s

    def _publish(self, desired: Desired) -> None:
        order = (desired.epoch, desired.generation)
        assert order >= self.published.get(desired.node, (0, 0)), "a node is never told something older"
        self.published[desired.node] = order
        mark = self.database[DESIRED_KIND, desired.node]
        assert (mark.generation, mark.digest) == (desired.generation, desired.digest), "published before its commit"
        for agent in self.agents.values():
            if agent.uid == desired.node and agent.alive and agent.connected:
                agent.desired = desired
                if agent.obeys:
                    self.report(agent)

    def _decide(self, need: Need, snapshot: Snapshot, taken: dict[str, int]) -> Decision:
        component = next(
            one
            for application in snapshot.applications
            if application.metadata.name == need.application
            for one in application.spec.components
            if one.name == need.component
        )
        millis = round(component.resources.cpu * 1000)
        reserved = Reservation(millis, component.resources.memory)
        assignments: list[Assignment] = []
        replaces = list(need.replaces)
        for _ in range(need.count):
            node = self._first_fit(need, snapshot, millis, taken, assignments)
            if node is not None:
                taken[node.uid] = taken.get(node.uid, 0) + millis
                old = replaces.pop(0) if replaces else ""
                assignments.append(Assignment(node.uid, node.node.metadata.name, old, reserved))
        unplaced = need.count - len(assignments)
        self.count += 1
        summary = f"no node fits {unplaced} of {need.count}" if unplaced else "placed"
        return Decision(f"d{self.count}", need, tuple(assignments), unplaced, summary, b"")

    def _first_fit(
        self, need: Need, snapshot: Snapshot, millis: int, taken: dict[str, int], assignments: Iterable[Assignment]
    ) -> NodeState | None:
        used = [one.node_uid for one in assignments]
        here = [p.node_uid for p in snapshot.placements if f"{p.application}.{p.component}" == need.key]
        fitting = []
        for node in snapshot.nodes:
            spec, name = node.node.spec, node.node.metadata.name
            held = sum((p.reserved or Reservation()).cpu_millis for p in snapshot.placements if p.node_uid == node.uid)
            free = round((spec.hardware.cpu or 0) * 1000) - held - taken.get(node.uid, 0)
            is_allowed = need.node in ("", name) and name not in need.avoid
            if node.phase == "ready" and not spec.cordoned and not spec.drained and is_allowed and free >= millis:
                fitting.append((used.count(node.uid) + here.count(node.uid), name, node))
        return min(fitting, default=(0, "", None), key=lambda one: one[:2])[2]

    def _id(self, what: str) -> str:
        self.count += 1
        return f"{what}-{self.count}"

"""What is known of each node beside its row: its latest report, its phase, and how planning sees it.

Turns Node rows, phase changes and reports into updated rows of nodes and placements. Called by `core.py`; who is alive
is `membership.py`'s, what follows for replicas is `components.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds import Node
from ..descriptions.kinds.node import NodeStatus
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import MechanismReport, ReplicaReport, Reported, State
from .desired import is_succeeded
from .draft import Draft
from .effects import ClearDesired, Happening
from .membership import Membership, PhaseChanged
from .placement import Phase as ReplicaPhase
from .placement import Placement
from .planner.snapshot import NodeState
from .rows import Rows
from .status import is_news, node_status

PHASES: dict[str, ReplicaPhase] = {
    "pending": "starting",
    "fetching": "starting",
    "starting": "starting",
    "ready": "ready",
    "notReady": "notReady",
    "failed": "failed",
    "stopping": "stopping",
}
"""Of a replica: as the agent says it → as the placement keeps it."""
MESSAGE_CHARS_MAX = 1000
TOLD = {
    "suspect": ("NodeSuspect", "warning"),
    "lost": ("NodeLost", "warning"),
    "left": ("NodeLeft", "info"),
    "ready": ("NodeReady", "info"),
}
"""Phase → reason and severity of the event that people read."""


@dataclass
class Nodes:
    """All nodes that have a row."""

    rows: Rows
    membership: Membership
    states: dict[str, NodeState] = field(default_factory=dict)
    """By name."""
    reports: dict[str, Reported] = field(default_factory=dict)
    """By uid; the newest."""
    versions: dict[str, str] = field(default_factory=dict)
    """Uid → agent version of the latest birth."""
    told: dict[str, int] = field(default_factory=dict)
    """Replica that should leave → generation of the first document that says so; `publishing.py` notes it."""
    _ordered: tuple[NodeState, ...] | None = None

    def born(self, state: State) -> None:
        """Note what a birth says of the agent."""
        if state.online:
            self.versions[state.node] = state.agent_version

    def changed(self, before: Node | None, after: Node, draft: Draft) -> bool:
        """A Node row is new or was written by others; returns whether planning may see it otherwise."""
        uid_before = _uid(before)
        if before is not None and uid_before == _uid(after):
            after = after.model_copy(update={"status": before.status})
            self.rows.put(after)
        elif uid_before:
            self.removed(uid_before, draft)
        uid = _uid(after)
        if uid:
            self.learn(after, draft)
            draft.nodes.add(uid)
            draft.keys.update(self.rows.keys_on(uid))
        self.see(after.metadata.name)
        draft.stale |= {("Node", after.metadata.name), *self._groups(after)}
        is_same = before is not None and before.spec == after.spec and before.metadata.labels == after.metadata.labels
        return not is_same or uid != uid_before

    def removed(self, uid: str, draft: Draft) -> None:
        """The node is gone for good: deleted, or joined again under another uid."""
        self.membership.forget(uid)
        self.reports.pop(uid, None)
        self.versions.pop(uid, None)
        draft.keys.update(self.rows.keys_on(uid))
        draft.forgotten.append(uid)
        draft.effects.append(ClearDesired(draft.id, uid))

    def learn(self, node: Node, draft: Draft) -> None:
        """Tell membership of the node, or of its other layer, site or timings."""
        assert node.status is not None, "only joined nodes are members"
        uid = node.status.uid
        # A node that is only suspect has vanished a moment ago, whether or not it has replicas to lose.
        placements = self.rows.placements_on(uid)
        evicted = node.status.phase != "suspect" and all(placement.lost for placement in placements)
        self.membership.learn(
            uid,
            node.metadata.name,
            node.spec.layer.value,
            self.rows.sites_of(node),
            node.status.phase,
            evicted=evicted,
            now_s=draft.now_s,
        )

    def phase_changed(self, change: PhaseChanged, draft: Draft) -> None:
        """Write the phase down, tell people, and have the node's replicas looked at."""
        node = self.rows.node_of(change.uid)
        if node is None or node.status is None:
            return
        name = node.metadata.name
        version = self.versions.get(change.uid, node.status.agent_version)[:63]
        status = node.status.model_copy(update={"phase": change.phase, "agent_version": version})
        self._write(node, status, draft)
        reason, severity = TOLD[change.phase]
        told = f"{name} is {change.phase}: {change.reason}"
        draft.tell(Happening(reason, told, "Node", name, "warning" if severity == "warning" else "info", node=name))
        draft.keys.update(self.rows.keys_on(change.uid))
        draft.models.update(m for p in self.rows.placements_on(change.uid) if (m := self.rows.model_of(p)))
        draft.stale |= {("Node", name), ("Slice", ""), *self._groups(node)}
        draft.stale |= {("Application", application) for application, _ in self.rows.keys_on(change.uid)}
        draft.has_room = draft.has_room or change.phase == "ready"

    def report(self, reported: Reported, draft: Draft) -> list[Placement]:
        """Take in a newer report; returns the replicas that have stopped as they should."""
        before = self.reports.get(reported.node)
        if before is not None and (reported.incarnation, reported.seq) <= (before.incarnation, before.seq):
            return []
        node = self.rows.node_of(reported.node)
        if node is None or node.status is None:
            return []
        self.reports[reported.node] = reported
        self._refresh(node, reported, draft)
        found = {replica.id: replica for replica in reported.replicas}
        for placement in self.rows.placements_on(reported.node):
            if placement.id in found:
                draft.put(_updated(placement, found[placement.id]))
        return self.stopped(reported.node)

    def stopped(self, uid: str) -> list[Placement]:
        """Replicas that should leave and that the node, which knows that, no longer reports."""
        reported = self.reports.get(uid)
        if reported is None:
            return []
        found = {replica.id for replica in reported.replicas}
        leaving = (one for one in self.rows.placements_on(uid) if one.wanted != "run" and one.id not in found)
        return [placement for placement in leaving if self._knows(reported, placement)]

    def may_have_lease(self, heartbeat: Heartbeat) -> bool:
        """False as long as the node may start a single instance again that should run elsewhere or nowhere."""
        return all(
            self._knows(heartbeat, placement)
            for placement in self.rows.placements_on(heartbeat.node)
            if (placement.wanted != "run" or placement.lost) and self._must_not_run(placement)
        )

    def _must_not_run(self, placement: Placement) -> bool:
        revision = self.rows.revision_of(placement)
        is_single = revision is not None and revision.template.single_instance
        return is_single and (placement.wanted != "run" or is_succeeded(self.rows, placement))

    def _knows(self, said: Reported | Heartbeat, placement: Placement) -> bool:
        """Whether the node has the document that tells a replica to leave, or an older one that says the same."""
        told, mark = self.told.get(placement.id), self.rows.marks.get(said.node)
        if told is None or mark is None:
            return False
        return said.observed_generation >= told or said.digest == mark.digest

    def see(self, name: str) -> None:
        """Show planning the node as it is now; the same object stays where nothing differs."""
        node = self.rows.nodes.get(name)
        if node is None:
            self.states.pop(name, None)
            self._ordered = None
            return
        uid = _uid(node)
        reported = self.reports.get(uid)
        mechanisms: tuple[MechanismReport, ...] = reported.mechanisms if reported is not None else ()
        known = self.states.get(name)
        if known is not None and known.mechanisms == mechanisms:
            if known.node is node or _planned_by(known.node) == _planned_by(node):
                return
            mechanisms = known.mechanisms
        phase = node.status.phase if node.status is not None else "expected"
        self.states[name] = NodeState(node, uid, phase, mechanisms)
        self._ordered = None

    def ordered(self) -> tuple[NodeState, ...]:
        """All of them by name; the same tuple until one changes."""
        if self._ordered is None:
            self._ordered = tuple(state for _, state in sorted(self.states.items()))
        return self._ordered

    def refresh(self, name: str, at: str, draft: Draft) -> None:
        """Write the node's status if it says something new."""
        node = self.rows.nodes.get(name)
        if node is None or node.status is None or not node.status.uid:
            return
        mark = self.rows.marks.get(node.status.uid)
        status = node_status(node, self.reports.get(node.status.uid), mark.generation if mark else 0, at)
        if is_news(node.status, status):
            self._write(node, status, draft)

    def _write(self, node: Node, status: NodeStatus, draft: Draft) -> None:
        self.rows.put(node.model_copy(update={"status": status}))
        draft.put_status("Node", node.metadata.name, status)
        self.see(node.metadata.name)

    def _refresh(self, node: Node, reported: Reported, draft: Draft) -> None:
        """Things that others depend on are taken over at once; the row's status follows within half a second."""
        assert node.status is not None, "checked by the caller"
        status = node_status(node, reported, node.status.desired_generation, node.status.last_seen or "")
        differs = ("hardware", "accelerators", "gateway", "mechanisms")
        if any(getattr(status, name) != getattr(node.status, name) for name in differs):
            kept = {name: getattr(status, name) for name in differs}
            self.rows.put(node.model_copy(update={"status": node.status.model_copy(update=kept)}))
            draft.put_status("Node", node.metadata.name, node.status.model_copy(update=kept))
            draft.models.update(m for p in self.rows.placements_on(reported.node) if (m := self.rows.model_of(p)))
            draft.has_room = True
        self.see(node.metadata.name)
        draft.stale.add(("Node", node.metadata.name))

    def _groups(self, node: Node) -> set[tuple[str, str]]:
        sites = (site.partition(":") for site in self.rows.sites_of(node))
        return {(kind.capitalize(), name) for kind, _, name in sites if name}


def _planned_by(node: Node) -> tuple[object, ...]:
    """What planning reads of a node; generations, conditions and times are no news to it."""
    status = node.status
    seen = status and (
        status.uid,
        status.phase,
        status.hardware,
        status.accelerators,
        status.sensors,
        status.mechanisms,
    )
    return node.spec, node.metadata.labels, seen


def _uid(node: Node | None) -> str:
    return node.status.uid if node is not None and node.status is not None else ""


def _updated(placement: Placement, replica: ReplicaReport) -> Placement:
    phase = PHASES[replica.phase]
    message = replica.message[:MESSAGE_CHARS_MAX]
    if (placement.phase, placement.message, placement.ports) == (phase, message, replica.ports):
        return placement
    return msgspec.structs.replace(placement, phase=phase, message=message, ports=replica.ports)

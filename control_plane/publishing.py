"""What nodes and gateways are told, and when: never before the commit, and only where it differs from what they know.

A document is drafted when an event changed a node's rows; its generation comes with the commit, and only then it is
sent. A node whose heartbeats show another digest than the newest gets the document again, with growing pauses. Routes
of a model are sent when the set of gateways that serve it changed. Called by `core.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..descriptions.messages.desired import Desired, DesiredSpec, digest_of
from ..descriptions.messages.lease import Endpoint, Routes
from .component_state import DesiredMark
from .desired import endpoints_of, spec_for
from .draft import Draft
from .effects import DesiredDraft, Effect, SendDesired, SendRoutes
from .inputs import Committed
from .membership import Membership
from .rows import Rows

RESEND_BEATS = 3
"""A node gets its document again when its heartbeats have shown another digest for this long."""
RESEND_S_MAX = 60.0
FENCE_SHIFT = 32
"""Generations of routes are (fence, counter): they grow over restarts without being stored."""


@dataclass(frozen=True)
class Unsent:
    """What waits for a commit."""

    drafts: tuple[DesiredDraft, ...]
    routes: tuple[tuple[str, tuple[Endpoint, ...]], ...]
    answers: tuple[Effect, ...] = ()


@dataclass
class Publisher:
    """Documents and routes on their way out."""

    rows: Rows
    membership: Membership
    slice_name: str
    unsent: dict[str, Unsent] = field(default_factory=dict)
    """By commit."""
    digests: dict[str, str] = field(default_factory=dict)
    """Uid → digest of the newest draft, committed or not."""
    newest: dict[str, str] = field(default_factory=dict)
    """Uid → commit of the newest draft: an older one isn't sent any more."""
    sent: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Uid → when its document was sent last, and how long to wait before it is sent again."""
    routes: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """Model → endpoints as drafted last."""
    route_counter: int = 0
    told: dict[str, int] = field(default_factory=dict)
    """Replica that should leave → generation of the first document that says so."""

    def drafts(self, draft: Draft) -> dict[str, DesiredDraft]:
        """Documents that the event changed, by uid."""
        found = {}
        for uid in sorted(draft.nodes):
            spec = self.spec_of(uid)
            if spec is None:
                continue
            digest = digest_of(spec)
            if digest != self._digest(uid) or uid in draft.reissued:
                self.digests[uid], self.newest[uid] = digest, draft.id
                found[uid] = DesiredDraft(uid, digest, spec)
            elif (mark := self.rows.marks.get(uid)) is not None and mark.digest == digest:
                self._note_told(mark, spec)
        return found

    def changed_routes(self, draft: Draft) -> tuple[tuple[str, tuple[Endpoint, ...]], ...]:
        """Routes that the event changed."""
        found = []
        for model in sorted(draft.models):
            endpoints = endpoints_of(self.rows, model)
            if endpoints != self.routes.get(model):
                self.routes[model] = endpoints
                found.append((model, endpoints))
        return tuple(found)

    def hold(self, commit: str, unsent: Unsent) -> None:
        """Keep until the commit is on disk."""
        self.unsent[commit] = unsent

    def committed(self, event: Committed, now_s: float) -> list[Effect]:
        """The commit is on disk: send what waited for it, routes first, so that nobody asks a replica that drains."""
        unsent = self.unsent.pop(event.commit, Unsent((), ()))
        effects: list[Effect] = self.send_routes(event.id, unsent.routes)
        generations = dict(event.generations)
        for draft in unsent.drafts:
            mark = DesiredMark(draft.node_uid, generations[draft.node_uid], draft.digest)
            self.rows.put(mark)
            self._note_told(mark, draft.spec)
            if self.newest.get(draft.node_uid) == event.commit:
                pause_s = RESEND_BEATS * self.membership.members[draft.node_uid].timings.heartbeat
                effects.append(self._send(event.id, mark, draft.spec, now_s, pause_s))
        return [*effects, *unsent.answers]

    def _note_told(self, mark: DesiredMark, spec: DesiredSpec) -> None:
        """Remember which document first told the node that a replica should leave."""
        kept = {replica.id for replica in spec.replicas if not replica.draining}
        for placement in self.rows.placements_on(mark.node_uid):
            if placement.id in kept:
                self.told.pop(placement.id, None)
            elif placement.wanted != "run" or placement.lost:
                self.told.setdefault(placement.id, mark.generation)

    def send_routes(self, event_id: str, routes: tuple[tuple[str, tuple[Endpoint, ...]], ...]) -> list[Effect]:
        """Publish these routes."""
        effects: list[Effect] = []
        for model, endpoints in routes:
            self.route_counter += 1
            generation = (self.membership.fence << FENCE_SHIFT) + self.route_counter
            effects.append(SendRoutes(event_id, Routes(model, generation, endpoints)))
        return effects

    def repeat_routes(self, event_id: str) -> list[Effect]:
        """Publish all routes again: a broker that was away may have forgotten what it retained."""
        return self.send_routes(event_id, tuple(sorted(self.routes.items())))

    def heard(self, event_id: str, uid: str, digest: str, now_s: float) -> list[Effect]:
        """A node told which document it has: send the newest one (again) where that is another."""
        mark = self.rows.marks.get(uid)
        member = self.membership.members.get(uid)
        if mark is None or member is None or digest == mark.digest or self.digests.get(uid, mark.digest) != mark.digest:
            return []
        at_s, pause_s = self.sent.get(uid, (float("-inf"), 0.0))
        spec = self.spec_of(uid) if now_s >= at_s + pause_s else None
        if spec is None or digest_of(spec) != mark.digest:
            return []
        pause_s = min(max(2 * pause_s, RESEND_BEATS * member.timings.heartbeat), RESEND_S_MAX)
        return [self._send(event_id, mark, spec, now_s, pause_s)]

    def spec_of(self, uid: str) -> DesiredSpec | None:
        """The document of a node, from the rows as they are; None for one that is gone."""
        node, member = self.rows.node_of(uid), self.membership.members.get(uid)
        return None if node is None or member is None else spec_for(self.rows, node, member.timings)

    def forget(self, uid: str) -> None:
        """The node is gone."""
        self.digests.pop(uid, None)
        self.newest.pop(uid, None)
        self.sent.pop(uid, None)
        self.rows.marks.pop(uid, None)

    def _digest(self, uid: str) -> str:
        mark = self.rows.marks.get(uid)
        return self.digests.get(uid) or (mark.digest if mark is not None else "")

    def _send(self, event_id: str, mark: DesiredMark, spec: DesiredSpec, now_s: float, pause_s: float) -> SendDesired:
        self.sent[mark.node_uid] = (now_s, pause_s)
        desired = Desired(
            node=mark.node_uid,
            slice=self.slice_name,
            epoch=self.membership.epoch,
            generation=mark.generation,
            fence=self.membership.fence,
            digest=mark.digest,
            spec=spec,
        )
        return SendDesired(event_id, desired)

"""Writes statuses: which objects an event made stale, when they are looked at again, and what then differs.

Statuses are for people, so they may be half a second late; in return a burst of changes writes each of them once.
`status.py` says what they are. Owned by `core.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..descriptions.kinds.meta import Condition
from .components import Components
from .draft import Draft
from .effects import Effect, Timer, WakeAt
from .membership import Membership
from .nodes import Nodes
from .plan import PlanQueue
from .rows import Key, Rows
from .status import ComponentFacts, application_status, group_status, slice_status

DELAY_S = 0.05
"""So long the first of a burst waits for the rest."""
PAUSE_S = 0.5
"""Between two rounds."""


@dataclass
class StatusBoard:
    """Statuses to be written."""

    rows: Rows
    membership: Membership
    nodes: Nodes
    components: Components
    plans: PlanQueue
    stale: set[tuple[str, str]] = field(default_factory=set)
    written_s: float = float("-inf")
    at_s: float | None = None
    """When the next round is due."""

    def mark(self, draft: Draft) -> list[Effect]:
        """Note what the event made stale."""
        self.stale |= draft.stale
        if not self.stale or self.at_s is not None:
            return []
        self.at_s = max(draft.now_s + DELAY_S, self.written_s + PAUSE_S)
        return [WakeAt(draft.id, self.at_s, Timer("status"))]

    def write(self, draft: Draft, wall_offset_s: float) -> None:
        """A round: write what differs."""
        at = (
            datetime.fromtimestamp(draft.now_s + wall_offset_s, UTC)
            .isoformat(timespec="seconds")
            .replace("+00:00", "Z")
        )
        stale, self.stale, self.at_s, self.written_s = self.stale, set(), None, draft.now_s
        for kind, name in sorted(stale):
            match kind:
                case "Application":
                    self._application(name, at, draft)
                case "Node":
                    self.nodes.refresh(name, at, draft)
                case "Slice":
                    self._slice(at, draft)
                case _:
                    self._group(kind, name, at, draft)

    def _application(self, name: str, at: str, draft: Draft) -> None:
        application = self.rows.applications.get(name)
        if application is None:
            return
        facts = (self._facts(key) for key in self.rows.components_of(name))
        status = application_status(self.rows, application, facts, at)
        if status != application.status:
            self.rows.put(application.model_copy(update={"status": status}))
            draft.put_status("Application", name, status)

    def _facts(self, key: Key) -> ComponentFacts:
        count = self.components.count(key)
        if (unready := self.components.unready.get(key)) is not None:
            return ComponentFacts(key[1], count, unready.reason, unready.message)
        if (blocked := self.plans.blocked.get(key)) is not None:
            return ComponentFacts(key[1], count, "NoNodeFits", blocked.summary)
        halted = self.rows.state_of(key).halted
        if halted and halted == self.rows.state_of(key).revision:
            told = f"the update to revision {halted} was taken back: `shoal get rollouts` says why"
            return ComponentFacts(key[1], count, "RolloutFailed", told)
        return ComponentFacts(key[1], count)

    def _slice(self, at: str, draft: Draft) -> None:
        heard = self.membership.trusted_s is not None
        storms = self.membership.brake.stormy_sites
        conditions = (_broker(is_heard=heard), _storm(storms))
        status = slice_status(self.rows, self.membership.epoch, conditions, at)
        if status != self.rows.slice.status:
            self.rows.put(self.rows.slice.model_copy(update={"status": status}))
            draft.put_status("Slice", self.rows.slice.metadata.name, status)

    def _group(self, kind: str, name: str, at: str, draft: Draft) -> None:
        group = self.rows.datacenters.get(name) if kind == "Datacenter" else self.rows.clusters.get(name)
        if group is None:
            return
        site = f"{kind.lower()}:{name}"
        members = [node for node in self.rows.nodes.values() if site in self.rows.sites_of(node)]
        storms = tuple(one for one in self.membership.brake.stormy_sites if one == site)
        status = group_status(members, (_storm(storms),), group.status, at)
        if status != group.status:
            self.rows.put(group.model_copy(update={"status": status}))
            draft.put_status(kind, name, status)


def _broker(*, is_heard: bool) -> Condition:
    if is_heard:
        return Condition(type="Ready", status="True", reason="BrokerEchoes")
    return Condition(type="Ready", status="False", reason="BrokerSilent", message="no verdict about nodes meanwhile")


def _storm(sites: tuple[str, ...]) -> Condition:
    if sites:
        return Condition(type="Storm", status="True", reason="SiteStorm", message=", ".join(sites)[:1000])
    return Condition(type="Storm", status="False", reason="Calm")

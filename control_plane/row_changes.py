"""What follows when others commit a row: people over the API, an agent that joins.

Takes the row into `Rows` and notes in the draft which components, documents and statuses it touches. Called by
`core.py` for each row of a `RowsChanged`, in the order of the commits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.kinds import Application, Cluster, Datacenter, Node, Slice
from .components import Components
from .draft import Draft
from .inputs import Row, RowValue
from .membership import Membership
from .nodes import Nodes
from .plan import PlanQueue
from .rows import Key, Rows


@dataclass
class RowChanges:
    """The way in for rows."""

    rows: Rows
    membership: Membership
    nodes: Nodes
    components: Components
    plans: PlanQueue

    def take(self, row: Row, draft: Draft) -> None:
        """Take in one row."""
        touched = self._users(row)
        before = self.rows.apply(row)
        match row.kind:
            case "Node":
                self._node(row, before, draft)
            case "Application":
                self._application(row, before, draft)
            case "Model" | "Secret":
                self._described(touched | self._users(row), draft)
            case "Mechanism":
                draft.nodes |= set(self.membership.members)
            case "Slice" | "Cluster" | "Datacenter":
                self._landscape(row.value, draft)
            case _:
                draft.has_room = True

    def configure(self) -> None:
        """Take over the slice's settings."""
        failover = self.rows.slice.spec.failover
        self.membership.configure(failover)
        self.components.budget.per_minute = failover.evictions_per_minute

    def _users(self, row: Row) -> set[Key]:
        match row.kind:
            case "Model":
                users = self.rows.users_of_model(row.name)
            case "Secret":
                users = self.rows.users_of_secret(row.name)
            case _:
                return set()
        return {key for application in users for key in self.rows.components_of(application)}

    def _node(self, row: Row, before: RowValue | None, draft: Draft) -> None:
        old = before if isinstance(before, Node) else None
        if isinstance(row.value, Node):
            draft.has_room = self.nodes.changed(old, row.value, draft) or draft.has_room
        elif old is not None and old.status is not None:
            self.nodes.see(row.name)
            if old.status.uid:
                self.nodes.removed(old.status.uid, draft)
        draft.stale.add(("Slice", ""))

    def _application(self, row: Row, before: RowValue | None, draft: Draft) -> None:
        if isinstance(row.value, Application) and isinstance(before, Application):
            # The status is ours, and newer than the one in the row.
            self.rows.put(row.value.model_copy(update={"status": before.status}))
            if before.spec.priority != row.value.spec.priority:
                draft.has_room = True
        keys = set(self.rows.keys_of(row.name))
        if isinstance(before, Application):
            keys |= {(row.name, component.name) for component in before.spec.components}
        self._described(keys, draft)
        draft.stale.add(("Application", row.name))

    def _described(self, keys: set[Key], draft: Draft) -> None:
        for key in keys:
            self.plans.described(key)
            draft.nodes.update(placement.node_uid for placement in self.rows.placements_of(key))
        draft.keys |= keys
        draft.described |= keys

    def _landscape(self, value: RowValue | None, draft: Draft) -> None:
        """Timings, sites or quotas may be others for every node."""
        self.configure()
        for _, node in sorted(self.rows.nodes.items()):
            if node.status is not None and node.status.uid:
                self.nodes.learn(node, draft)
        if isinstance(value, Slice):
            draft.nodes |= set(self.membership.members)
            draft.keys |= set(self.rows.keys())
        draft.has_room = True
        draft.stale |= {("Slice", "")}
        if isinstance(value, Cluster | Datacenter):
            draft.stale.add((value.kind, value.metadata.name))

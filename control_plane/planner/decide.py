"""Decides where the replicas of needs go: filter, score, take the best, one replica after the other, over one
snapshot.

The control plane's driver calls `decide` (or keeps a `Planner`, which builds the columns of the next snapshot from
those of the last) beside the core, and hands the proposal back to it. Nothing here does I/O but asking policy
processes; the same snapshot, needs, policies and seed give the same proposal. "No node fits" is a decision like any
other.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...descriptions.kinds import Kind
from ..placement import Placement
from .adapt import Wishes, adapt
from .comparison import better_node, scores
from .explain import explain
from .explanation import Explanation, WhatIf
from .order import in_order
from .policies import Policies
from .round import Round
from .snapshot import Need, PlanProposal, Snapshot
from .table import Table
from .what_if import what_if


def decide(snapshot: Snapshot, needs: Sequence[Need], policies: Policies, seed: int = 0) -> PlanProposal:
    """Answer each need with nodes, or with why there is none."""
    return Planner(policies).decide(snapshot, needs, seed)


class Planner:
    """`decide` and every other question over one snapshot after another; used by one thread at a time."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self._table: Table | None = None

    def decide(self, snapshot: Snapshot, needs: Sequence[Need], seed: int = 0) -> PlanProposal:
        """As the function of the same name."""
        table = self.table(snapshot)
        current = Round(table, self.policies, seed)
        decisions = tuple(current.decide(need) for need in in_order(table, needs))
        return PlanProposal(snapshot.version, decisions, tuple(current.faults))

    def why(self, snapshot: Snapshot, application: str, component: str, node: str = "", seed: int = 0) -> Explanation:
        """Explain one component on one node, or on all; `RefusedError` where the snapshot doesn't know them."""
        return explain(self.table(snapshot), application, component, node, self.policies, seed)

    def what_if(
        self, snapshot: Snapshot, changed: Sequence[Kind], removed: Sequence[tuple[str, str]] = (), seed: int = 0
    ) -> WhatIf:
        """What would happen with `changed` descriptions, and without the `removed` ones (kind, name)."""
        return what_if(snapshot, changed, removed, policies=self.policies, seed=seed)

    def adapt(self, snapshot: Snapshot, seed: int = 0) -> Wishes:
        """What adaptation policies want."""
        return adapt(self.table(snapshot), self.policies, seed)

    def scores(
        self, snapshot: Snapshot, application: str, component: str, nodes: Sequence[str], seed: int = 0
    ) -> tuple[tuple[str, float], ...]:
        """Node and total, for those of `nodes` that could take a replica as though the component had none."""
        return scores(self.table(snapshot), application, component, nodes, self.policies, seed)

    def better_node(self, snapshot: Snapshot, replica: Placement, seed: int = 0) -> str:
        """The node that scores best for a replica, where that is not its own; empty otherwise."""
        return better_node(self.table(snapshot), replica, self.policies, seed)

    def table(self, snapshot: Snapshot) -> Table:
        """The snapshot's columns, with nothing taken."""
        if self._table is None or self._table.snapshot is not snapshot:
            self._table = Table(snapshot, self._table)
        self._table.begin()
        return self._table

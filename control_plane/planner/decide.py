"""Decides where the replicas of needs go: filter, score, take the best, one replica after the other, over one
snapshot.

The control plane's driver calls `decide` (or keeps a `Planner`, which builds the columns of the next snapshot from
those of the last) beside the core, and hands the proposal back to it. Nothing here does I/O but asking policy
processes; the same snapshot, needs, policies and seed give the same proposal. "No node fits" is a decision like any
other.
"""

from __future__ import annotations

from collections.abc import Sequence

from .order import in_order
from .policies import Policies
from .round import Round
from .snapshot import Need, PlanProposal, Snapshot
from .table import Table


def decide(snapshot: Snapshot, needs: Sequence[Need], policies: Policies, seed: int = 0) -> PlanProposal:
    """Answer each need with nodes, or with why there is none."""
    return Planner(policies).decide(snapshot, needs, seed)


class Planner:
    """`decide` over one snapshot after another; used by one thread at a time."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self._table: Table | None = None

    def decide(self, snapshot: Snapshot, needs: Sequence[Need], seed: int = 0) -> PlanProposal:
        """As the function of the same name."""
        table = self.table(snapshot)
        current = Round(table, self.policies, seed)
        decisions = tuple(current.decide(need) for need in in_order(table, needs))
        return PlanProposal(snapshot.version, decisions, tuple(current.faults))

    def table(self, snapshot: Snapshot) -> Table:
        """The snapshot's columns, with nothing taken."""
        if self._table is None or self._table.snapshot is not snapshot:
            self._table = Table(snapshot, self._table)
        self._table.begin()
        return self._table

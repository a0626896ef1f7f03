"""Asks the planner as the control plane's driver does, in this process and with built-in policies alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..control_plane.placement import Placement
from ..control_plane.planner.decide import Planner
from ..control_plane.planner.policies import Policies
from ..control_plane.planner.snapshot import Need, PlanProposal, Snapshot


class Planning:
    """One control plane's planner."""

    def __init__(self) -> None:
        self._planner = Planner(Policies())

    def decide(self, snapshot: Snapshot, needs: Sequence[Need], seed: int) -> PlanProposal:
        """Where replicas go."""
        return self._planner.decide(snapshot, needs, seed)

    def scores(
        self, snapshot: Snapshot, application: str, component: str, nodes: Sequence[str]
    ) -> tuple[tuple[str, float], ...]:
        """Node name and score for those of `nodes` on which one more replica could stand."""
        return self._planner.scores(snapshot, application, component, nodes)

    def better_node(self, snapshot: Snapshot, replica: Placement) -> str:
        """The node that scores best for the replica, if that is not its own; empty otherwise."""
        return self._planner.better_node(snapshot, replica)

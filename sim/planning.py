"""Asks the planner as the control plane's driver does, in this process and with built-in policies alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..control_plane.placement import Placement
from ..control_plane.planner.adapt import Wishes
from ..control_plane.planner.decide import Planner
from ..control_plane.planner.policies import Policies
from ..control_plane.planner.snapshot import Need, PlanProposal, Snapshot


class Planning:
    """One control plane's planner; as in `control_plane/planning.py`, a snapshot's version is its seed."""

    def __init__(self) -> None:
        self._planner = Planner(Policies())

    def decide(self, snapshot: Snapshot, needs: Sequence[Need]) -> PlanProposal:
        """Where replicas go."""
        return self._planner.decide(snapshot, needs, snapshot.version)

    def scores(
        self, snapshot: Snapshot, application: str, component: str, nodes: Sequence[str]
    ) -> tuple[tuple[str, float], ...]:
        """Node name and score for those of `nodes` on which one more replica could stand."""
        return self._planner.scores(snapshot, application, component, nodes, snapshot.version)

    def adapt(self, snapshot: Snapshot) -> Wishes:
        """What adaptation policies want changed."""
        return self._planner.adapt(snapshot, snapshot.version)

    def better_node(self, snapshot: Snapshot, replica: Placement) -> str:
        """The node that scores best for a replica, if that isn't its own."""
        return self._planner.better_node(snapshot, replica, snapshot.version)

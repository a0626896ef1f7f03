"""Asks the planner as the control plane's driver does, in this process and with built-in policies alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..control_plane.placement import Placement
from ..control_plane.planner.decide import Planner
from ..control_plane.planner.policies import Policies
from ..control_plane.planner.round import Round
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
        table = self._planner.table(snapshot)
        found = table.component(application, component)
        if found is None:
            return ()
        current = Round(table, self._planner.policies, 0)
        trial = current.run(Need(application, component, 0, "move"), *found)
        ranking = current.ranked(trial)
        totals = zip(ranking.rows.tolist(), ranking.totals().tolist(), strict=True)
        named = {table.nodes.names[row]: total for row, total in totals}
        current.close_trial(trial)
        return tuple((name, named[name]) for name in nodes if name in named)

    def better_node(self, snapshot: Snapshot, replica: Placement) -> str:
        """The node that scores best for the replica, if that is not its own; empty otherwise."""
        names = [state.node.metadata.name for state in snapshot.nodes]
        scored = dict(self.scores(snapshot, replica.application, replica.component, names))
        own = scored.pop(replica.node_name, float("-inf"))
        best = max(sorted(scored), key=lambda name: scored[name], default="")
        return best if best and scored[best] > own else ""

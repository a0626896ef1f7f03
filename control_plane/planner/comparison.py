"""Compares nodes for replicas that are there already: which of two stays when a lost node returns, and where one
would be better off.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..placement import Placement
from .policies import Policies
from .round import Round
from .snapshot import Need
from .table import Table


def scores(
    table: Table, application: str, component: str, nodes: Sequence[str], policies: Policies, seed: int = 0
) -> tuple[tuple[str, float], ...]:
    """Node and total for those of `nodes` that could take a replica of the component, as though none were there."""
    lifted = [placement.id for placement in table.running(application, component)]
    totals = _totals(table, application, component, lifted, policies, seed)
    return tuple((name, totals[name]) for name in nodes if name in totals)


def better_node(table: Table, replica: Placement, policies: Policies, seed: int = 0) -> str:
    """The node with the highest total for a replica, where that is higher than its own; empty otherwise."""
    totals = _totals(table, replica.application, replica.component, [replica.id], policies, seed)
    own = totals.pop(replica.node_name, float("-inf"))
    best = max(sorted(totals), key=lambda name: totals[name], default="")
    return best if best and totals[best] > own else ""


def _totals(
    table: Table, application: str, component: str, lifted: Sequence[str], policies: Policies, seed: int
) -> dict[str, float]:
    found = table.component(application, component)
    if found is None:
        return {}
    for replica_id in lifted:
        table.lift(replica_id)
    current = Round(table, policies, seed)
    trial = current.run(Need(application, component, 0, "move"), *found)
    ranking = current.ranked(trial)
    current.close_trial(trial)
    names = table.nodes.names
    return {names[row]: float(total) for row, total in zip(ranking.rows, ranking.totals(), strict=True)}

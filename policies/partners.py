"""The components that one talks to, and how far every node is from their nearest replicas. For policies about
latency.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..descriptions.kinds.application import Component
from .node_table import FloatArray, NodeTable
from .view import View


def destinations(component: Component, view: View) -> list[list[int]]:
    """Rows of the replicas of each partner that has any; a partner is called by the component or calls it."""
    standing = [view.replicas_of(partner) for partner in view.relations.partners(component)]
    return [sorted({replica.row for replica in replicas}) for replicas in standing if replicas]


def nearest_rtt_s(rows: Iterable[int], nodes: NodeTable, view: View) -> FloatArray:
    """Round trip from each of `nodes` to the nearest of the nodes in `rows`; NaN where no link covers any of them."""
    nearest = np.full(len(nodes), np.nan)
    for row in rows:
        reach = view.network.reach(row).rtt_s
        nearest = np.fmin(nearest, reach[nodes.first_row : nodes.first_row + len(nodes)])
    return nearest


def nearest_of(rows: Iterable[int], row: int, view: View) -> float | None:
    """Round trip from one node to the nearest of those in `rows`; None where no link covers any of them."""
    known = [rtt_s for end in rows if (rtt_s := view.network.rtt_s(row, end)) is not None]
    return min(known, default=None)


def distances_s(component: Component, nodes: NodeTable, view: View) -> list[FloatArray]:
    """`nearest_rtt_s` for each partner that has replicas."""
    return [nearest_rtt_s(rows, nodes, view) for rows in destinations(component, view)]

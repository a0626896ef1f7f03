"""Short round trips to what the component talks to, or to nodes that are named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..descriptions.kinds.application import Component
from ..descriptions.options import option
from ..descriptions.units import DURATION
from .node_table import FloatArray, NodeTable
from .node_view import NodeView
from .partners import destinations, nearest_of, nearest_rtt_s
from .policy import Policy, Rejection
from .view import View

RTT_S_UNKNOWN = 3600.0
"""What counts where no link is described: behind everything that is."""


@dataclass(frozen=True)
class Nearest(Policy):
    """Prefer short round trips to the components it talks to, or to the nodes in `to`; refuse long ones.

    Several destinations count by the mean of their round trips. A component that talks to nothing finds all nodes
    equal.
    """

    to: tuple[str, ...] = option((), doc="Names of nodes, such as the one with the camera.")
    rtt_max: float | None = option(None, gt=0, unit="duration")
    """Refuse nodes with a longer mean round trip, and those that no link covers; none are refused when left out."""

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        """Refuse what is farther than `rtt_max`."""
        if self.rtt_max is None or not (ends := self._ends(component, view)):
            return None
        known = [nearest_of(rows, node.row, view) for rows in ends]
        rtt_s = sum(RTT_S_UNKNOWN if one is None else one for one in known) / len(ends)
        if rtt_s <= self.rtt_max:
            return None
        told = "no link is described" if None in known else f"round trip {DURATION.format(rtt_s)}"
        return Rejection(f"{told}, rttMax is {DURATION.format(self.rtt_max)}", "describe or make a shorter link")

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """Minus the mean round trip in seconds."""
        total = np.zeros(len(nodes))
        ends = self._ends(component, view)
        for rows in ends:
            rtt_s = nearest_rtt_s(rows, nodes, view)
            total -= np.where(np.isnan(rtt_s), RTT_S_UNKNOWN, rtt_s)
        return total / max(1, len(ends))

    def _ends(self, component: Component, view: View) -> list[list[int]]:
        """Rows of each destination; one that has no row is at no known distance from anywhere."""
        if self.to:
            return [[view.nodes.row_of[name]] if name in view.nodes.row_of else [] for name in self.to]
        return destinations(component, view)

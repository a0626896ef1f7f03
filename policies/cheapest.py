"""Where one more replica adds the least to the bill."""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.kinds.application import Component
from .marginal import mixed_score
from .node_table import FloatArray, NodeTable
from .policy import Policy
from .view import View


@dataclass(frozen=True)
class Cheapest(Policy):
    """Prefer nodes where a replica costs least an hour: its share of the node's price, and energy at the present
    tariff.

    Where the slice's targets for energy or CO₂ are nearly reached or missed, those count beside the money.
    """

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """0 for free, -1 for the dearest node, less where targets press."""
        return mixed_score("cost", nodes, view)

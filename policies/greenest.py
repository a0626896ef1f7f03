"""Where one more replica emits the least CO₂ at this time of day."""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.kinds.application import Component
from .marginal import mixed_score
from .node_table import FloatArray, NodeTable
from .policy import Policy
from .view import View


@dataclass(frozen=True)
class Greenest(Policy):
    """Prefer nodes where a replica emits least CO₂ an hour, by the power source whose window holds now.

    Where the slice's targets for energy or cost are nearly reached or missed, those count beside the CO₂.
    """

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """0 for none, -1 for the dirtiest node, less where targets press."""
        return mixed_score("co2", nodes, view)

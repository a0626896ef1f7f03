"""Replicas where the operator says, in the order that the operator says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..descriptions.kinds.application import Component
from ..descriptions.options import option
from .node_view import NodeView
from .policy import Policy, Rejection, Rescore
from .view import View


@dataclass(frozen=True)
class Static(Policy):
    """Place on the listed nodes alone: one replica on each in the order of the list, then a second round."""

    rescore: ClassVar[Rescore] = "row"

    nodes: tuple[str, ...] = option((), doc="For components that `components` doesn't name; any node when empty.")
    components: Mapping[str, tuple[str, ...]] = option(factory=dict, doc="Component → its nodes.")

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        """Refuse nodes that are not listed."""
        listed = self._listed(component)
        if not listed or node.name in listed:
            return None
        return Rejection(f"is not among {', '.join(listed[:5])}", f"add {node.name} to the policy's nodes")

    def score(self, component: Component, node: NodeView, view: View) -> float:
        """Fewer replicas of the component first, then the earlier in the list."""
        listed = self._listed(component)
        place = listed.index(node.name) if node.name in listed else len(listed)
        return -float(node.siblings * (len(listed) + 1) + place)

    def _listed(self, component: Component) -> tuple[str, ...]:
        return self.components.get(component.name, self.nodes)

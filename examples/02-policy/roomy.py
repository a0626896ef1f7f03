"""A placement policy in fifteen lines; `docs/policies.md` explains each of them."""

from dataclasses import dataclass

from shoal.descriptions.kinds.application import Component
from shoal.descriptions.options import option
from shoal.policies.policy import Policy, Rejection
from shoal.policies.view import NodeView, View


@dataclass(frozen=True)
class Roomy(Policy):
    """Prefer the node with most memory left; refuse one that would keep less than a reserve."""

    reserve: int = option(256 * 1024**2, ge=0, unit="bytes")

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        left = node.memory_bytes_free - view.request.memory_bytes
        if left < self.reserve:
            return Rejection(f"{left >> 20} MiB would be left, the reserve is {self.reserve >> 20} MiB")
        return None

    def score(self, component: Component, node: NodeView, view: View) -> float:
        return node.memory_bytes_free

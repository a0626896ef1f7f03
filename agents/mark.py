"""What an agent may never go below: the order of desired documents and the fence of control planes. Pure.

The mark is made durable before a document is acted on, so that neither a restart nor a reordered, repeated or replayed
message takes the node back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..descriptions.messages.desired import Desired


@dataclass(frozen=True)
class Mark:
    """The highest (epoch, generation) seen, its digest, and the highest fence."""

    epoch: int = 0
    generation: int = 0
    digest: str = ""
    fence: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """What documents are ordered by."""
        return self.epoch, self.generation

    def refusal(self, desired: Desired) -> str:
        """Why this document must not be applied; empty when it may."""
        if desired.fence < self.fence:
            return f"fence {desired.fence} is below {self.fence}: an earlier control plane sent it"
        order = (desired.epoch, desired.generation)
        if order < self.order:
            return f"(epoch, generation) {order} is below {self.order}"
        if order == self.order and self.digest and desired.digest != self.digest:
            return f"(epoch, generation) {order} was seen with another digest"
        return ""

    def after(self, desired: Desired) -> Mark:
        """The mark once this document is accepted."""
        return Mark(desired.epoch, desired.generation, desired.digest, max(self.fence, desired.fence))

    def with_fence(self, fence: int) -> Mark:
        """The mark once this fence was seen."""
        return replace(self, fence=max(self.fence, fence))

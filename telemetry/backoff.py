"""How long to wait before the next attempt: full jitter under a growing, bounded ceiling.

Called by the link before each reconnect and by the OTLP exporter before each retry. Pure: randomness comes in.
Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
"""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays of one retried thing; `reset` when it has succeeded for long enough."""

    def __init__(self, base_s: float, cap_s: float, random: Random) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"need 0 < base_s <= cap_s, got {base_s} and {cap_s}")
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random
        self.attempts = 0

    def reset(self) -> None:
        """Start again from the base."""
        self.attempts = 0

    def ceiling_s(self, floor_s: float = 0.0) -> float:
        """The longest delay that `next_s` could give now; `floor_s` lifts it (reconnect spread)."""
        # 2**64 is far over any cap and keeps the power finite.
        return max(floor_s, min(self._cap_s, self._base_s * 2.0 ** min(self.attempts, 64)))

    def next_s(self, floor_s: float = 0.0) -> float:
        """A uniformly random delay in seconds between 0 and the ceiling, which then grows."""
        delay_s = self._random.uniform(0.0, self.ceiling_s(floor_s))
        self.attempts += 1
        return delay_s

"""How often each metric is measured: a default, and more often where an active policy asks for it. Pure.

The reader asks what is due; the agent's driver sets the rates from `DesiredSpec.settings` whenever they change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

INTERVAL_S_MIN = 0.1
INTERVAL_S_MAX = 3600.0
LOAD_LEVEL_MAX = 8


@dataclass(frozen=True)
class Rates:
    """Intervals in seconds. `asked` maps prefixes of metric names to what policies ask for."""

    default_s: float = 15.0
    asked: Mapping[str, float] = field(default_factory=dict)
    load_level: int = 0
    """From `down/lease`: each level halves the rate of what nobody asked for."""

    def is_asked(self, name: str) -> bool:
        """Whether a policy depends on this metric; it travels on `tel/hi` then."""
        return any(name.startswith(prefix) for prefix in self.asked)

    def interval_s(self, name: str) -> float:
        """The shortest interval that anything wants for this metric, within bounds."""
        wanted = [interval_s for prefix, interval_s in self.asked.items() if name.startswith(prefix)]
        default_s = self.default_s * 2.0 ** min(max(self.load_level, 0), LOAD_LEVEL_MAX)
        return min(max(min(default_s, *wanted) if wanted else default_s, INTERVAL_S_MIN), INTERVAL_S_MAX)


@dataclass
class Schedule:
    """When each metric is due next.

    Metrics of one interval fall on the same ticks, multiples of the interval moved by `phase` (0 to 1), so that one
    collection serves them all and a fleet that was started at once does not measure at once.
    """

    rates: Rates = field(default_factory=Rates)
    phase: float = 0.0
    _last_s: dict[str, float] = field(default_factory=dict)

    def due_s(self, name: str) -> float:
        """When the metric is due; minus infinity for one that was never measured."""
        last_s = self._last_s.get(name)
        if last_s is None:
            return -math.inf
        interval_s = self.rates.interval_s(name)
        shift_s = self.phase * interval_s
        # A hair ahead, so that a tick computed as 14.999… doesn't give itself as the next one.
        return (math.floor((last_s - shift_s) / interval_s + 1e-9) + 1) * interval_s + shift_s

    def is_due(self, name: str, now_s: float) -> bool:
        """Whether the metric should be measured now."""
        return self.due_s(name) <= now_s

    def measured(self, name: str, now_s: float) -> None:
        """The metric was measured."""
        self._last_s[name] = now_s

    def next_s(self, now_s: float) -> float:
        """When anything is due next; at the latest after the default interval, for metrics that nobody knows yet."""
        latest_s = now_s + min(max(self.rates.default_s, INTERVAL_S_MIN), INTERVAL_S_MAX)
        return min((self.due_s(name) for name in self._last_s), default=latest_s)

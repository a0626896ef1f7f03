"""What was measured, as policies read it: a statistic over a telemetry window, with its age.

The control plane's windows implement `Metrics`; `View.reading` hands it to policies; a policy process gets the
readings that its policy declared (`MetricUse`) shipped beside the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Statistic = Literal["last", "mean", "rate", "min", "max", "p50", "p95", "p99"]


@dataclass(frozen=True)
class Reading:
    """A statistic over a window, with its age."""

    value: float
    age_s: float
    samples: int


@dataclass(frozen=True)
class MetricUse:
    """A metric that a policy reads; nodes measure it at least this often while the policy is active."""

    metric: str
    statistic: Statistic = "mean"
    window_s: float = 30.0
    interval_s: float = 5.0
    """Wished time between two samples."""


class Metrics(Protocol):
    """Read-only telemetry windows; None when nothing fresh was measured."""

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        """`node` is a node name, `component` is `application.component`; empty means over all."""
        ...


class NoMetrics:
    """Nothing was measured."""

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        """Give nothing."""
        return None


NO_METRICS = NoMetrics()

"""The telemetry windows as planning and adaptation read them: still, as they were when the snapshot was taken."""

from __future__ import annotations

from dataclasses import dataclass

from ..policies.reading import Reading, Statistic
from ..telemetry.window_query import Moment


@dataclass(frozen=True)
class Readings:
    """`policies.reading.Metrics` over one moment of the windows."""

    moment: Moment

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        """What was measured; None where nothing fresh was."""
        row = self.moment.read(metric, statistic, window_s, node=node, component=component)
        return None if row is None else Reading(row.value, row.age_s, row.samples)

"""Judges QoS targets: one verdict a window, and missed when enough of the last windows were.

`core.py` asks at each look and keeps the verdicts; what to do about a missed target is `response.py`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ...descriptions.kinds.application import QosTarget
from ...descriptions.kinds.meta import Relation
from ..planner.snapshot import Metrics

MISSES = 2
WINDOWS = 3
"""A target counts as missed when it was in MISSES of the last WINDOWS windows: one bad window is no trend."""
EQUAL_SHARE = 0.05
"""`equal` is met within this share of the target: measured values are never equal to the last bit."""

Verdict = Literal["met", "missed", "unknown"]


@dataclass(frozen=True)
class Judgement:
    """What one window says of a target."""

    verdict: Verdict
    reason: str
    """With the numbers, for people."""
    excess: float = 0.0
    """How far the value is on the wrong side, as a share of the target; 0 when met."""


@dataclass(frozen=True)
class Verdicts:
    """The last windows of one target, oldest first."""

    kept: tuple[Verdict, ...] = ()
    judged_s: float = -math.inf
    """When the newest was given."""

    @property
    def is_missed(self) -> bool:
        """True when enough of the last windows missed."""
        return self.kept.count("missed") >= MISSES

    def is_due(self, target: QosTarget, now_s: float) -> bool:
        """True when a whole window has passed since the last verdict, so that none counts the same samples twice."""
        return now_s - self.judged_s >= target.window

    def after(self, verdict: Verdict, now_s: float) -> Verdicts:
        """These and one more."""
        return Verdicts((*self.kept, verdict)[-WINDOWS:], now_s)


def judge(target: QosTarget, component: str, metrics: Metrics, node: str = "") -> Judgement:
    """Compare the newest window with the target; missing, stale and non-finite readings say nothing, not "missed"."""
    what = f"{target.statistic} of {target.metric} over {target.window:g} s"
    reading = metrics.read(target.metric, target.statistic, target.window, node=node, component=component)
    if reading is None:
        return Judgement("unknown", f"no reading of {what}")
    if reading.age_s > target.window:
        return Judgement("unknown", f"the newest reading of {what} is {reading.age_s:.0f} s old")
    if not math.isfinite(reading.value):
        return Judgement("unknown", f"the reading of {what} is not a number")
    told = f"{what} is {reading.value:g}, wanted {target.relation} {target.target:g}"
    if is_met(target.relation, reading.value, target.target):
        return Judgement("met", told)
    return Judgement("missed", told, abs(reading.value - target.target) / max(abs(target.target), 1e-9))


def is_met(relation: Relation, value: float, target: float) -> bool:
    """Say whether `value` stands to `target` as `relation` demands."""
    match relation:
        case Relation.LOWER_OR_EQUAL:
            return value <= target
        case Relation.LOWER_THAN:
            return value < target
        case Relation.GREATER_OR_EQUAL:
            return value >= target
        case Relation.GREATER_THAN:
            return value > target
        case Relation.EQUAL:
            return math.isclose(value, target, rel_tol=EQUAL_SHARE, abs_tol=1e-9)

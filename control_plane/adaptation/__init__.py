"""Adapts what runs to what is measured: scaling signals, QoS targets and policies' wishes to checked actions.

`core.py` decides, `wishes.py` says what should change, `scaling.py` and `targets.py` do the arithmetic, `response.py`
and `settings.py` know the built-in answers, `brakes.py` says no; `events.py` and `record.py` are what goes in and out,
`wanted.py` hands an action to the plan core.
"""

from __future__ import annotations

from .core import Adaptation
from .events import (
    Act,
    ActionCommitted,
    ActionRejected,
    DemandSeen,
    Effect,
    Event,
    Explain,
    LookAt,
    Looked,
    PlanAgain,
    PolicyPlan,
)
from .record import AdaptationRecord

__all__ = [
    "Act",
    "ActionCommitted",
    "ActionRejected",
    "Adaptation",
    "AdaptationRecord",
    "DemandSeen",
    "Effect",
    "Event",
    "Explain",
    "LookAt",
    "Looked",
    "PlanAgain",
    "PolicyPlan",
]

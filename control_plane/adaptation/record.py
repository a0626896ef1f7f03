"""Why adaptation did something, or did nothing: one record for each action, refusal and change of mind.

`core.py` makes them, the driver keeps them beside the placement decisions, `shoal why` shows them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Result = Literal["proposed", "refused", "deferred", "held"]
"""`held` is a choice to wait, `deferred` is planned again; of what is `proposed` the plan core has the last word."""

Rule = Literal[
    "permittedActions", "bounds", "cooldown", "blastRadius", "conflict", "unknown", "noReading", "stabilisation",
    "unchanged", "noResponse", "target", "signal", "demand", "policy", "rejected",
]  # fmt: skip
"""What decided, stable for programs."""


class AdaptationRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One answer of adaptation, complete enough to be read a week later."""

    id: str
    cause: str
    """Id of the event that led to it."""
    at_s: float
    """Control plane's monotonic clock."""
    version: int
    """Resource version of the snapshot it was decided on."""
    application: str
    component: str
    source: str
    """Policy by name, or `scaling` / `qos` for the built-in answers to the description."""
    verb: str
    """`scale`, `move`, a mechanism's verb, or empty where nothing came to an action."""
    result: Result
    rule: Rule
    reason: str
    """A sentence with the numbers."""
    tried: tuple[str, ...] = ()
    """What was considered first and why it was not possible."""

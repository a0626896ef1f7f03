"""What adaptation policies give back: what they found (`Assessment`) and what they want done (`Move`, `Scale`,
`Set`).

`Policy.analyze` and `Policy.plan` return these; the control plane's own adaptation gives the same for QoS targets and
scaling signals. They are wishes: the plan core checks `permittedActions`, cooldown and blast radius before it acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
"""What a mechanism's argument may hold; its schema is in the mechanism's options."""


@dataclass(frozen=True)
class Assessment:
    """Something that should change, found by `analyze` and handed to `plan` of the same policy."""

    application: str
    component: str = ""
    """Empty when it concerns the application as a whole."""
    reason: str = ""
    """One sentence for people, with the numbers: `p95 latency 48 ms over the target of 20 ms for 30 s`."""
    replica: str = ""
    """Replica id, where one replica is meant."""
    node: str = ""
    """Node name, where one node is meant."""
    metric: str = ""
    value: float | None = None
    """Measured, in the metric's own unit."""
    target: float | None = None


@dataclass(frozen=True)
class Move:
    """Run a replica on another node: the new one is ready before the old one stops. Verb `move`."""

    application: str
    component: str
    replica: str
    """Id of the replica to move."""
    node: str = ""
    """Wished node, filtered like any other; the placement policies choose when empty."""
    reason: str = ""


@dataclass(frozen=True)
class Scale:
    """Run another number of replicas, between `scaling.min` and `scaling.max` where there are any. Verb `scale`."""

    application: str
    component: str
    replicas: int
    """Wanted in total, not the difference."""
    reason: str = ""


@dataclass(frozen=True)
class Set:
    """Change a setting through a mechanism; lasts until another `Set` of the same mechanism, verb and target."""

    mechanism: str
    verb: str
    """One of the verbs that the mechanism offers on the node."""
    node: str
    """Name of the node whose mechanism does it."""
    target: str = ""
    """Replica id, `application.component`, or empty for the node itself."""
    arguments: Mapping[str, Json] = field(default_factory=dict)
    application: str = ""
    """On whose behalf; its `permittedActions` must name the verb."""
    component: str = ""
    reason: str = ""


Action = Move | Scale | Set


def verb_of(action: Action) -> str:
    """The name that `permittedActions` must accept for `action`."""
    match action:
        case Move():
            return "move"
        case Scale():
            return "scale"
        case Set():
            return action.verb

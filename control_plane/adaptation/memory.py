"""What adaptation remembers from one look to the next: small, bounded by the descriptions, lost with the process.

Owned by `core.py`; `wishes.py` reads and feeds one component's part of it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ..planner.snapshot import Snapshot
from .record import Result, Rule
from .targets import Verdicts

PENDING_S_MAX = 60.0
"""An action that nobody answered for this long is forgotten; until then its component is left alone."""
RECOMMENDATIONS_MAX = 1024

Key = tuple[str, str]
"""Application and component; a setting of a whole node has the node, the mechanism and the verb."""


@dataclass
class ComponentMemory:
    """Of one component."""

    verdicts: dict[int, Verdicts] = field(default_factory=dict)
    """By place of the target in `qos`."""
    recommended: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECOMMENDATIONS_MAX))
    """When, and how many replicas."""
    adapted_s: float = -math.inf
    scaled_s: float = -math.inf
    demand: float = 0.0
    demand_s: float = -math.inf


@dataclass(frozen=True)
class Pending:
    """An action on its way through the plan core."""

    key: Key
    weight: int
    since_s: float
    version: int | None = None
    """Snapshots from this version on show it; None until the plan core has answered."""


@dataclass
class Memory:
    """Of the whole slice."""

    components: dict[Key, ComponentMemory] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    """By action id."""
    said: dict[tuple[Key, str], tuple[Result, Rule]] = field(default_factory=dict)
    """The latest answer to each source for each component, so that it is not repeated at every look."""
    settings: dict[tuple[str, str, str, str], object] = field(default_factory=dict)
    """(node, mechanism, verb, target) → the arguments that were proposed last."""

    def of(self, key: Key) -> ComponentMemory:
        """The part of one component, made when first asked for."""
        return self.components.setdefault(key, ComponentMemory())

    def is_pending(self, key: Key) -> bool:
        """True while an action on it is being committed."""
        return any(pending.key == key for pending in self.pending.values())

    def forget_said(self, key: Key) -> None:
        """Something changed: what is said of it next is news again."""
        for said in [said for said in self.said if said[0] == key]:
            del self.said[said]

    def prune(self, snapshot: Snapshot, now_s: float) -> None:
        """Forget what the snapshot shows, what nobody answered, and what no description names any more."""
        for action, pending in list(self.pending.items()):
            is_shown = pending.version is not None and pending.version <= snapshot.version
            if is_shown or now_s - pending.since_s > PENDING_S_MAX:
                del self.pending[action]
        known = {(app.metadata.name, part.name) for app in snapshot.applications for part in app.spec.components}
        nodes = {node.node.metadata.name for node in snapshot.nodes}
        for key in [key for key in self.components if key not in known and key[0] not in nodes]:
            del self.components[key]
        for said in [said for said in self.said if said[0] not in known and said[0][0] not in nodes]:
            del self.said[said]
        for setting in [setting for setting in self.settings if setting[0] not in nodes]:
            del self.settings[setting]

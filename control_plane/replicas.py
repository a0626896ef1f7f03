"""Replicas on their way in and out: stopped, drained, forgotten when they are gone, and since when each waits.

Owned by `components.py`, used by `rollouts.py` and `placing.py` as well. What is remembered here beside the rows is
only of times and choices; a restart may forget it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from .draft import Draft
from .effects import Happening
from .placement import Placement
from .planner.snapshot import Need
from .reconcile import Keep, Stop
from .rows import Rows


@dataclass
class Replicas:
    """All replicas, as far as time matters to them."""

    rows: Rows
    told: dict[str, int] = field(default_factory=dict)
    """Of `publishing.py`: replicas that were told to leave."""
    starting: dict[str, float] = field(default_factory=dict)
    """Replica id → since when its node says that it starts: a node that hasn't heard of it yet is not late."""
    draining: dict[str, float] = field(default_factory=dict)
    """Replica id → since when it drains."""
    not_before: dict[str, float] = field(default_factory=dict)
    """Replica id → when a failed move of it may be tried again."""
    choices: dict[str, Keep] = field(default_factory=dict)
    """Returned replica → which one stays."""
    moves: dict[str, Need] = field(default_factory=dict)
    """Replica id → the move that adaptation wants."""

    def saw(self, placement: Placement, now_s: float) -> None:
        """Note since when a replica starts or drains; after a restart, since now."""
        if placement.wanted == "drain":
            self.draining.setdefault(placement.id, now_s)
        if placement.wanted == "run" and placement.phase != "ready":
            self.starting.setdefault(placement.id, now_s)

    def stop(self, stop: Stop, draft: Draft) -> Placement | None:
        """Drain a replica, or stop one that serves nobody; returns it, None if there was nothing to do."""
        placement = self.rows.placements.get(stop.id)
        if placement is None or placement.wanted == "stop":
            return None
        serves = placement.phase in ("ready", "notReady") and not placement.lost
        drains = serves and not stop.at_once and placement.wanted == "run"
        draft.put(msgspec.structs.replace(placement, wanted="drain" if drains else "stop"))
        if drains:
            self.draining[placement.id] = draft.now_s
        self.starting.pop(placement.id, None)
        draft.tell(told("ReplicaStopping", f"{placement.id} stops: {stop.reason}", placement))
        return placement

    def gone(self, placement: Placement, draft: Draft) -> None:
        """A replica has stopped, or its node is gone for good."""
        tables: tuple[dict[str, object], ...] = (
            self.starting, self.draining, self.not_before, self.told, self.choices, self.moves
        )  # type: ignore[assignment]  # fmt: skip
        for table in tables:
            table.pop(placement.id, None)
        state = self.rows.state_of((placement.application, placement.component))
        settings = tuple(one for one in state.settings if one.setting.target != placement.id)
        if settings != state.settings:
            draft.put(msgspec.structs.replace(state, settings=settings))
        draft.forget_placement(placement)


def told(reason: str, message: str, placement: Placement, *, is_warning: bool = False) -> Happening:
    """Something that happened to a replica."""
    application, node = placement.application, placement.node_name
    severity = "warning" if is_warning else "info"
    return Happening(reason, message, "Application", application, severity, application, node)  # type: ignore[arg-type]

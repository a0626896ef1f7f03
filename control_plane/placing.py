"""Turns a decision of the planner into rows: each assignment checked again, then a Placement and its rollout's step.

Owned by `components.py`, called by `core.py` for every answer that still counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds.rollout import RolloutCause, Step
from .admission import refusal
from .component_state import ComponentState
from .desired import takes_turns
from .draft import Draft
from .placement import Placement
from .plan import Answer
from .planner.snapshot import Assignment, NodeState
from .reconcile import Stop
from .replicas import Replicas, told
from .rollouts import Rollouts
from .rows import Key, Rows


@dataclass
class Placing:
    """The way from a decision to rows."""

    rows: Rows
    nodes: Mapping[str, NodeState]
    """By name, as planning sees them."""
    replicas: Replicas
    rollouts: Rollouts
    wall_offset_s: float = 0.0
    unplaced: dict[Key, str] = field(default_factory=dict)
    """Component → why no node fitted, last time."""

    def place(self, answer: Answer, draft: Draft) -> str:
        """Write down what the decision assigns; returns why not all of it was possible, empty when it was."""
        key, need, decision = answer.key, answer.need, answer.decision
        placed: list[Placement] = []
        refused = ""
        for assignment in decision.assignments:
            why_not = refusal(self.rows, self.nodes.get(assignment.node_name), need, assignment)
            if why_not:
                refused = refused or why_not
            else:
                placed.append(self._place(key, answer, assignment, draft))
        if placed or self.unplaced.get(key) != decision.summary:
            draft.decisions.append(decision)  # the same refusal again and again is told once
        self._announce(answer, placed, draft)
        return refused

    def _place(self, key: Key, answer: Answer, assignment: Assignment, draft: Draft) -> Placement:
        state = self.rows.state_of(key)
        state = msgspec.structs.replace(state, ordinal=state.ordinal + 1)
        draft.put(state)
        placement = self._new(key, answer, assignment, state, draft.now_s)
        draft.put(placement)
        self.replicas.moves.pop(placement.replaces, None)
        return placement

    def _new(self, key: Key, answer: Answer, assignment: Assignment, state: ComponentState, now_s: float) -> Placement:
        return Placement(
            id=f"{key[0]}.{key[1]}.{state.ordinal}",
            application=key[0],
            component=key[1],
            ordinal=state.ordinal,
            node_uid=assignment.node_uid,
            node_name=assignment.node_name,
            revision=state.revision,
            decision=answer.decision.id,
            cause=answer.need.cause,
            replaces=assignment.replaces,
            created_s=now_s + self.wall_offset_s,
            reserved=assignment.reserved,
        )

    def take_turns(self, key: Key, draft: Draft) -> None:
        """Where a replica and the one that it replaces may not run at once, the old one stops first."""
        component = self.rows.component(key)
        for placement in self.rows.placements_of(key) if component is not None else ():
            old = self.rows.placements.get(placement.replaces)
            if old is None or old.lost or old.wanted != "run" or placement.wanted != "run":
                continue
            if component is not None and takes_turns(component, placement, old):
                self.replicas.stop(Stop(old.id, f"{placement.id} may only start after it"), draft)

    def _announce(self, answer: Answer, placed: list[Placement], draft: Draft) -> None:
        cause = answer.need.cause
        for placement in placed:
            instead = f" instead of {placement.replaces}" if placement.replaces else ""
            message = f"{placement.id} is placed on {placement.node_name}{instead} ({cause})"
            draft.tell(told("ReplicaPlaced", message, placement))
        if placed and cause != "initial":
            steps = tuple(Step(old=placement.replaces, new=placement.id, phase="starting") for placement in placed)
            self.rollouts.record(answer.key, RolloutCause(cause), answer.decision.id, steps, draft)

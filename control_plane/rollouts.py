"""Keeps the Rollout rows: begins and extends them, takes them as far as `rollout.py` says, and ends them.

Owned by `components.py`. A rollout that fails or is aborted halts its revision: it is not tried again until the
component changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ..descriptions.kinds import Rollout
from ..descriptions.kinds.rollout import RolloutCause, Step
from .draft import Draft
from .effects import Happening
from .placement import Placement
from .reconcile import Stop
from .replicas import Replicas
from .rollout import Progress, advance, begin, extend, is_running
from .rows import Key, Rows

KEPT = 3
"""Ended rollouts of a component that are kept for people to read."""
AGAIN_S = 60.0
"""Pause before a failed drain or move is tried again."""
READY_TIMEOUT_S = 120.0
"""Of a component that nobody describes any more."""


@dataclass
class Rollouts:
    """All rollouts."""

    rows: Rows
    replicas: Replicas

    def record(self, key: Key, cause: RolloutCause, decision: str, steps: tuple[Step, ...], draft: Draft) -> None:
        """Add steps to the running rollout of this cause, or begin one."""
        for rollout in self.rows.rollouts_of(key):
            if is_running(rollout) and rollout.spec.cause is cause:
                draft.put(extend(rollout, steps))
                return
        draft.put(begin(key, cause, decision, steps))

    def note_scale_down(self, key: Key, stopped: Iterable[Placement], draft: Draft) -> None:
        """Replicas that leave because fewer are wanted."""
        steps = tuple(Step(old=placement.id, phase="stopping") for placement in stopped)
        if steps and self.rows.component(key) is not None:
            self.record(key, RolloutCause.SCALE, "", steps, draft)

    def advance(self, key: Key, draft: Draft) -> float | None:
        """Take running rollouts as far as they go; returns when to look again."""
        wakes_s = [self._advance(rollout, draft) for rollout in self.rows.rollouts_of(key) if is_running(rollout)]
        return min((wake_s for wake_s in wakes_s if wake_s is not None), default=None)

    def end(self, rollout: Rollout, draft: Draft, message: str = "") -> None:
        """Abort it: what was begun is taken back."""
        self._advance(rollout, draft, is_aborted=True)
        ended = self.rows.rollouts[rollout.metadata.name]
        if message and ended.status is not None:
            draft.put(ended.model_copy(update={"status": ended.status.model_copy(update={"message": message})}))
        draft.keys.add((rollout.spec.application, rollout.spec.component))

    def _advance(self, rollout: Rollout, draft: Draft, *, is_aborted: bool = False) -> float | None:
        key = (rollout.spec.application, rollout.spec.component)
        component = self.rows.component(key)
        placements = {placement.id: placement for placement in self.rows.placements_of(key)}
        timeout_s = component.update_strategy.ready_timeout if component is not None else READY_TIMEOUT_S
        moved = advance(rollout, Progress(placements, self.replicas.starting, draft.now_s, timeout_s, is_aborted))
        draft.put(moved.rollout)
        for replica in moved.drain:
            self.replicas.stop(Stop(replica, "its successor is ready"), draft)
        for stop in moved.stop:
            self.replicas.stop(Stop(stop.id, stop.reason, at_once=True), draft)
        if not is_running(moved.rollout):
            self._ended(key, moved.rollout, draft)
        return moved.wake_s

    def _ended(self, key: Key, rollout: Rollout, draft: Draft) -> None:
        status, cause = rollout.status, rollout.spec.cause
        assert status is not None, "ended rollouts have a status"
        if status.phase != "done":
            if cause is RolloutCause.UPDATE:
                state = self.rows.state_of(key)
                draft.put(msgspec.structs.replace(state, halted=state.revision))
            for step in rollout.spec.steps:
                self.replicas.not_before[step.old] = draft.now_s + AGAIN_S
                self.replicas.moves.pop(step.old, None)
        reason = {"done": "RolloutDone", "failed": "RolloutFailed"}.get(status.phase, "RolloutAborted")
        told = f"{cause.value} of {key[1]}: {status.message}"
        is_done = status.phase == "done"
        draft.tell(Happening(reason, told, "Application", key[0], "info" if is_done else "warning", key[0]))
        for old in _surplus(self.rows.rollouts_of(key)):
            draft.delete("Rollout", old.metadata.name)


def _surplus(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Ended rollouts beyond those that are kept, oldest first as far as their replicas tell."""
    ended = sorted((rollout for rollout in rollouts if not is_running(rollout)), key=_age)
    return ended[: max(len(ended) - KEPT, 0)]


def _age(rollout: Rollout) -> int:
    return max(int((step.new or step.old).rpartition(".")[2] or 0) for step in rollout.spec.steps)

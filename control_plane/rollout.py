"""Walks replicas from old to new: the new one is ready before the old one stops, and is taken back if it never is.

A Rollout row lists steps; each has an old replica, a new one, or both. `advance` is pure: it reads the placements of
the steps and says what to drain and stop, by the table below. Where there is nothing to go back to (the old one's node
is lost, or only one may run at a time), there is no deadline. Called by `core.py` after each event that touches one of
the replicas; what starts new replicas is the plan core, and what ends a drain is `reconcile.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from ..descriptions.kinds import Rollout
from ..descriptions.kinds.meta import Condition, Metadata
from ..descriptions.kinds.rollout import RolloutCause, RolloutSpec, RolloutStatus, Step
from .placement import Placement
from .reconcile import Stop
from .rows import Key

StepPhase = Literal["pending", "starting", "stopping", "done", "failed"]


class Signal(Enum):
    """What there is to see of a step."""

    NEW_READY = "the new replica is ready"
    NEW_FAILED = "the new replica failed"
    NEW_LATE = "the new replica was not ready in time"
    NEW_GONE = "the new replica's node went away"
    OLD_GONE = "the old replica is gone"
    ABORTED = "an operator aborted it"


class Action(Enum):
    """What follows."""

    NOTHING = "nothing"
    DRAIN_OLD = "drain the old replica"
    STOP_NEW = "take the new replica back"


STEPS: dict[tuple[StepPhase, Signal], tuple[StepPhase, Action]] = {
    ("pending", Signal.OLD_GONE): ("done", Action.NOTHING),
    ("pending", Signal.ABORTED): ("failed", Action.NOTHING),
    ("starting", Signal.NEW_READY): ("stopping", Action.DRAIN_OLD),
    ("starting", Signal.NEW_FAILED): ("failed", Action.STOP_NEW),
    ("starting", Signal.NEW_LATE): ("failed", Action.STOP_NEW),
    ("starting", Signal.ABORTED): ("failed", Action.STOP_NEW),
    ("starting", Signal.NEW_GONE): ("pending", Action.NOTHING),
    ("stopping", Signal.OLD_GONE): ("done", Action.NOTHING),
}
"""Pairs that are not here change nothing."""

_URGENCY = (
    Signal.NEW_GONE,
    Signal.ABORTED,
    Signal.NEW_READY,
    Signal.NEW_FAILED,
    Signal.NEW_LATE,
    Signal.OLD_GONE,
)
"""Which signal counts when there are several."""


@dataclass(frozen=True)
class Progress:
    """What `advance` may know beside the rollout itself."""

    placements: Mapping[str, Placement]
    """Of the component, by id."""
    since: Mapping[str, float]
    """New replica's id → when it began to start."""
    now_s: float
    ready_timeout_s: float = 120.0
    is_aborted: bool = False


@dataclass(frozen=True)
class Advance:
    """What becomes of the rollout now."""

    rollout: Rollout
    drain: tuple[str, ...] = ()
    stop: tuple[Stop, ...] = ()
    wake_s: float | None = None


@dataclass
class _Walk:
    drain: list[str] = field(default_factory=list)
    stop: list[Stop] = field(default_factory=list)
    wakes_s: list[float] = field(default_factory=list)
    why: str = ""
    """What ended it, where something failed."""


def begin(key: Key, cause: RolloutCause, decision: str, steps: tuple[Step, ...]) -> Rollout:
    """A new rollout, named by its component, cause and first replica: the same begin gives the same name."""
    application, component = key
    first = steps[0].new or steps[0].old
    digest = hashlib.sha256(f"{application}.{component} {cause.value} {first}".encode()).hexdigest()[:6]
    ordinal = first.rpartition(".")[2]
    name = f"{component[:36].rstrip('-')}-{cause.value}-{ordinal}-{digest}"
    spec = RolloutSpec(application=application, component=component, cause=cause, decision=decision, steps=steps)
    return Rollout(metadata=Metadata(name=name), spec=spec, status=RolloutStatus())


def extend(rollout: Rollout, steps: tuple[Step, ...]) -> Rollout:
    """The rollout with more steps; one whose old replica waits as `pending` already is filled in."""
    filled = {step.old: step for step in steps if step.old}
    kept = tuple(filled.pop(step.old, step) if step.phase == "pending" else step for step in rollout.spec.steps)
    added = tuple(step for step in steps if not step.old or step.old in filled)
    return with_steps(rollout, (*kept, *added))


def with_steps(rollout: Rollout, steps: tuple[Step, ...]) -> Rollout:
    """The rollout with other steps."""
    return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"steps": steps})})


def is_running(rollout: Rollout) -> bool:
    """True until it is done, aborted or failed."""
    return rollout.status is None or rollout.status.phase in ("running", "paused")


def paused(rollout: Rollout, *, is_paused: bool) -> Rollout:
    """The rollout, paused or going on."""
    spec = rollout.spec.model_copy(update={"paused": is_paused})
    status = RolloutStatus(phase="paused" if is_paused else "running")
    return rollout.model_copy(update={"spec": spec, "status": status})


def advance(rollout: Rollout, progress: Progress) -> Advance:
    """Take every step as far as it goes now; one failed step ends the rollout and takes back what is starting."""
    walk = _Walk()
    steps = tuple(_step(step, progress, walk) for step in rollout.spec.steps)
    if walk.why and not progress.is_aborted:
        ended = replace(progress, is_aborted=True)
        steps = tuple(_step(step, ended, walk) for step in steps)
    moved = rollout if steps == rollout.spec.steps else with_steps(rollout, steps)
    status = _status(rollout, steps, walk.why, progress)
    if status != rollout.status:
        moved = moved.model_copy(update={"status": status})
    return Advance(moved, tuple(walk.drain), tuple(walk.stop), min(walk.wakes_s, default=None))


def _step(step: Step, progress: Progress, walk: _Walk) -> Step:
    signals = _signals(step, progress, walk)
    signal = next((signal for signal in _URGENCY if signal in signals and (step.phase, signal) in STEPS), None)
    if signal is None:
        return step
    phase, action = STEPS[step.phase, signal]
    if action is Action.STOP_NEW:
        walk.stop.append(Stop(step.new, signal.value))
        walk.why = walk.why or _why(step, signal, progress)
    if action is Action.DRAIN_OLD:
        phase = _drain(step, progress, walk)
    if signal is Signal.NEW_GONE:
        step = step.model_copy(update={"new": ""})
    return step.model_copy(update={"phase": phase})


def _drain(step: Step, progress: Progress, walk: _Walk) -> StepPhase:
    old = progress.placements.get(step.old)
    if old is None or old.lost:
        return "done"
    if old.wanted == "run":
        walk.drain.append(step.old)
    return "stopping"


def _signals(step: Step, progress: Progress, walk: _Walk) -> set[Signal]:
    old = progress.placements.get(step.old)
    new = progress.placements.get(step.new)
    signals = {Signal.ABORTED} if progress.is_aborted else set[Signal]()
    if old is None and step.old:
        signals.add(Signal.OLD_GONE)
    if step.phase != "starting":
        return signals
    if new is None or new.wanted != "run":
        # With an old replica the plan core is asked again; without one there is nothing left to do.
        signals.add(Signal.NEW_GONE if old is not None else Signal.NEW_READY)
    elif new.phase == "ready":
        signals.add(Signal.NEW_READY)
    elif old is not None and old.wanted == "run" and not old.lost:
        late_s = progress.since.get(step.new, progress.now_s) + progress.ready_timeout_s
        if new.phase == "failed":
            signals.add(Signal.NEW_FAILED)
        if late_s <= progress.now_s:
            signals.add(Signal.NEW_LATE)
        walk.wakes_s.append(late_s)
    return signals


def _why(step: Step, signal: Signal, progress: Progress) -> str:
    new = progress.placements.get(step.new)
    told = f": {new.message}" if new is not None and new.message else ""
    where = f" on {new.node_name}" if new is not None else ""
    return f"{step.new}{where}: {signal.value}{told}"


def _status(rollout: Rollout, steps: tuple[Step, ...], why: str, progress: Progress) -> RolloutStatus:
    before = rollout.status or RolloutStatus()
    done = sum(step.phase == "done" for step in steps)
    told = f"{done} of {len(steps)} replicas"
    if why or before.phase in ("aborted", "failed"):
        phase = "aborted" if progress.is_aborted else "failed" if why else before.phase
        return RolloutStatus(phase=phase, message=why or before.message, conditions=before.conditions)
    if progress.is_aborted:
        return RolloutStatus(phase="aborted", message=f"aborted after {told}")
    if done == len(steps):
        return RolloutStatus(phase="done", message=told, conditions=(_complete(told),))
    return RolloutStatus(phase="paused" if rollout.spec.paused else "running", message=told)


def _complete(told: str) -> Condition:
    return Condition(type="Complete", status="True", reason="Done", message=told)

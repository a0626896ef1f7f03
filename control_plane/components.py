"""Keeps components as they should be: revisions, the difference that `reconcile.py` finds, rollouts, proposed places.

`settle` takes one component as far as it goes now; `place` turns a decision of the planner into rows. Both write
through a `Draft`. Called by `core.py` for each component that an event touched; memory here is only of times and
choices, all of which may be forgotten by a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds import Rollout
from ..descriptions.kinds.application import Component
from ..descriptions.kinds.rollout import RolloutCause, Step
from .admission import refusal
from .component_state import COMPONENT_STATE_KIND, REVISION_KIND, ComponentState, Revision
from .desired import takes_turns
from .draft import Draft
from .effects import AskScores, Happening, Timer, WakeAt
from .membership import Member, Membership
from .placement import Placement
from .plan import Answer, PlanQueue
from .planner.snapshot import Assignment, Need, NodeState
from .reconcile import Difference, Keep, Situation, Standing, Stop, heads_of, reconcile
from .revisions import Unready, recipe_of
from .rollout import Progress, advance, begin, extend, is_running
from .rows import Key, Rows, is_component
from .storm import EvictionBudget

PASSES_MAX = 8
"""A component that isn't settled after so many passes is a mistake of ours."""
ROLLOUTS_KEPT = 3
"""Ended rollouts of a component that are kept for people to read."""
GONE_KEPT_MAX = 10_000
"""Removed components whose numbers are remembered."""
AGAIN_S = 60.0
"""Pause before a failed drain or move is tried again."""


@dataclass
class Components:
    """The keeper of all components."""

    rows: Rows
    membership: Membership
    plans: PlanQueue
    nodes: dict[str, NodeState]
    """By name, as planning sees them."""
    told: dict[str, int] = field(default_factory=dict)
    """Of `publishing.py`: replicas that were told to leave."""
    wall_offset_s: float = 0.0
    budget: EvictionBudget = field(default_factory=EvictionBudget)
    unready: dict[Key, Unready] = field(default_factory=dict)
    """Components that cannot run yet."""
    moves: dict[str, Need] = field(default_factory=dict)
    """Replica id → the move that adaptation wants."""
    starting: dict[str, float] = field(default_factory=dict)
    """Replica id → since when it starts."""
    draining: dict[str, float] = field(default_factory=dict)
    """Replica id → since when it drains."""
    not_before: dict[str, float] = field(default_factory=dict)
    """Replica id → when a failed move of it may be tried again."""
    choices: dict[str, Keep] = field(default_factory=dict)
    """Returned replica → which one stays."""
    unplaced: dict[Key, str] = field(default_factory=dict)
    """Component → why no node fitted, last time."""
    compared: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """Component → returned replica and replacement whose nodes are being scored."""

    def settle(self, key: Key, draft: Draft) -> None:
        """Take a component as far as it goes now, and say what it needs of the planner."""
        if key in draft.described:
            self._revise(key, draft)
        difference = Difference()
        for _ in range(PASSES_MAX):
            writes = len(draft.writes), draft.rows.placements_of(key)
            difference = reconcile(self.situation(key, draft.now_s))
            self._apply(key, difference, draft)
            wake_s = self._roll(key, draft)
            if writes == (len(draft.writes), draft.rows.placements_of(key)):
                break
        else:
            raise AssertionError(f"{key} does not settle: {difference}")
        self._compare(key, difference, draft)
        self._wait(key, difference, wake_s, draft)
        moves = tuple(need for replica, need in sorted(self.moves.items()) if self._is_movable(replica, key))
        self.plans.want(key, (*difference.needs, *moves))
        self._drop_revisions(key, draft)
        if self.rows.component(key) is None and not self.rows.placements_of(key):
            self._forget(key, draft)

    def situation(self, key: Key, now_s: float) -> Situation:
        """What `reconcile` may know of a component."""
        component, state = self.rows.component(key), self.rows.state_of(key)
        placements = self.rows.placements_of(key)
        return Situation(
            application=key[0],
            name=key[1],
            component=component,
            revision=state.revision,
            count=self.count(key),
            placements=placements,
            nodes={placement.node_uid: self._standing(placement.node_uid) for placement in placements},
            now_s=now_s,
            replace_after=self.rows.slice.spec.failover.replace_after,
            evictions=self.budget.left(now_s),
            halted=state.halted,
            is_single=(component is not None and component.single_instance) or any(map(self._is_single, placements)),
            is_paused=any(is_running(one) and one.spec.paused for one in self.rows.rollouts_of(key)),
            not_before=self.not_before,
            draining=self.draining,
            choices=self.choices,
        )

    def count(self, key: Key) -> int:
        """Replicas that should run."""
        component = self.rows.component(key)
        if component is None:
            return 0
        if component.scaling is None:
            return min(component.replicas, 1) if component.single_instance else component.replicas
        scale = self.rows.state_of(key).scale
        # Until adaptation has spoken, one runs: what never ran gives no signal to scale by.
        return min(
            max(max(component.scaling.min, 1) if scale is None else scale, component.scaling.min), component.scaling.max
        )

    def saw(self, placement: Placement, now_s: float) -> None:
        """Note since when a replica starts or drains; after a restart, since now."""
        if placement.wanted == "drain":
            self.draining.setdefault(placement.id, now_s)
        if placement.wanted == "run" and placement.phase != "ready":
            self.starting.setdefault(placement.id, now_s)

    def place(self, answer: Answer, draft: Draft) -> str:
        """Turn a decision into rows; returns why not all of it was possible, empty when it was."""
        key, need, decision = answer.key, answer.need, answer.decision
        component = self.rows.component(key)
        assert component is not None, "answers for removed components don't count"
        state = self.rows.state_of(key)
        placed: list[Placement] = []
        refused = ""
        for assignment in decision.assignments:
            told = refusal(self.rows, self.nodes.get(assignment.node_name), need, assignment)
            if told:
                refused = refused or told
                continue
            state = msgspec.structs.replace(state, ordinal=state.ordinal + 1)
            draft.put(state)
            placement = self._new(key, need, decision.id, assignment, state, draft.now_s)
            draft.put(placement)
            self.saw(placement, draft.now_s)
            placed.append(placement)
            self._yield_to(component, placement, draft)
        if placed or self.unplaced.get(key) != decision.summary:
            draft.decisions.append(decision)  # the same refusal again and again is told once
        self._announce(key, need, decision.id, placed, draft)
        for placement in placed:
            self.moves.pop(placement.replaces, None)
        return refused

    def gone(self, placement: Placement, draft: Draft) -> None:
        """A replica has stopped, or its node is gone for good."""
        for table in (self.starting, self.draining, self.not_before):
            table.pop(placement.id, None)
        self.told.pop(placement.id, None)
        self.choices.pop(placement.id, None)
        self.moves.pop(placement.id, None)
        state = self.rows.state_of((placement.application, placement.component))
        settings = tuple(one for one in state.settings if one.setting.target != placement.id)
        if settings != state.settings:
            draft.put(msgspec.structs.replace(state, settings=settings))
        draft.forget_placement(placement)

    def scored(self, key: Key, scores: dict[str, float], draft: Draft) -> None:
        """The answer to `AskScores`: which of two replicas stays."""
        original, replacement = (self.rows.placements.get(name) for name in self.compared.pop(key, ("", "")))
        if original is None or replacement is None:
            return
        old, new = scores.get(original.node_name), scores.get(replacement.node_name)
        keeps_original = old is not None and (new is None or old > new)
        self.choices[original.id] = "original" if keeps_original else "replacement"
        draft.keys.add(key)

    def end_rollout(self, rollout: Rollout, draft: Draft, message: str = "") -> None:
        """Abort it: what was begun is taken back, and its revision is not tried again until something changes."""
        self._advance(rollout, draft, is_aborted=True)
        ended = self.rows.rollouts[rollout.metadata.name]
        if message and ended.status is not None:
            draft.put(ended.model_copy(update={"status": ended.status.model_copy(update={"message": message})}))
        draft.keys.add((rollout.spec.application, rollout.spec.component))

    def _is_single(self, placement: Placement) -> bool:
        revision = self.rows.revision_of(placement)
        return revision is not None and revision.template.single_instance

    def _standing(self, uid: str) -> Standing:
        node, member = self.rows.node_of(uid), self.membership.members.get(uid)
        if node is None or member is None:
            granted_s, lease_s = self.membership.last_lease(uid)
            return Standing(uid, "gone", granted_s=granted_s, lease_s=lease_s)
        return _standing_of(member, self.membership.is_held(uid), node.spec.drained, node.spec.cordoned)

    def _revise(self, key: Key, draft: Draft) -> None:
        """Make a new revision where what the component runs has changed."""
        component = self.rows.component(key)
        if component is None:
            self.unready.pop(key, None)
            return
        siblings = {
            name: found for _, name in self.rows.components_of(key[0]) if (found := self.rows.component((key[0], name)))
        }
        recipe = recipe_of(key[0], component, self.rows.models, self.rows.secret_versions, siblings)
        if isinstance(recipe, Unready):
            self.unready[key] = recipe
            return
        self.unready.pop(key, None)
        state = self.rows.state_of(key)
        if recipe.digest == state.digest:
            return
        number = state.revision + 1
        for rollout in self.rows.rollouts_of(key):
            if is_running(rollout) and rollout.spec.cause is RolloutCause.UPDATE:
                self.end_rollout(rollout, draft, f"revision {number} came in between")
        for placement in self.rows.placements_of(key):
            self.not_before.pop(placement.id, None)
        template = msgspec.structs.replace(recipe.template, revision=number)
        draft.put(Revision(key[0], key[1], number, template, recipe.secrets))
        draft.put(msgspec.structs.replace(state, revision=number, digest=recipe.digest, halted=0))

    def _apply(self, key: Key, difference: Difference, draft: Draft) -> None:
        placements = {placement.id: placement for placement in self.rows.placements_of(key)}
        for replica in difference.forget:
            self.gone(placements[replica], draft)
        for replica in difference.recover:
            draft.put(msgspec.structs.replace(placements[replica], lost=False))
            self.choices.pop(replica, None)
            draft.tell(_told("ReplicaKept", f"{replica} is back and stays", placements[replica]))
        if difference.give_up:
            self.budget.take(len(difference.give_up), draft.now_s)
        for replica in difference.give_up:
            draft.put(msgspec.structs.replace(placements[replica], lost=True, phase="unknown"))
            told = f"{replica} is given up: node {placements[replica].node_name} has been away for too long"
            draft.tell(_told("ReplicaLost", told, placements[replica], "warning"))
        shrunk = [self._stop(stop, draft) for stop in difference.stops]
        self._note_scale_down(key, [stopped for stopped in shrunk if stopped is not None], draft)

    def _stop(self, stop: Stop, draft: Draft) -> Placement | None:
        """Drain or stop a replica; returns it if it leaves because fewer are wanted."""
        placement = self.rows.placements.get(stop.id)
        if placement is None or placement.wanted == "stop":
            return None
        serves = placement.phase in ("ready", "notReady") and not placement.lost
        drains = serves and not stop.at_once and placement.wanted == "run"
        draft.put(msgspec.structs.replace(placement, wanted="drain" if drains else "stop"))
        if drains:
            self.draining[placement.id] = draft.now_s
        self.starting.pop(placement.id, None)
        draft.tell(_told("ReplicaStopping", f"{placement.id} stops: {stop.reason}", placement))
        return placement if "replicas are wanted" in stop.reason else None

    def _note_scale_down(self, key: Key, stopped: list[Placement], draft: Draft) -> None:
        if stopped and self.rows.component(key) is not None:
            steps = tuple(Step(old=placement.id, phase="stopping") for placement in stopped)
            self._record(key, RolloutCause.SCALE, "", steps, draft)

    def _roll(self, key: Key, draft: Draft) -> float | None:
        """Take running rollouts as far as they go; returns when to look again."""
        wakes_s: list[float] = []
        for rollout in self.rows.rollouts_of(key):
            if is_running(rollout):
                wake_s = self._advance(rollout, draft)
                wakes_s += [] if wake_s is None else [wake_s]
        return min(wakes_s, default=None)

    def _advance(self, rollout: Rollout, draft: Draft, *, is_aborted: bool = False) -> float | None:
        key = (rollout.spec.application, rollout.spec.component)
        component = self.rows.component(key)
        placements = {placement.id: placement for placement in self.rows.placements_of(key)}
        timeout_s = component.update_strategy.ready_timeout if component is not None else 120.0
        moved = advance(rollout, Progress(placements, self.starting, draft.now_s, timeout_s, is_aborted))
        draft.put(moved.rollout)
        for replica in moved.drain:
            self._stop(Stop(replica, "its successor is ready"), draft)
        for stop in moved.stop:
            self._stop(Stop(stop.id, stop.reason, at_once=True), draft)
        if not is_running(moved.rollout):
            self._ended(key, moved.rollout, draft)
        return moved.wake_s

    def _ended(self, key: Key, rollout: Rollout, draft: Draft) -> None:
        status = rollout.status
        assert status is not None, "ended rollouts have a status"
        cause = rollout.spec.cause
        if status.phase != "done":
            if cause is RolloutCause.UPDATE:
                state = self.rows.state_of(key)
                draft.put(msgspec.structs.replace(state, halted=state.revision))
            for step in rollout.spec.steps:
                self.not_before[step.old] = draft.now_s + AGAIN_S
                self.moves.pop(step.old, None)
        reason = {"done": "RolloutDone", "failed": "RolloutFailed"}.get(status.phase, "RolloutAborted")
        told = f"{cause.value} of {key[1]}: {status.message}"
        severity = "info" if status.phase == "done" else "warning"
        draft.tell(Happening(reason, told, "Application", key[0], severity, application=key[0]))  # type: ignore[arg-type]
        for old in _surplus(self.rows.rollouts_of(key)):
            draft.delete("Rollout", old.metadata.name)

    def _record(self, key: Key, cause: RolloutCause, decision: str, steps: tuple[Step, ...], draft: Draft) -> None:
        """Add steps to the running rollout of this cause, or begin one."""
        for rollout in self.rows.rollouts_of(key):
            if is_running(rollout) and rollout.spec.cause is cause:
                draft.put(extend(rollout, steps))
                return
        draft.put(begin(key, cause, decision, steps))

    def _new(
        self, key: Key, need: Need, decision: str, assignment: Assignment, state: ComponentState, now_s: float
    ) -> Placement:
        return Placement(
            id=f"{key[0]}.{key[1]}.{state.ordinal}",
            application=key[0],
            component=key[1],
            ordinal=state.ordinal,
            node_uid=assignment.node_uid,
            node_name=assignment.node_name,
            revision=state.revision,
            decision=decision,
            cause=need.cause,
            replaces=assignment.replaces,
            created_s=now_s + self.wall_offset_s,
            reserved=assignment.reserved,
        )

    def _yield_to(self, component: Component, placement: Placement, draft: Draft) -> None:
        """Where the two may not run at once, the old one stops first."""
        old = self.rows.placements.get(placement.replaces)
        if old is None:
            return
        if not old.lost and takes_turns(component, placement, old):
            self._stop(Stop(old.id, f"{placement.id} may only start after it"), draft)

    def _announce(self, key: Key, need: Need, decision: str, placed: list[Placement], draft: Draft) -> None:
        for placement in placed:
            instead = f" instead of {placement.replaces}" if placement.replaces else ""
            told = f"{placement.id} is placed on {placement.node_name}{instead} ({need.cause})"
            draft.tell(_told("ReplicaPlaced", told, placement))
        if placed and need.cause != "initial":
            steps = tuple(Step(old=placement.replaces, new=placement.id, phase="starting") for placement in placed)
            self._record(key, RolloutCause(need.cause), decision, steps, draft)

    def _compare(self, key: Key, difference: Difference, draft: Draft) -> None:
        if difference.compare and key not in self.compared:
            original, replacement = (self.rows.placements[name] for name in difference.compare[0])
            self.compared[key] = (original.id, replacement.id)
            draft.effects.append(AskScores(draft.id, *key, (original.node_name, replacement.node_name)))

    def _is_movable(self, replica: str, key: Key) -> bool:
        placement = self.rows.placements.get(replica)
        if placement is None or (placement.application, placement.component) != key:
            return False
        return placement in heads_of(p for p in self.rows.placements_of(key) if p.wanted == "run" and not p.lost)

    def _wait(self, key: Key, difference: Difference, wake_s: float | None, draft: Draft) -> None:
        times = [time_s for time_s in (difference.wake_s, wake_s) if time_s is not None]
        refill_s = self.budget.refill_at_s()
        if not self.budget.left(draft.now_s) and refill_s is not None:
            times.append(refill_s)
        if times:
            draft.effects.append(WakeAt(draft.id, min(times), Timer("component", f"{key[0]}.{key[1]}")))

    def _forget(self, key: Key, draft: Draft) -> None:
        """Nothing is left of the component."""
        for revision in self.rows.revisions_of(key):
            draft.delete(REVISION_KIND, revision.name)
        for rollout in self.rows.rollouts_of(key):
            draft.delete("Rollout", rollout.metadata.name)
        # The numbers stay: a replica's id is never used twice, not even by a component of the same name.
        state = self.rows.state_of(key)
        if state.ordinal:
            draft.put(ComponentState(*key, revision=state.revision, ordinal=state.ordinal))
            self._prune(draft)
        else:
            draft.delete(COMPONENT_STATE_KIND, state.name)
        self.unready.pop(key, None)
        self.compared.pop(key, None)
        self.plans.want(key, ())

    def _prune(self, draft: Draft) -> None:
        """Keep the numbers of components that are gone within bounds."""
        gone = [state for state in self.rows.states.values() if not state.digest and is_component(state)]
        for state in gone[: max(len(gone) - GONE_KEPT_MAX, 0)]:
            draft.delete(COMPONENT_STATE_KIND, state.name)

    def _drop_revisions(self, key: Key, draft: Draft) -> None:
        """Delete revisions that nothing runs any more."""
        used = {placement.revision for placement in self.rows.placements_of(key)} | {self.rows.state_of(key).revision}
        for revision in self.rows.revisions_of(key):
            if revision.number not in used:
                draft.delete(REVISION_KIND, revision.name)


def _standing_of(member: Member, is_held: bool, is_drained: bool, is_cordoned: bool) -> Standing:
    return Standing(
        member.name,
        member.phase,
        member.gone_s,
        member.granted_s,
        member.timings.lease,
        is_held,
        is_drained,
        is_cordoned,
    )


def _surplus(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Ended rollouts beyond those that are kept, oldest first as far as their first replica tells."""
    ended = [rollout for rollout in rollouts if not is_running(rollout)]
    ended.sort(key=_age)
    return ended[: max(len(ended) - ROLLOUTS_KEPT, 0)]


def _age(rollout: Rollout) -> int:
    return max(int((step.new or step.old).rpartition(".")[2] or 0) for step in rollout.spec.steps)


def _told(reason: str, message: str, placement: Placement, severity: str = "info") -> Happening:
    return Happening(
        reason,
        message,
        "Application",
        placement.application,
        "warning" if severity == "warning" else "info",
        placement.application,
        placement.node_name,
    )

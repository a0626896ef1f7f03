"""Keeps components as they should be: revisions, the difference that `reconcile.py` finds, needs for the planner.

`settle` takes one component as far as it goes now, writing through a `Draft`. Called by `core.py` for each component
that an event touched; `replicas.py`, `rollouts.py` and `placing.py` do the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds.rollout import RolloutCause
from .component_state import COMPONENT_STATE_KIND, REVISION_KIND, ComponentState, Revision
from .draft import Draft
from .effects import AskScores, Timer, WakeAt
from .membership import Membership
from .placement import Placement
from .placing import Placing
from .plan import PlanQueue
from .planner.snapshot import NodeState
from .reconcile import Difference, Situation, Standing, heads_of, reconcile
from .replicas import Replicas, told
from .revisions import Unready, recipe_of
from .rollout import is_running
from .rollouts import Rollouts
from .rows import Key, Rows, is_component
from .storm import EvictionBudget

PASSES_MAX = 8
"""A component that isn't settled after so many passes is a mistake of ours."""
GONE_KEPT_MAX = 10_000
"""Removed components whose numbers are remembered."""


@dataclass
class Components:
    """The keeper of all components."""

    rows: Rows
    membership: Membership
    plans: PlanQueue
    nodes: Mapping[str, NodeState]
    """By name, as planning sees them."""
    replicas: Replicas
    budget: EvictionBudget = field(default_factory=EvictionBudget)
    unready: dict[Key, Unready] = field(default_factory=dict)
    """Components that cannot run yet."""
    compared: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """Component → returned replica and replacement whose nodes are being scored."""

    def __post_init__(self) -> None:
        self.rollouts = Rollouts(self.rows, self.replicas)
        self.placing = Placing(self.rows, self.nodes, self.replicas, self.rollouts)

    def settle(self, key: Key, draft: Draft) -> None:
        """Take a component as far as it goes now, and say what it needs of the planner."""
        if key in draft.described:
            self._revise(key, draft)
        difference = Difference()
        for _ in range(PASSES_MAX):
            writes = len(draft.writes), draft.rows.placements_of(key)
            difference = reconcile(self.situation(key, draft.now_s))
            self._apply(key, difference, draft)
            self.placing.take_turns(key, draft)
            wake_s = self.rollouts.advance(key, draft)
            if writes == (len(draft.writes), draft.rows.placements_of(key)):
                break
        else:
            raise AssertionError(f"{key} does not settle: {difference}")
        self._compare(key, difference, draft)
        self._wait(key, difference, wake_s, draft)
        moves = tuple(need for replica, need in sorted(self.replicas.moves.items()) if self._is_movable(replica, key))
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
            not_before=self.replicas.not_before,
            draining=self.replicas.draining,
            choices=self.replicas.choices,
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
        wanted = 1 if scale is None else scale
        return min(max(wanted, component.scaling.min), component.scaling.max)

    def scored(self, key: Key, scores: Mapping[str, float], draft: Draft) -> None:
        """The answer to `AskScores`: which of two replicas stays."""
        original, replacement = (self.rows.placements.get(name) for name in self.compared.pop(key, ("", "")))
        if original is None or replacement is None:
            return
        old, new = scores.get(original.node_name), scores.get(replacement.node_name)
        keeps_original = old is not None and (new is None or old > new)
        self.replicas.choices[original.id] = "original" if keeps_original else "replacement"
        draft.keys.add(key)

    def _standing(self, uid: str) -> Standing:
        node, member = self.rows.node_of(uid), self.membership.members.get(uid)
        if node is None or member is None:
            granted_s, lease_s = self.membership.last_lease(uid)
            return Standing(uid, "gone", granted_s=granted_s, lease_s=lease_s)
        return Standing(
            member.name,
            member.phase,
            member.gone_s,
            member.granted_s,
            member.timings.lease,
            is_held=self.membership.is_held(uid),
            is_drained=node.spec.drained,
            is_cordoned=node.spec.cordoned,
        )

    def _is_single(self, placement: Placement) -> bool:
        revision = self.rows.revision_of(placement)
        return revision is not None and revision.template.single_instance

    def _revise(self, key: Key, draft: Draft) -> None:
        """Make a new revision where what the component runs has changed."""
        component = self.rows.component(key)
        if component is None:
            self.unready.pop(key, None)
            return
        recipe = recipe_of(key[0], component, self.rows.models, self.rows.secret_versions, self.rows.siblings_of(key))
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
                self.rollouts.end(rollout, draft, f"revision {number} came in between")
        for placement in self.rows.placements_of(key):
            self.replicas.not_before.pop(placement.id, None)
        template = msgspec.structs.replace(recipe.template, revision=number)
        draft.put(Revision(key[0], key[1], number, template, recipe.secrets))
        draft.put(msgspec.structs.replace(state, revision=number, digest=recipe.digest, halted=0))

    def _apply(self, key: Key, difference: Difference, draft: Draft) -> None:
        placements = {placement.id: placement for placement in self.rows.placements_of(key)}
        for replica in difference.forget:
            self.replicas.gone(placements[replica], draft)
        for replica in difference.recover:
            draft.put(msgspec.structs.replace(placements[replica], lost=False))
            self.replicas.choices.pop(replica, None)
            draft.tell(told("ReplicaKept", f"{replica} is back and stays", placements[replica]))
        if difference.give_up:
            self.budget.take(len(difference.give_up), draft.now_s)
        for replica in difference.give_up:
            draft.put(msgspec.structs.replace(placements[replica], lost=True, phase="unknown"))
            message = f"{replica} is given up: node {placements[replica].node_name} has been away for too long"
            draft.tell(told("ReplicaLost", message, placements[replica], is_warning=True))
        shrunk = []
        for stop in difference.stops:
            stopped = self.replicas.stop(stop, draft)
            if stopped is not None and stop.is_surplus:
                shrunk.append(stopped)
        self.rollouts.note_scale_down(key, shrunk, draft)

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
        if len(self.rows.states) <= GONE_KEPT_MAX:
            return
        gone = [state for state in self.rows.states.values() if not state.digest and is_component(state)]
        for state in gone[: max(len(gone) - GONE_KEPT_MAX, 0)]:
            draft.delete(COMPONENT_STATE_KIND, state.name)

    def _drop_revisions(self, key: Key, draft: Draft) -> None:
        """Delete revisions that nothing runs any more."""
        revisions = self.rows.revisions_of(key)
        if len(revisions) < 2:
            return
        used = {placement.revision for placement in self.rows.placements_of(key)} | {self.rows.state_of(key).revision}
        for revision in revisions:
            if revision.number not in used:
                draft.delete(REVISION_KIND, revision.name)

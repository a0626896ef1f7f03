"""Which needs wait for the planner, which are asked, and what its answers are still worth.

One plan at a time: while one is made, needs gather for the next, so a burst of changes costs few plans and two plans
never touch the same thing. An answer counts only for a need that is still there, word for word, over a description
that is still the same; everything else is asked again. A need that no node fits is blocked until something happens that
may change the answer (a node joined, room was freed, a description changed): no hot loop. Owned by `core.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..descriptions.kinds.application import Component
from .effects import AskPlanner, Effect, Timer, WakeAt
from .inputs import PlanFailed, PlanProposed
from .planner.snapshot import Decision, Need
from .rows import Key

REPLICAS_PER_PLAN_MAX = 1000
"""More wait for the next plan, so that the first of many are not kept waiting for the last."""
RETRY_S = 1.0
"""Blocked needs are asked again at most this often, whatever happens."""
BACKSTOP_S = 30.0
"""And at least this often, in case an event that matters was not recognised as one."""
FAILURE_PAUSE_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Pause after the first, second, … failure of the planner in a row."""


@dataclass(frozen=True)
class Asked:
    """What a plan in the making was asked for a component."""

    needs: tuple[Need, ...]
    component: Component | None


@dataclass(frozen=True)
class Blocked:
    """Needs for which there was no place."""

    needs: tuple[Need, ...]
    summary: str
    unplaced: int
    since_s: float


@dataclass(frozen=True)
class Answer:
    """A decision that still counts."""

    key: Key
    need: Need
    decision: Decision


@dataclass
class PlanQueue:
    """Needs on their way to a place."""

    wanted: dict[Key, tuple[Need, ...]] = field(default_factory=dict)
    blocked: dict[Key, Blocked] = field(default_factory=dict)
    asked: dict[Key, Asked] = field(default_factory=dict)
    plan: str = ""
    """Id of the plan in the making; empty when there is none."""
    failures: int = 0
    not_before_s: float = 0.0
    retry_s: float | None = None
    """When blocked needs are asked again."""
    retried_s: float = float("-inf")

    def want(self, key: Key, needs: tuple[Need, ...]) -> None:
        """What a component needs now, instead of what it needed before."""
        if needs:
            self.wanted[key] = needs
        else:
            self.wanted.pop(key, None)
        if key in self.blocked and self.blocked[key].needs != needs:
            del self.blocked[key]

    def described(self, key: Key) -> None:
        """The component's description changed: what blocked it may not hold any more."""
        self.blocked.pop(key, None)

    def room(self, event_id: str, now_s: float) -> list[Effect]:
        """Something happened that may give blocked needs a place."""
        if not self.blocked:
            return []
        at_s = max(now_s, self.retried_s + RETRY_S)
        if self.retry_s is not None and self.retry_s <= at_s:
            return []
        self.retry_s = at_s
        return [WakeAt(event_id, at_s, Timer("plan"))]

    def woken(self, now_s: float) -> None:
        """The plan timer fired: blocked needs may be asked again."""
        if self.retry_s is not None and now_s >= self.retry_s:
            self.retry_s, self.retried_s = None, now_s
            self.blocked.clear()

    def block(self, event_id: str, answer: Answer, now_s: float) -> list[Effect]:
        """No node fits (all of) a need."""
        needs = self.wanted.get(answer.key, (answer.need,))
        self.blocked[answer.key] = Blocked(needs, answer.decision.summary, answer.decision.unplaced, now_s)
        if self.retry_s is None:
            self.retry_s = now_s + BACKSTOP_S
        return [WakeAt(event_id, self.retry_s, Timer("plan"))]

    def ask(
        self,
        event_id: str,
        now_s: float,
        priority: Callable[[Key], int],
        component: Callable[[Key], Component | None],
    ) -> list[Effect]:
        """Begin a plan if there is something to plan and none is being made."""
        keys = [] if self.plan else [key for key in self.wanted if key not in self.blocked]
        if not keys:
            return []
        if now_s < self.not_before_s:
            return [WakeAt(event_id, self.not_before_s, Timer("plan"))]
        replicas = 0
        for key in sorted(keys, key=lambda key: (-priority(key), key)):
            needs = self.wanted[key]
            replicas += sum(need.count for need in needs)
            if self.asked and replicas > REPLICAS_PER_PLAN_MAX:
                break
            self.asked[key] = Asked(needs, component(key))
        self.plan = event_id
        return [AskPlanner(event_id, event_id, tuple(need for asked in self.asked.values() for need in asked.needs))]

    def answered(self, event: PlanProposed, component: Callable[[Key], Component | None]) -> list[Answer]:
        """The decisions that still count, in the planner's order; the plan is over."""
        if event.plan != self.plan:
            return []
        asked, self.asked, self.plan, self.failures = self.asked, {}, "", 0
        answers = []
        for decision in event.proposal.decisions:
            key = (decision.need.application, decision.need.component)
            before = asked.get(key)
            is_same = before is not None and (before.component is component(key) or before.component == component(key))
            if is_same and decision.need in self.wanted.get(key, ()):
                answers.append(Answer(key, decision.need, decision))
        return answers

    def failed(self, event: PlanFailed, now_s: float) -> list[Effect]:
        """The planner broke down; its needs are asked again after a pause."""
        if event.plan != self.plan:
            return []
        self.asked, self.plan = {}, ""
        pause_s = FAILURE_PAUSE_S[min(self.failures, len(FAILURE_PAUSE_S) - 1)]
        self.failures += 1
        self.not_before_s = now_s + pause_s
        return [WakeAt(event.id, self.not_before_s, Timer("plan"))]

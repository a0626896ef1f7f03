"""Decides what to change about what runs: telemetry and policies' wishes in, checked actions with their reasons out.

A pure core: `handle(event, now_s) -> effects`, no clock, no I/O. The control plane's driver feeds it looks and performs
its effects; the plan core checks each action again and commits it; `sim/` drives the same object. Order of precedence:
policies by weight and name, then scaling signals, then QoS targets; one source for each component and look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.actions import Action, Move, Scale, Set, verb_of
from ..planner.snapshot import Snapshot
from .brakes import Refusal, check, find_component, in_motion, motion_limit, owner_of, wanted_of
from .events import Act, ActionCommitted, ActionRejected, DemandSeen, Effect, Event, Explain, LookAt, Looked, PlanAgain
from .memory import Key, Memory, Pending
from .record import AdaptationRecord, Result
from .response import BetterNode, no_better_node
from .targets import Verdicts
from .wishes import Hold, Wish, policy_wishes, qos_wish, scaling_wish


@dataclass
class _Look:
    """One look in progress: the counting, and the effects so far."""

    event: Looked
    now_s: float
    motion_free: int
    """Replicas that may still be set in motion."""
    taken: dict[Key, str] = field(default_factory=dict)
    """Component → the source whose action goes first in this look."""
    effects: list[Effect] = field(default_factory=list)
    count: int = 0

    def next_id(self) -> str:
        """Of an action or record."""
        self.count += 1
        return f"{self.event.id}/{self.count}"


class Adaptation:
    """The core. `better_node` is a pure function of the planner; without it nothing is moved on our own account."""

    def __init__(self, better_node: BetterNode = no_better_node) -> None:
        self._better_node = better_node
        self._memory = Memory()

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take one event; `now_s` is the driver's monotonic clock."""
        memory = self._memory
        match event:
            case Looked():
                return self._look(event, now_s)
            case DemandSeen():
                mine = memory.of((event.application, event.component))
                mine.demand, mine.demand_s = max(event.waiting, 0.0), now_s
                return [LookAt(event.id, now_s)]
            case ActionCommitted():
                if (pending := memory.pending.get(event.action)) is not None:
                    memory.pending[event.action] = Pending(pending.key, pending.weight, pending.since_s, event.version)
                return []
            case ActionRejected():
                return self._reject(event, now_s)

    def _look(self, event: Looked, now_s: float) -> list[Effect]:
        snapshot = event.snapshot
        self._memory.prune(snapshot, now_s)
        waiting = sum(pending.weight for pending in self._memory.pending.values())
        look = _Look(event, now_s, motion_limit(snapshot) - in_motion(snapshot) - waiting)
        for wish in policy_wishes(event.plans):
            self._decide(look, wish)
        for application, component in _by_priority(snapshot):
            for found in self._own(look, application, component):
                if isinstance(found, Wish):
                    self._decide(look, found)
                else:
                    self._say(look, (application.metadata.name, component.name), found, "", "held")
        return look.effects

    def _own(self, look: _Look, application: Application, component: Component) -> Iterator[Wish | Hold]:
        if component.scaling is None and not component.qos:
            return
        key = (application.metadata.name, component.name)
        memory = self._memory.of(key)
        if component.scaling is not None:
            found = scaling_wish(look.event, key, component.scaling, memory, look.now_s)
            if found is not None:
                yield found
        if component.qos:
            yield from qos_wish(look.event.snapshot, key, component, memory, self._better_node, look.now_s)

    def _decide(self, look: _Look, wish: Wish) -> None:
        """Propose the action, or say why not."""
        action, key = wish.action, _key_of(wish.action)
        first = look.taken.get(key)
        if first is not None and first != wish.source:
            self._defer(look, wish, key, f"{first} changes it first")
        elif first is None and self._memory.is_pending(key):
            self._defer(look, wish, key, "an earlier action is being committed")
        elif refusal := self._too_soon(look, wish, key) or self._set_already(action):
            self._refuse(look, wish, key, refusal)
        else:
            answer = check(action, look.event.snapshot, wanted_of(look.event, key), look.motion_free)
            if isinstance(answer, Refusal):
                self._refuse(look, wish, key, answer)
                return
            look.taken[key] = wish.source
            look.motion_free -= answer.weight
            self._propose(look, wish, key, answer.action, answer.weight, answer.note)

    def _too_soon(self, look: _Look, wish: Wish, key: Key) -> Refusal | None:
        """Cooldown: a component's own between two scalings, the slice's between any other two adaptations."""
        memory = self._memory.of(key)
        if wish.wakes or look.taken.get(key) == wish.source:
            return None
        found = find_component(look.event.snapshot, *key)
        wait_s, whose = look.event.snapshot.slice.spec.adaptation.cooldown, "the Slice's adaptation.cooldown"
        if isinstance(wish.action, Scale) and found is not None and memory.scaled_s == memory.adapted_s:
            scaling = found[1].scaling
            wait_s, whose = (scaling.cooldown, "scaling.cooldown") if scaling else (wait_s, whose)
        ready_s = memory.adapted_s + wait_s
        if look.now_s >= ready_s:
            return None
        look.effects.append(LookAt(look.event.id, ready_s))
        told = f"it was changed {look.now_s - memory.adapted_s:.0f} s ago; {whose} is {wait_s:g} s"
        return Refusal("cooldown", told)

    def _set_already(self, action: Action) -> Refusal | None:
        if not isinstance(action, Set):
            return None
        if self._memory.settings.get(_setting_key(action)) == dict(action.arguments):
            return Refusal("unchanged", f"{action.mechanism} {action.verb} is set so already")
        return None

    def _propose(self, look: _Look, wish: Wish, key: Key, action: Action, weight: int, note: str) -> None:
        memory = self._memory.of(key)
        memory.adapted_s = look.now_s
        # What was measured before says nothing about what comes after: the next verdict is one whole window away.
        memory.verdicts = {index: Verdicts((), look.now_s) for index in memory.verdicts}
        if isinstance(action, Scale):
            memory.scaled_s, memory.demand = look.now_s, 0.0
        if isinstance(action, Set):
            self._memory.settings[_setting_key(action)] = dict(action.arguments)
        self._memory.forget_said(key)
        reason = f"{_told(action)}: {wish.reason}" + (f" ({note})" if note else "")
        record = _record(look, key, Hold(wish.source, wish.rule, reason, wish.tried), verb_of(action), "proposed")
        self._memory.pending[record.id] = Pending(key, weight, look.now_s)
        look.effects.append(Act(look.event.id, record.id, action, look.event.snapshot.version, record))

    def _reject(self, event: ActionRejected, now_s: float) -> list[Effect]:
        """The plan core knew better: nothing changed, so nothing cools down."""
        pending = self._memory.pending.pop(event.action, None)
        if pending is None:
            return []
        mine = self._memory.of(pending.key)
        if mine.adapted_s == pending.since_s:
            mine.adapted_s = mine.scaled_s = float("-inf")
        self._memory.settings.clear()
        record = AdaptationRecord(
            f"{event.id}/1", event.id, now_s, 0, *pending.key, "", "", "refused", "rejected", event.reason
        )
        return [Explain(event.id, record), LookAt(event.id, now_s)]

    def _defer(self, look: _Look, wish: Wish, key: Key, why: str) -> None:
        self._say(look, key, Hold(wish.source, "conflict", f"{why}; planned again"), verb_of(wish.action), "deferred")
        if wish.rule == "policy":
            not_before_s = look.now_s + look.event.snapshot.slice.spec.adaptation.cooldown
            look.effects.append(PlanAgain(look.event.id, wish.source, *key, not_before_s))

    def _refuse(self, look: _Look, wish: Wish, key: Key, refusal: Refusal) -> None:
        told = f"{_told(wish.action)}: {refusal.reason}"
        self._say(look, key, Hold(wish.source, refusal.rule, told, wish.tried), verb_of(wish.action), "refused")

    def _say(self, look: _Look, key: Key, hold: Hold, verb: str, result: Result) -> None:
        """Explain once; the same answer to the same source is not repeated at every look."""
        if self._memory.said.get((key, hold.source)) == (result, hold.rule):
            return
        self._memory.said[key, hold.source] = (result, hold.rule)
        look.effects.append(Explain(look.event.id, _record(look, key, hold, verb, result)))


def _record(look: _Look, key: Key, hold: Hold, verb: str, result: Result) -> AdaptationRecord:
    return AdaptationRecord(
        id=look.next_id(),
        cause=look.event.id,
        at_s=look.now_s,
        version=look.event.snapshot.version,
        application=key[0],
        component=key[1],
        source=hold.source,
        verb=verb,
        result=result,
        rule=hold.rule,
        reason=hold.reason,
        tried=hold.tried,
    )


def _by_priority(snapshot: Snapshot) -> Iterator[tuple[Application, Component]]:
    """Components of more important applications first: they get what the blast radius leaves."""
    for application in sorted(snapshot.applications, key=lambda app: (-app.spec.priority, app.metadata.name)):
        for component in application.spec.components:
            yield application, component


def _key_of(action: Action) -> Key:
    application, component = owner_of(action)
    if isinstance(action, Set) and not component:
        return action.node, f"{action.mechanism}.{action.verb}"
    return application, component


def _setting_key(action: Set) -> tuple[str, str, str, str]:
    return action.node, action.mechanism, action.verb, action.target


def _told(action: Action) -> str:
    match action:
        case Scale():
            return f"{action.replicas} replicas"
        case Move():
            return f"move {action.replica}" + (f" to {action.node}" if action.node else "")
        case Set():
            values = ", ".join(f"{name}={value}" for name, value in sorted(action.arguments.items()))
            return f"{action.mechanism} {action.verb} {values} on {action.node}"

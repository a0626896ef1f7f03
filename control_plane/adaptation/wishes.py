"""What should change, before anyone asks whether it may: wishes of policies, of scaling signals and of QoS targets.

`core.py` asks for them at each look, in this order, and puts the brakes to each. A `Hold` is a choice to do nothing
that deserves a word: no reading, not yet, no answer left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...descriptions.kinds.application import Component, Scaling
from ...policies.actions import Action, Scale
from ..planner.snapshot import Snapshot
from .brakes import replicas_of, wanted_of
from .events import Looked, PolicyPlan
from .memory import ComponentMemory, Key
from .record import Rule
from .response import BetterNode, respond
from .scaling import Count, Missing, measure, recommend, settle
from .targets import Verdicts, judge

DEMAND_S_MAX = 300.0
"""Demand that could not be met for this long has gone elsewhere."""


@dataclass(frozen=True)
class Wish:
    """An action that someone wants."""

    source: str
    """Policy by name, `scaling` or `qos`."""
    rule: Rule
    action: Action
    reason: str
    tried: tuple[str, ...] = ()
    wakes: bool = False
    """True when nothing runs and something should: then no cooldown holds it up."""


@dataclass(frozen=True)
class Hold:
    """Nothing is wanted, and why."""

    source: str
    rule: Rule
    reason: str
    tried: tuple[str, ...] = ()


def policy_wishes(plans: Iterable[PolicyPlan]) -> Iterator[Wish]:
    """Heavier policies first, then by name; each policy's actions in its own order."""
    for plan in sorted(plans, key=lambda plan: (-plan.weight, plan.policy)):
        for action in plan.actions:
            yield Wish(plan.policy, "policy", action, action.reason or "wanted by the policy")


def scaling_wish(look: Looked, key: Key, scaling: Scaling, memory: ComponentMemory, now_s: float) -> Wish | Hold | None:
    """Follow the scaling signal; wake from zero on demand."""
    count, ready = _count(look, key)
    if count.wanted == 0 and memory.demand > 0 and now_s - memory.demand_s <= DEMAND_S_MAX:
        woken = min(max(1, scaling.min, math.ceil(memory.demand / scaling.signal.target)), scaling.max)
        reason = f"{memory.demand:g} wait and no replica runs"
        return Wish("scaling", "demand", Scale(*key, woken, reason), reason, wakes=True)
    bounded = min(max(count.wanted, scaling.min), scaling.max)
    if bounded != count.wanted:
        reason = f"{count.wanted} replicas are wanted, outside of {scaling.min}..{scaling.max}"
        return Wish("scaling", "signal", Scale(*key, bounded, reason), reason)
    load = measure(scaling.signal, ".".join(key), ready, look.snapshot.metrics)
    if isinstance(load, Missing):
        return Hold("scaling", "noReading", f"{load.reason}; {count.wanted} replicas stay")
    recommendation = recommend(scaling, count, load)
    window_s = max(scaling.cooldown, scaling.signal.window)
    if not memory.recommended:
        memory.recommended.append((now_s, count.wanted))  # nothing shrinks before a whole window was seen
    memory.recommended.append((now_s, recommendation.replicas))
    replicas = settle(count.wanted, recommendation.replicas, _within(memory, now_s - window_s))
    if replicas != count.wanted:
        reason = recommendation.reason
        return Wish("scaling", "signal", Scale(*key, replicas, reason), reason, wakes=count.wanted == 0)
    if recommendation.replicas < count.wanted:
        return Hold("scaling", "stabilisation", f"{recommendation.reason}; fewer only after {window_s:g} s of that")
    return None


def _count(look: Looked, key: Key) -> tuple[Count, list[tuple[str, int]]]:
    ready: dict[str, int] = {}
    for row in replicas_of(look.snapshot, *key):
        if row.phase == "ready":
            ready[row.node_name] = ready.get(row.node_name, 0) + 1
    return Count(wanted_of(look, key), sum(ready.values())), sorted(ready.items())


def _within(memory: ComponentMemory, since_s: float) -> list[int]:
    """Recommendations since then, and the one that was in force at its beginning."""
    while len(memory.recommended) > 1 and memory.recommended[1][0] <= since_s:
        memory.recommended.popleft()
    return [number for _, number in memory.recommended]


def qos_wish(
    snapshot: Snapshot, key: Key, component: Component, memory: ComponentMemory, better_node: BetterNode, now_s: float
) -> Iterator[Wish | Hold]:
    """Judge each target whose window has passed; one answer to all that are missed."""
    missed = []
    for index, target in enumerate(component.qos):
        verdicts = memory.verdicts.get(index, Verdicts())
        if not verdicts.is_due(target, now_s):
            continue
        judgement = judge(target, ".".join(key), snapshot.metrics)
        memory.verdicts[index] = verdicts = verdicts.after(judgement.verdict, now_s)
        if judgement.verdict == "unknown":
            yield Hold(f"qos[{index}]", "noReading", f"{judgement.reason}; nothing is done")
        elif verdicts.is_missed:
            missed.append(judgement.reason)
    if not missed:
        return
    reason = "; ".join(missed)
    response = respond(snapshot, component, replicas_of(snapshot, *key), reason, better_node)
    if response.action is None:
        yield Hold("qos", "noResponse", reason, response.tried)
    else:
        yield Wish("qos", "target", response.action, reason, response.tried)

"""Says whether an action is allowed now, with the reason: permissions, bounds, cooldown, blast radius.

Pure functions over a snapshot, called by `core.py` before it proposes anything and by the plan core when it checks a
proposal against newer rows. Each refusal names the rule, the numbers and, where a description decides, the place in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.actions import Action, Move, Scale, Set, verb_of
from ..placement import Placement
from ..planner.snapshot import NodeState, Snapshot
from ..reconcile import heads_of, linked
from .events import Looked
from .record import Rule


@dataclass(frozen=True)
class Refusal:
    """Why an action does not happen."""

    rule: Rule
    reason: str


@dataclass(frozen=True)
class Allowed:
    """An action as it may happen: perhaps smaller than it was asked for, then `note` says so."""

    action: Action
    weight: int
    """Replicas that it sets in motion."""
    note: str = ""


Answer = Allowed | Refusal


def find_component(snapshot: Snapshot, application: str, component: str) -> tuple[Application, Component] | None:
    """The description of a component."""
    for described in snapshot.applications:
        if described.metadata.name == application:
            return next(((described, part) for part in described.spec.components if part.name == component), None)
    return None


def replicas_of(snapshot: Snapshot, application: str, component: str) -> tuple[Placement, ...]:
    """Replicas that are wanted to run and that no other replica is about to take over from."""
    mine = (row for row in snapshot.placements if (row.application, row.component) == (application, component))
    return heads_of(linked(mine))


def wanted_of(look: Looked, key: tuple[str, str]) -> int:
    """Replicas that are wanted of a component: adaptation's last word, or what is there before it has spoken."""
    wanted = look.scales.get(key)
    return len(replicas_of(look.snapshot, *key)) if wanted is None else wanted


def owner_of(action: Action) -> tuple[str, str]:
    """Application and component on whose behalf an action is done; a mechanism's target says it too."""
    if isinstance(action, Set) and not action.component and action.target.count(".") >= 1:
        application, component = action.target.split(".")[:2]
        return application, component
    return action.application, action.component


def is_permitted(component: Component, verb: str) -> bool:
    """Say whether the description lets adaptation use this verb."""
    return "*" in component.permitted_actions or verb in component.permitted_actions


def check_permission(application: str, component: Component, verb: str) -> Refusal | None:
    """Refuse a verb that `permittedActions` does not list."""
    if is_permitted(component, verb):
        return None
    permitted = ", ".join(component.permitted_actions) or "nothing"
    where = f"Application {application}, spec.components[{component.name}].permittedActions"
    return Refusal("permittedActions", f"{where} permits {permitted}; {verb} is not among them")


def check(action: Action, snapshot: Snapshot, wanted: int, motion_free: int) -> Answer:
    """Everything that does not depend on time.

    `wanted` is the number of replicas that the action's component should have now, `motion_free` what is left of the
    blast radius, in replicas.
    """
    owner = owner_of(action)
    found = find_component(snapshot, *owner)
    if found is None and (any(owner) or not isinstance(action, Set)):
        return Refusal("unknown", f"there is no component {'.'.join(owner)}")
    if found is not None and (refusal := check_permission(owner[0], found[1], verb_of(action))):
        return refusal
    match action:
        case Scale():
            assert found is not None, "a Scale names its component"
            return check_scale(action, found[1], wanted, motion_free)
        case Move():
            return _check_move(action, snapshot, motion_free)
        case Set():
            return _check_set(action, snapshot, motion_free)


def check_scale(action: Scale, component: Component, wanted: int, motion_free: int) -> Answer:
    """Hold a number of replicas to the bounds and to what the blast radius leaves."""
    scaling = component.scaling
    if scaling is None:
        return Refusal("bounds", f"{component.name} has a fixed number of replicas; give it `scaling` with min and max")
    replicas = min(max(action.replicas, scaling.min), scaling.max)
    note = "" if replicas == action.replicas else f"{action.replicas} held to {scaling.min}..{scaling.max}"
    if replicas == wanted:
        return Refusal(
            "bounds" if note else "unchanged", f"{wanted} replicas are wanted already" + (f" ({note})" if note else "")
        )
    if motion_free <= 0:
        return Refusal("blastRadius", "as many replicas are in motion as adaptation.blastRadius allows")
    step = max(-motion_free, min(motion_free, replicas - wanted))
    if wanted + step != replicas:
        note = f"{replicas} asked for; adaptation.blastRadius leaves room for {abs(step)} now"
    return Allowed(replace(action, replicas=wanted + step), abs(step), note)


def _check_move(action: Move, snapshot: Snapshot, motion_free: int) -> Answer:
    rows = {row.id: row for row in snapshot.placements}
    replica = rows.get(action.replica)
    if replica is None or (replica.application, replica.component) != (action.application, action.component):
        return Refusal("unknown", f"{action.application}.{action.component} has no replica {action.replica}")
    if replica.wanted != "run" or any(row.replaces == replica.id for row in snapshot.placements):
        return Refusal("unchanged", f"{replica.id} is being stopped or replaced already")
    if action.node:
        node = find_node(snapshot, action.node)
        if refusal := _refuse_node(action.node, node):
            return refusal
        if action.node == replica.node_name:
            return Refusal("unchanged", f"{replica.id} runs on {action.node} already")
    if motion_free <= 0:
        return Refusal("blastRadius", "as many replicas are in motion as adaptation.blastRadius allows")
    return Allowed(action, 1)


def _check_set(action: Set, snapshot: Snapshot, motion_free: int) -> Answer:
    node = find_node(snapshot, action.node)
    if node is None or node.phase not in ("ready", "suspect"):
        return Refusal("unknown", f"node {action.node} is {node.phase if node else 'unknown'}")
    report = next((report for report in node.mechanisms if report.name == action.mechanism), None)
    if report is None or action.verb not in report.verbs:
        offered = ", ".join(report.verbs) if report else ""
        missing = f"mechanism {action.mechanism} of node {action.node} offers {offered or 'nothing'}, not {action.verb}"
        return Refusal("unknown", missing)
    touched = _touched(action, snapshot) if _is_disruptive(report.options, action.verb) else ()
    for row in touched:
        found = find_component(snapshot, row.application, row.component)
        if found is not None and (refusal := check_permission(row.application, found[1], action.verb)):
            return refusal
    if len(touched) > motion_free:
        free = max(motion_free, 0)
        told = f"{action.verb} interrupts {len(touched)} replicas; adaptation.blastRadius leaves room for {free}"
        return Refusal("blastRadius", told)
    return Allowed(action, len(touched))


def _touched(action: Set, snapshot: Snapshot) -> tuple[Placement, ...]:
    """Replicas on the node that a disruptive verb interrupts: the target's, or all of them."""
    here = [row for row in snapshot.placements if row.node_name == action.node and row.wanted == "run"]
    if not action.target:
        return tuple(here)
    return tuple(row for row in here if action.target in (row.id, f"{row.application}.{row.component}"))


def _is_disruptive(options: str, verb: str) -> bool:
    """True also where the options cannot be read: then the worst is assumed."""
    try:
        verbs = json.loads(options).get("verbs", [])
        return any(option.get("verb") == verb and bool(option.get("disruptive")) for option in verbs)
    except (ValueError, AttributeError):
        return True


def find_node(snapshot: Snapshot, name: str) -> NodeState | None:
    """A node by its name."""
    return next((node for node in snapshot.nodes if node.node.metadata.name == name), None)


def _refuse_node(name: str, node: NodeState | None) -> Refusal | None:
    if node is None or node.phase != "ready":
        return Refusal("unknown", f"node {name} is {node.phase if node else 'unknown'}")
    if node.node.spec.cordoned or node.node.spec.drained:
        return Refusal("unknown", f"node {name} is cordoned")
    return None


def motion_limit(snapshot: Snapshot) -> int:
    """Replicas that adaptation may have in motion at once: the slice's share of all that run, at least one."""
    running = sum(row.wanted == "run" for row in snapshot.placements)
    return max(1, int(snapshot.slice.spec.adaptation.blast_radius * running))


def in_motion(snapshot: Snapshot) -> int:
    """Replicas that are starting because adaptation said so, or stopping; a move counts once, not twice."""
    moving = set[str]()
    for row in snapshot.placements:
        if row.wanted == "run" and row.phase == "starting" and row.cause in ("scale", "move"):
            moving.add(row.replaces or row.id)
        elif row.wanted != "run" and row.phase not in ("failed", "unknown"):
            moving.add(row.id)
    return len(moving)

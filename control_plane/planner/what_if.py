"""Answers "what would happen if these descriptions changed?" by letting a changed copy of the snapshot run its
course.

Served by the API as `POST /v1/what-if`, printed by `shoal what-if`. Nothing is touched. What would happen anyway,
without the change, is not told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from ...descriptions.kinds import Application, Cluster, Datacenter, Kind, Model, Node, Policy, Slice
from ...descriptions.kinds.application import Component
from ..revisions import Recipe, recipe_of
from .course import Course, Event, Key
from .explanation import PlacementChange, WhatIf
from .policies import Policies
from .snapshot import NodeState, Snapshot
from .summary import replicas

T = TypeVar("T", Application, Cluster, Datacenter, Model, Policy)


def what_if(
    snapshot: Snapshot,
    changed: Sequence[Kind],
    removed: Sequence[tuple[str, str]] = (),
    *,
    policies: Policies,
    seed: int = 0,
) -> WhatIf:
    """`changed` are whole objects as they would be; `removed` are kinds with names."""
    after = changed_snapshot(snapshot, changed, removed)
    anyway = Counter(event.what for event in _events(snapshot, frozenset(), policies, seed))
    events = []
    for event in _events(after, outdated(snapshot, after), policies, seed):
        if anyway[event.what]:
            anyway[event.what] -= 1
        else:
            events.append(event)
    changes = tuple(_change(event) for event in events)
    unplaced = sum(event.is_unplaced for event in events)
    return WhatIf(snapshot.version, _summary(changes), changes, unplaced)


def changed_snapshot(snapshot: Snapshot, changed: Sequence[Kind], removed: Sequence[tuple[str, str]] = ()) -> Snapshot:
    """The snapshot as it would be with other descriptions; nodes keep their uid and phase, new ones are ready."""
    after = snapshot
    for kind in changed:
        match kind:
            case Slice():
                after = replace(after, slice=kind)
            case Node():
                after = replace(after, nodes=_with_node(after.nodes, kind))
            case Application():
                after = replace(after, applications=_with(after.applications, kind))
            case Cluster():
                after = replace(after, clusters=_with(after.clusters, kind))
            case Datacenter():
                after = replace(after, datacenters=_with(after.datacenters, kind))
            case Model():
                after = replace(after, models=_with(after.models, kind))
            case Policy():
                after = replace(after, policies=_with(after.policies, kind))
            case _:
                continue  # mechanisms and secrets have no say in placement
    gone: dict[str, set[str]] = {}
    for kind_name, name in removed:
        gone.setdefault(kind_name, set()).add(name)
    return replace(
        after,
        nodes=tuple(one for one in after.nodes if one.node.metadata.name not in gone.get("Node", ())),
        applications=_without(after.applications, gone.get("Application")),
        clusters=_without(after.clusters, gone.get("Cluster")),
        datacenters=_without(after.datacenters, gone.get("Datacenter")),
        models=_without(after.models, gone.get("Model")),
        policies=_without(after.policies, gone.get("Policy")),
    )


def outdated(before: Snapshot, after: Snapshot) -> frozenset[Key]:
    """Components that would run something else than they do."""
    then, now = _recipes(before), _recipes(after)
    return frozenset(key for key, recipe in now.items() if key in then and then[key] != recipe)


def _events(snapshot: Snapshot, changed: frozenset[Key], policies: Policies, seed: int) -> list[Event]:
    course = Course(snapshot, changed, policies, seed)
    course.run()
    return course.events


def _recipes(snapshot: Snapshot) -> dict[Key, str]:
    """Digest of what each component runs; what can't run is told by its reason."""
    models = {model.metadata.name: model for model in snapshot.models}
    found: dict[Key, str] = {}
    for application in snapshot.applications:
        siblings = {part.name: part for part in application.spec.components}
        for part in siblings.values():
            found[application.metadata.name, part.name] = _recipe(application.metadata.name, part, models, siblings)
    return found


def _recipe(
    application: str, component: Component, models: Mapping[str, Model], siblings: Mapping[str, Component]
) -> str:
    recipe = recipe_of(application, component, models, dict.fromkeys(component.secrets, 1), siblings)
    return recipe.digest if isinstance(recipe, Recipe) else recipe.reason


def _with_node(states: tuple[NodeState, ...], node: Node) -> tuple[NodeState, ...]:
    known = next((one for one in states if one.node.metadata.name == node.metadata.name), None)
    if known is None:
        mechanisms = states[0].mechanisms if states else ()  # of a node that nobody has seen yet: as the others
        return (*states, NodeState(node, f"new-{node.metadata.name}", "ready", mechanisms))
    described = node if node.status else node.model_copy(update={"status": known.node.status})
    return tuple(replace(known, node=described) if one is known else one for one in states)


def _with(objects: tuple[T, ...], changed: T) -> tuple[T, ...]:
    name = changed.metadata.name
    if name in {one.metadata.name for one in objects}:
        return tuple(changed if one.metadata.name == name else one for one in objects)
    return objects + (changed,)  # noqa: RUF005  # unpacking loses the type that all have in common


def _without(objects: tuple[T, ...], names: set[str] | None) -> tuple[T, ...]:
    return tuple(one for one in objects if one.metadata.name not in names) if names else objects


def _change(event: Event) -> PlacementChange:
    application, component = event.key
    what: Literal["start", "move", "restart", "stop", "unplaced"]
    if event.is_unplaced:
        what = "unplaced"
    elif not event.before:
        what = "start"
    elif not event.after:
        what = "stop"
    else:
        what = "restart" if event.after == event.before else "move"
    return PlacementChange(application, component, event.replica, what, event.before, event.after, event.reason)


def _summary(changes: Sequence[PlacementChange]) -> str:
    if not changes:
        return "No replica would change."
    counts: Counter[str] = Counter(change.change for change in changes)
    words = {
        "start": "would start",
        "move": "would move",
        "restart": "would be restarted where it is",
        "stop": "would stop",
        "unplaced": "would find no node",
    }
    return "; ".join(f"{replicas(counts[what])} {told}" for what, told in words.items() if counts[what]) + "."

"""Chooses the built-in answer to a missed QoS target: more replicas, else a better node, else a faster setting.

`core.py` asks once enough windows were missed; the brakes still decide whether the answer may happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...descriptions.kinds.application import Component
from ...policies.actions import Action, Move, Scale
from ..placement import Placement
from ..planner.snapshot import Snapshot
from .brakes import find_node, is_permitted
from .settings import faster_setting
from .targets import judge

BetterNode = Callable[[Snapshot, Placement], str]
"""Name of the feasible node that the placement policies score above the replica's own; empty where there is none."""


def no_better_node(snapshot: Snapshot, replica: Placement) -> str:
    """Never move on our own account: for control planes without a scoring planner, and for tests."""
    return ""


@dataclass(frozen=True)
class Response:
    """An answer, and what was considered before it."""

    action: Action | None
    tried: tuple[str, ...]


def respond(
    snapshot: Snapshot, component: Component, replicas: tuple[Placement, ...], reason: str, better_node: BetterNode
) -> Response:
    """Pick the first answer that is permitted and possible; `tried` says why each earlier one is not."""
    if not replicas:
        return Response(None, ("no replica runs",))
    application = replicas[0].application
    tried = []
    if refusal := _no_scale(component, len(replicas)):
        tried.append(f"scale: {refusal}")
    else:
        return Response(Scale(application, component.name, len(replicas) + 1, reason), ())
    worst = worst_replica(snapshot, component, replicas)
    if not is_permitted(component, "move"):
        tried.append("move: not among permittedActions")
    elif node := better_node(snapshot, worst):
        return Response(Move(application, component.name, worst.id, node, reason), tuple(tried))
    else:
        tried.append(f"move: no node scores above {worst.node_name} for {worst.id}")
    state = find_node(snapshot, worst.node_name)
    setting = faster_setting(component, worst, state) if state else None
    if setting is None:
        tried.append(f"set: no permitted setting of {worst.node_name} makes it faster")
    return Response(setting, tuple(tried))


def _no_scale(component: Component, wanted: int) -> str:
    if component.scaling is None:
        return "the description gives no `scaling`"
    if not is_permitted(component, "scale"):
        return "not among permittedActions"
    return f"{wanted} is the maximum" if wanted >= component.scaling.max else ""


def worst_replica(snapshot: Snapshot, component: Component, replicas: tuple[Placement, ...]) -> Placement:
    """The replica on the node that misses the targets by most; the first by id where nodes are not told apart."""

    def excess(replica: Placement) -> float:
        key = f"{replica.application}.{replica.component}"
        return max(
            (judge(target, key, snapshot.metrics, replica.node_name).excess for target in component.qos), default=0.0
        )

    return max(sorted(replicas, key=lambda replica: replica.id), key=excess)

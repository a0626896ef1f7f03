"""Compares what a component should be with its replicas and their nodes: what is missing, too many or misplaced.

A pure function over one component, as the reconciler of Nomad's scheduler: `core.py` calls it whenever anything that it
reads has changed, and it gives the same answer until something changes. Where replicas go is left to the planner, when
an old one stops for a new one to `rollout.py`.

Replicas form chains: a new one `replaces` an old one, which keeps its row until it is gone. The last of a chain is its
head, and heads are what is counted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..descriptions.kinds.application import Component, OnReturn
from .placement import Placement
from .planner.snapshot import Cause, Need

LEASE_MARGIN = 1.25
"""The agent stops a single instance 0.8 leases after its last answered heartbeat, we start another after 1.25: safe
while the two clocks' rates differ by less than 1.56."""
KILL_GRACE_S = 5.0
"""For what stops without a grace period of its own."""
DRAIN_S = 30.0
"""How long a replica may take to answer what it has begun."""

NodePhase = Literal["expected", "ready", "suspect", "lost", "left", "gone"]
"""Of a node; `gone` is one that was deleted, or that joined again under another uid."""
Keep = Literal["original", "replacement"]


@dataclass(frozen=True)
class Standing:
    """A node, as far as its replicas are concerned."""

    name: str
    phase: NodePhase = "ready"
    gone_s: float = 0.0
    """When it became lost or left."""
    granted_s: float = 0.0
    """When it last got a lease."""
    lease_s: float = 30.0
    is_held: bool = False
    """Its site vanished: nothing of it is replaced."""
    is_drained: bool = False
    is_cordoned: bool = False

    @property
    def is_away(self) -> bool:
        """True when it is not known to run anything."""
        return self.phase in ("lost", "left", "gone")


@dataclass(frozen=True)
class Situation:
    """All that the answer depends on."""

    application: str
    name: str
    component: Component | None
    """None when nobody describes it any more: everything stops."""
    revision: int
    """Newest one; 0 while it cannot run (its model isn't there)."""
    count: int
    """Replicas that should run."""
    placements: tuple[Placement, ...]
    nodes: Mapping[str, Standing]
    """By uid; a node that isn't here is gone for good."""
    now_s: float
    replace_after: float | Literal["never"] = 60.0
    """Of the slice, where the component says nothing."""
    evictions: int = 1_000_000
    """How many replicas may be given up now."""
    halted: int = 0
    """Revision that is not rolled out."""
    is_paused: bool = False
    """An operator paused a rollout: nothing more is begun."""
    is_single: bool = False
    """It is a single instance, or was one while what is left of it ran."""
    not_before: Mapping[str, float] = field(default_factory=dict)
    """Replica id → when a failed move of it may be tried again."""
    draining: Mapping[str, float] = field(default_factory=dict)
    """Replica id → since when it drains."""
    choices: Mapping[str, Keep] = field(default_factory=dict)
    """Returned replica id → which one stays, where scores had to be compared."""


@dataclass(frozen=True)
class Stop:
    """A replica that should not run."""

    id: str
    reason: str
    at_once: bool = False
    """Without draining: it serves nobody, or must not."""
    is_surplus: bool = False
    """Fewer replicas are wanted."""


@dataclass(frozen=True)
class Difference:
    """What has to change; everything not named stays as it is."""

    needs: tuple[Need, ...] = ()
    stops: tuple[Stop, ...] = ()
    give_up: tuple[str, ...] = ()
    """Away for too long: from now on they are lost, and a replacement is needed. Each costs an eviction."""
    recover: tuple[str, ...] = ()
    """Lost ones that are back and stay."""
    forget: tuple[str, ...] = ()
    """Their node is gone for good."""
    compare: tuple[tuple[str, str], ...] = ()
    """Returned replica and its replacement, between which scores decide."""
    wake_s: float | None = None
    """When to look again though nothing may have happened."""


@dataclass
class _Findings:
    needs: list[Need] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    give_up: list[str] = field(default_factory=list)
    recover: list[str] = field(default_factory=list)
    compare: list[tuple[str, str]] = field(default_factory=list)
    wakes_s: list[float] = field(default_factory=list)

    def stop(self, placement: Placement, reason: str, *, at_once: bool = False, is_surplus: bool = False) -> None:
        self.stops.append(Stop(placement.id, reason, at_once, is_surplus))

    def stopped(self) -> set[str]:
        return {stop.id for stop in self.stops}


def reconcile(situation: Situation) -> Difference:
    """The difference between what should be and what is."""
    found = _Findings()
    gone = [placement for placement in situation.placements if _is_gone(situation, placement)]
    forget = tuple(placement.id for placement in gone if _has_stopped(situation, placement, found))
    without = {placement.id for placement in gone}
    running = linked(situation.placements, without)
    _end_drains(situation, found)
    _end_waits(situation, found)
    if situation.component is None:
        for placement in running:
            found.stop(placement, "the component was removed", at_once=_is_away(situation, placement))
    else:
        _returns(situation, situation.component, running, found)
        _abandon(situation, running, found)
        stopped = found.stopped()
        left = linked(situation.placements, {*stopped, *without})
        _heads(situation, situation.component, left, found, was_forgotten=bool(forget))
    wake_s = min(found.wakes_s, default=None)
    return Difference(
        tuple(found.needs),
        tuple(found.stops),
        tuple(found.give_up),
        tuple(found.recover),
        forget,
        tuple(found.compare),
        wake_s,
    )


def linked(placements: Iterable[Placement], without: Container[str] = ()) -> tuple[Placement, ...]:
    """Replicas that should run, each replacing the nearest one before it in its chain that should run, too.

    A replica in the middle that stops is no gap: what it replaced stays replaced, and must not count as a head.
    """
    placements = tuple(placements)
    before = {placement.id: placement.replaces for placement in placements}
    running = {one.id for one in placements if one.wanted == "run" and one.id not in without}
    found = []
    for placement in placements:
        if placement.id not in running:
            continue
        replaces = placement.replaces
        while replaces in before and replaces not in running:
            replaces = before[replaces]
        is_same = replaces == placement.replaces
        found.append(placement if is_same else msgspec.structs.replace(placement, replaces=replaces))
    return tuple(found)


def heads_of(running: Iterable[Placement]) -> tuple[Placement, ...]:
    """The replicas that count: those that no other replaces."""
    running = tuple(running)
    replaced = {placement.replaces for placement in running}
    return tuple(placement for placement in running if placement.id not in replaced)


def due_s(situation: Situation, component: Component, placement: Placement) -> float | None:
    """When a replica on a node that is away may be replaced; None means not until something happens."""
    node = situation.nodes[placement.node_uid]
    after = component.disconnect.replace_after
    if after is None:
        after = situation.replace_after
    if node.is_drained:
        after = 0.0  # an operator gave the node up
    elif after == "never" or node.is_held:
        return None
    return max(node.gone_s + after, stopped_s(situation, node) if situation.is_single else 0.0)


def stopped_s(situation: Situation, node: Standing) -> float:
    """When a single instance on a node that was not heard since has stopped for certain."""
    process = situation.component.process if situation.component is not None else None
    grace_s = KILL_GRACE_S + (process.stop_grace if process is not None else KILL_GRACE_S)
    return node.granted_s + LEASE_MARGIN * node.lease_s + grace_s


def _is_gone(situation: Situation, placement: Placement) -> bool:
    node = situation.nodes.get(placement.node_uid)
    return node is None or node.phase == "gone"


def _has_stopped(situation: Situation, placement: Placement, found: _Findings) -> bool:
    """True unless it may still run as the one of which there must not be two."""
    node = situation.nodes.get(placement.node_uid)
    if node is None or not situation.is_single or (placement.lost and node.is_away):
        return True
    if not node.is_away:
        return False
    over_s = stopped_s(situation, node)
    if over_s > situation.now_s:
        found.wakes_s.append(over_s)
    return over_s <= situation.now_s


def _end_waits(situation: Situation, found: _Findings) -> None:
    """A replica that should leave for another one, on a node that is away: the other one need not wait for ever."""
    awaited = {placement.replaces for placement in situation.placements if placement.wanted == "run"}
    for placement in situation.placements:
        node = situation.nodes.get(placement.node_uid)
        is_waited_for = placement.id in awaited and placement.wanted != "run" and not placement.lost
        if not is_waited_for or node is None or not node.is_away or situation.component is None:
            continue
        due = due_s(situation, situation.component, placement)
        if due is not None and due > situation.now_s:
            found.wakes_s.append(due)
        elif due is not None and situation.evictions > 0:
            found.give_up.append(placement.id)


def _end_drains(situation: Situation, found: _Findings) -> None:
    for placement in situation.placements:
        if placement.wanted == "drain" and placement.id in situation.draining:
            over_s = situation.draining[placement.id] + DRAIN_S
            if over_s <= situation.now_s:
                found.stop(placement, "it drained for long enough", at_once=True)
            else:
                found.wakes_s.append(over_s)


def _returns(situation: Situation, component: Component, running: tuple[Placement, ...], found: _Findings) -> None:
    """Replicas that were given up and whose node is back: exactly one of each chain stays."""
    successor = {placement.replaces: placement for placement in running}
    for placement in running:
        if not placement.lost or situation.nodes[placement.node_uid].phase != "ready":
            continue
        chain: list[Placement] = []
        while (following := successor.get(chain[-1].id if chain else placement.id)) is not None:
            chain.append(following)
        if not chain:
            found.recover.append(placement.id)
            continue
        _choose(situation, component, placement, chain, found)


def _choose(
    situation: Situation, component: Component, original: Placement, chain: list[Placement], found: _Findings
) -> None:
    head = chain[-1]
    keep = _preferred(situation, component, original)
    if keep is None:
        found.compare.append((original.id, head.id))
        return
    head_serves = head.phase == "ready" and not _is_away(situation, head)
    original_serves = original.phase == "ready"
    if head.phase == "failed" and original_serves:
        keep = "original"
    elif original.phase == "failed" and head_serves:
        keep = "replacement"
    if keep == "replacement" and head_serves:
        found.stop(original, f"its node is back and {head.id} replaced it")
    elif keep == "original" and original_serves:
        found.recover.append(original.id)
        for replacement in chain:
            found.stop(replacement, f"{original.id} is back", at_once=_is_away(situation, replacement))


def _preferred(situation: Situation, component: Component, original: Placement) -> Keep | None:
    wish = component.disconnect.on_return
    # An older revision would be updated at once, and a single instance was told to stop before it was replaced.
    if component.single_instance or original.revision != situation.revision or wish is OnReturn.KEEP_REPLACEMENT:
        return "replacement"
    return "original" if wish is OnReturn.KEEP_ORIGINAL else situation.choices.get(original.id)


def _abandon(situation: Situation, running: tuple[Placement, ...], found: _Findings) -> None:
    """A replacement whose own node went away while the old one still runs: the old one is the head again."""
    by_id = {placement.id: placement for placement in running}
    for placement in running:
        old = by_id.get(placement.replaces)
        if old is not None and not old.lost and not _is_away(situation, old) and _is_away(situation, placement):
            found.stop(placement, f"its node went away before it replaced {old.id}", at_once=True)


def _heads(
    situation: Situation,
    component: Component,
    running: tuple[Placement, ...],
    found: _Findings,
    *,
    was_forgotten: bool,
) -> None:
    heads = heads_of(running)
    count = min(situation.count, 1) if component.single_instance else situation.count
    ranked = sorted(heads, key=lambda head: _rank(situation, component, head))
    for head in ranked[count:]:
        _stop_chain(situation, head, running, found)
    kept = sorted(ranked[:count], key=lambda head: head.ordinal)
    _replace(situation, component, kept, found)
    _change(situation, component, kept, running, found)
    leaving = [one for one in situation.placements if one.wanted != "run"] if situation.is_single else []
    if any(not _has_stopped(situation, one, found) for one in leaving):
        return  # the one that runs has to be known to have stopped
    if len(heads) < count and situation.revision:
        cause: Cause = "replace" if was_forgotten else "scale" if situation.placements else "initial"
        found.needs.append(Need(situation.application, situation.name, count - len(heads), cause))


def _rank(situation: Situation, component: Component, head: Placement) -> tuple[bool, bool, bool, bool, bool, int]:
    """Sorts what should stay first: present, not failed, ready, on a node that takes replicas, up to date, old."""
    node = situation.nodes[head.node_uid]
    is_due = head.lost or (node.is_away and (due_s(situation, component, head) or 0.0) <= situation.now_s)
    return (
        is_due,
        head.phase == "failed",
        head.phase != "ready",
        node.is_drained or node.is_cordoned,
        head.revision != situation.revision,
        head.ordinal,
    )


def _stop_chain(situation: Situation, head: Placement, running: tuple[Placement, ...], found: _Findings) -> None:
    by_id = {placement.id: placement for placement in running}
    placement: Placement | None = head
    while placement is not None:
        told = f"{situation.count} replicas are wanted"
        found.stop(placement, told, at_once=_is_away(situation, placement), is_surplus=True)
        placement = by_id.get(placement.replaces)


def _replace(situation: Situation, component: Component, heads: list[Placement], found: _Findings) -> None:
    """Give up what was away for too long, and ask for replacements of all that is given up."""
    evictions = situation.evictions
    wanted: list[str] = []
    for head in heads:
        if not _is_away(situation, head):
            continue
        due = due_s(situation, component, head)
        if head.lost:
            wanted.append(head.id)
        elif due is not None and due > situation.now_s:
            found.wakes_s.append(due)
        elif due is not None and evictions > 0:
            evictions -= 1
            found.give_up.append(head.id)
            wanted.append(head.id)
    if wanted and situation.revision:
        found.needs.append(Need(situation.application, situation.name, len(wanted), "replace", tuple(wanted)))


def _change(
    situation: Situation,
    component: Component,
    heads: list[Placement],
    running: tuple[Placement, ...],
    found: _Findings,
) -> None:
    """Ask for successors of replicas on drained nodes or of older revisions, a few at a time."""
    if situation.is_paused:
        return
    by_id = {placement.id: placement for placement in running}
    begun = [head for head in heads if head.replaces in by_id and not by_id[head.replaces].lost]
    strategy = component.update_strategy
    free = len(heads) if strategy.type == "recreate" else max(strategy.max_surge - len(begun), 0)
    drained: list[str] = []
    outdated: list[str] = []
    for head in heads:
        node = situation.nodes[head.node_uid]
        is_outdated = situation.revision not in (head.revision, 0, situation.halted)
        is_begun = head.replaces in by_id and not by_id[head.replaces].lost
        if head.lost or node.is_away or is_begun or not (node.is_drained or is_outdated):
            continue
        if situation.not_before.get(head.id, 0.0) > situation.now_s:
            found.wakes_s.append(situation.not_before[head.id])
        elif len(drained) + len(outdated) < free:
            (drained if node.is_drained else outdated).append(head.id)
    causes: tuple[tuple[Cause, list[str]], ...] = (("drain", drained), ("update", outdated))
    for cause, ids in causes:
        if ids:
            found.needs.append(Need(situation.application, situation.name, len(ids), cause, tuple(ids)))


def _is_away(situation: Situation, placement: Placement) -> bool:
    return situation.nodes[placement.node_uid].is_away

"""What `why` and `what-if` answer with: msgspec structs, camelCase in JSON, served by the API as they are.

`explain.py` and `what_if.py` fill them; the CLI prints them as tables.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """An answer for people and programs."""


class Failure(Told, frozen=True):
    """A constraint that a node fails."""

    constraint: str
    """`memory`, `label`, `cordon`, …; `docs/placement.md` lists them."""
    reason: str
    """With numbers: `needs 256Mi, 136Mi of 1Gi are free`."""
    change: str = ""
    """The smallest change that would lift it: `free 120Mi of memory`; empty where nothing sensible would."""


class PolicyScore(Told, frozen=True):
    """What one policy says of one node."""

    policy: str
    weight: float
    raw: float | None = None
    """As the policy gave it; None where it refused the node or does not score."""
    scaled: float | None = None
    """0–1 over the feasible nodes."""


class NodeExplanation(Told, frozen=True):
    """One row of the full table."""

    node: str
    feasible: bool
    chosen: int
    """Replicas that would be placed here if all replicas of the component were decided again now."""
    running: int
    """Replicas of the component that are here."""
    failures: tuple[Failure, ...] = ()
    """Every failing constraint, not only the first."""
    scores: tuple[PolicyScore, ...] = ()
    total: float | None = None
    """Sum of scaled score times weight; None where not feasible."""
    rank: int | None = None
    """1 is the best; ties go by name."""
    change: str = ""
    """The smallest change found that would bring a replica here."""


class ConstraintCount(Told, frozen=True):
    """How many nodes fail a constraint; a node that fails several counts for each."""

    constraint: str
    nodes: int


class PolicyTold(Told, frozen=True):
    """A policy that took part."""

    name: str
    version: str
    weight: float
    options: str
    """JSON, camelCase."""
    fault: str = ""
    """Why it did not decide, where the built-in decided instead."""


class Explanation(Told, frozen=True):
    """Why the replicas of a component are where they are, and why not elsewhere."""

    application: str
    component: str
    node: str
    """The node asked about; empty for all."""
    version: int
    """Of the snapshot."""
    summary: str
    """A sentence or two that answer the question."""
    running_on: tuple[str, ...]
    would_choose: tuple[str, ...]
    """Node of each replica if all were decided again now, in order of choice."""
    unplaced: int
    counts: tuple[ConstraintCount, ...]
    policies: tuple[PolicyTold, ...]
    nodes: tuple[NodeExplanation, ...]
    """Only the node asked about, where one was; otherwise all, best first, then by name."""


class PlacementChange(Told, frozen=True):
    """What a changed description would do to one replica."""

    application: str
    component: str
    replica: str
    """Id of the replica that is there; empty for a new one."""
    change: Literal["start", "move", "restart", "stop", "unplaced"]
    before: str
    """Node name; empty for a new one."""
    after: str
    """Node name; empty when it stops or finds no place."""
    reason: str


class WhatIf(Told, frozen=True):
    """What would happen; nothing was touched."""

    version: int
    summary: str
    changes: tuple[PlacementChange, ...] = ()
    unplaced: int = 0
    """Replicas that would find no node."""

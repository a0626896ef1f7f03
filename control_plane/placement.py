"""The Placement row: one replica on one node, committed before anything is published.

Kept in the objects table under the internal kind `Placement`, named by the replica id. `reconcile.py` compares these
rows with Applications, the planner picks their nodes, `rollout.py` walks them through their phases.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PLACEMENT_KIND = "Placement"

Phase = Literal["starting", "ready", "notReady", "failed", "stopping", "unknown"]


class AcceleratorHold(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Accelerators of one kind that a replica occupies; the kind is as the node describes or reports it."""

    type: str
    count: int
    model: str = ""
    memory_bytes: int = 0


class Reservation(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a replica holds of its node, in whole steps so that sums are exact."""

    cpu_millis: int = 0
    """Thousandths of a core."""
    memory_bytes: int = 0
    disk_bytes: int = 0
    accelerators: tuple[AcceleratorHold, ...] = ()


class Placement(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One replica; `wanted` is what the control plane wants, `phase` what the node last reported."""

    id: str
    """`<application>.<component>.<ordinal>`; an ordinal is never used twice."""
    application: str
    component: str
    ordinal: int
    node_uid: str
    node_name: str
    revision: int
    """Of the component, as the replica should run it."""
    wanted: Literal["run", "drain", "stop"] = "run"
    phase: Phase = "starting"
    message: str = ""
    decision: str = ""
    cause: str = ""
    """Why it was placed: initial, scale, update, replace, move, drain."""
    replaces: str = ""
    """Replica that stops when this one is ready."""
    created_s: float = 0.0
    """Wall clock, seconds since 1970: for people and for `onReturn`, never for leases."""
    lost: bool = False
    """Its node is lost; kept so that a returning node is told what to do with it."""
    ports: dict[str, int] = {}
    reserved: Reservation | None = None
    """As decided when it was placed, so that an edited or deleted description never frees what still runs; None counts
    what the component says now."""

"""The Placement row: one replica on one node, committed before anything is published.

Kept in the objects table under the internal kind `Placement`, named by the replica id. `reconcile.py` compares these rows
with Applications, the planner picks their nodes, `rollout.py` walks them through their phases.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PLACEMENT_KIND = "Placement"

Phase = Literal["starting", "ready", "notReady", "failed", "stopping", "unknown"]


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

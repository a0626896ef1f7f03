"""Asks the adaptation policies what they would change: one look over a snapshot, wishes as the answer.

The control plane's driver asks before each look of `adaptation/core.py`, which decides what becomes of the wishes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...descriptions.errors import PluginError
from ...descriptions.kinds import Application
from ...policies.actions import Action
from ...policies.reading import MetricUse
from ...policies.request import Request
from ...policies.view import View
from ..adaptation.events import PolicyPlan
from .decider import Decider
from .policies import Policies
from .snapshot import PolicyFault, Snapshot
from .table import Table


@dataclass(frozen=True)
class Wishes:
    """What adaptation policies want, by policy in order of first use, and what went wrong with them."""

    plans: tuple[PolicyPlan, ...]
    faults: tuple[PolicyFault, ...] = ()


def adapt(table: Table, policies: Policies, seed: int = 0) -> Wishes:
    """Ask about every application, by name; a policy that fails is counted and its wishes are left out."""
    plans: dict[tuple[str, float], list[Action]] = {}
    faults: list[PolicyFault] = []
    for name in sorted(table.applications):
        application = table.applications[name]
        for seat in policies.seats(table.snapshot, application):
            if seat.decider is None or not seat.decider.is_adapting:
                continue
            try:
                actions = seat.decider.adapt(application, view_of(table, application, seed))
            except PluginError as error:
                faults.append(policies.fence.strike(seat.decider.name, error.message))
                continue
            policies.fence.good(seat.decider.name)
            plans.setdefault((seat.decider.name, seat.decider.weight), []).extend(actions)
    told = tuple(PolicyPlan(name, weight, tuple(actions)) for (name, weight), actions in plans.items() if actions)
    return Wishes(told, tuple(faults))


def metrics_of(snapshot: Snapshot, policies: Policies) -> tuple[MetricUse, ...]:
    """What the policies in use read, so that nodes measure it often enough while they are."""
    deciders: dict[tuple[str, str], Decider] = {}
    for application in snapshot.applications:
        for seat in policies.seats(snapshot, application):
            if seat.decider is not None:
                deciders[seat.decider.name, seat.decider.options] = seat.decider
    uses = {use: None for key in sorted(deciders) for use in deciders[key].metrics}
    return tuple(uses)


def view_of(table: Table, application: Application, seed: int) -> View:
    """The slice as an adaptation policy sees it."""
    snapshot = table.snapshot
    return View(
        now_s=snapshot.now_s,
        wall=snapshot.wall,
        seed=seed,
        slice=snapshot.slice,
        application=application,
        request=Request(0, 0, 0),
        relations=table.relations(application),
        nodes=table.nodes,
        network=table.network,
        replicas=table.replicas,
        metrics=snapshot.metrics,
        reports=table.layout.reports,
    )

"""What a description would like but does not require, as one more score beside the policies.

`preferences` adds up soft affinity, anti-affinity, spread and interaction targets and has weight 1. `companions`
prefers nodes where the components that must stand beside this one would fit as well; its weight is above all others
together, because the best node is worth little when the rest of the application can't follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Affinity, Component, Interaction, Topology
from ...policies.actions import Action
from ...policies.asking import Rating
from ...policies.node_table import BoolArray, FloatArray
from ...policies.policy import Rescore
from ...policies.reading import MetricUse
from ...policies.request import Request, request_of
from ...policies.view import View
from .constraint import Constraint, Question
from .decider import Decider
from .domains import codes_of, domain_count
from .evaluation import Evaluation
from .filters.interaction import Calls, Limits
from .filters.neighbours import Together
from .table import model_of


@dataclass(frozen=True)
class Crowding:
    """Replicas of a component in the node's domain: `count / (count + 1)`, and 1 for a node in no domain."""

    component: str
    topology: Topology

    def of(self, question: Question) -> FloatArray:
        """Shape `(nodes,)`."""
        nodes = question.table.nodes
        codes = codes_of(nodes, self.topology)
        standing = codes[question.siblings_of(self.component)]
        counts = np.bincount(standing[standing >= 0] + 1, minlength=domain_count(nodes, self.topology) + 1)
        crowd = counts / (counts + 1.0)
        crowd[0] = 1.0
        shares: FloatArray = crowd[codes + 1]
        return shares


@dataclass(frozen=True, eq=False)
class Preferences:
    """Soft wishes of one component; it satisfies `Decider`."""

    question: Question
    wishes: tuple[Constraint, ...]
    """Each worth 1 where met."""
    crowding: tuple[Crowding, ...]
    """Each worth up to -1."""
    name: str = "preferences"
    version: str = "1"
    weight: float = 1.0
    options: str = "{}"
    rescore: Rescore = "all"
    is_placing: bool = True
    is_scoring: bool = True
    is_adapting: bool = False
    metrics: tuple[MetricUse, ...] = ()

    def rate(self, component: Component, view: View, asked: BoolArray, *, reasons: bool = False) -> Rating:
        """Add up."""
        raw = np.zeros(len(view.nodes))
        for wish in self.wishes:
            raw += wish.mask(self.question)
        for crowd in self.crowding:
            raw -= crowd.of(self.question)
        return Rating(raw)

    def rate_row(self, component: Component, view: View, row: int) -> tuple[float, bool]:
        """Never asked: a replica may change what other nodes are worth."""
        raise AssertionError("preferences are scored over all nodes")

    def adapt(self, application: Application, view: View) -> Sequence[Action]:
        """Nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class Companions:
    """1 where every component that must stand beside this one would fit too; it satisfies `Decider`."""

    question: Question
    others: tuple[Component, ...]
    weight: float
    name: str = "companions"
    version: str = "1"
    options: str = "{}"
    rescore: Rescore = "all"
    is_placing: bool = True
    is_scoring: bool = True
    is_adapting: bool = False
    metrics: tuple[MetricUse, ...] = ()

    def rate(self, component: Component, view: View, asked: BoolArray, *, reasons: bool = False) -> Rating:
        """Evaluate the others' own constraints, and room for all together."""
        question = self.question
        together = question.request
        fits = np.ones(len(view.nodes), dtype=np.bool_)
        for other in self.others:
            request = request_of(other, model_of(other, question.table.models))
            fits &= self._static(other, request)
            together = _sum(together, request)
        ledger = question.table.ledger
        fits &= ledger.cpu_millis >= together.cpu_millis
        fits &= ledger.memory_bytes >= together.memory_bytes
        fits &= ledger.disk_bytes >= together.disk_bytes
        return Rating(fits.astype(np.float64))

    def rate_row(self, component: Component, view: View, row: int) -> tuple[float, bool]:
        """Never asked: room is looked at over all nodes."""
        raise AssertionError("companions are scored over all nodes")

    def adapt(self, application: Application, view: View) -> Sequence[Action]:
        """Nothing."""
        return ()

    def _static(self, other: Component, request: Request) -> BoolArray:
        question = self.question
        need = replace(question.need, component=other.name, node="", avoid=(), replaces=())
        model = model_of(other, question.table.models)
        asked = replace(question, need=need, component=other, request=request, model=model, left=1, static=None)
        return Evaluation(asked).question.eligible


def preferences_of(question: Question, deciders: Sequence[Decider]) -> list[Decider]:
    """What joins the policies for one need; nothing for most components."""
    component, relations = question.component, question.relations
    placement = component.placement
    found: list[Decider] = []
    callers = relations.called_by.get(component.name, ())
    if callers or component.interactions or placement.affinity or placement.anti_affinity or placement.spread:
        wishes, crowding = _wishes(component, callers), _crowding(component)
        if wishes or crowding:
            found.append(Preferences(question, wishes, crowding))
    if names := relations.wanted_by.get(component.name):
        parts = [question.table.component(question.application.metadata.name, name) for name in names]
        others = tuple(part[1] for part in parts if part is not None)
        found.append(Companions(question, others, 1 + sum(one.weight for one in (*deciders, *found))))
    return found


def _wishes(component: Component, callers: Sequence[tuple[str, Interaction]]) -> tuple[Constraint, ...]:
    wishes: list[Constraint] = [
        Together(f"affinity {one.component}", one.component, one.topology, is_mutual=False)
        for one in component.placement.affinity
        if not one.required
    ]
    wishes += [_within_reach(one.to, one) for one in component.interactions if _is_wish(one)]
    return (*wishes, *(_within_reach(other, one) for other, one in callers if _is_wish(one)))


def _crowding(component: Component) -> tuple[Crowding, ...]:
    placement = component.placement
    apart: list[Affinity] = [one for one in placement.anti_affinity if not one.required]
    return (
        *(Crowding(one.component, one.topology) for one in apart),
        *(Crowding(component.name, one.topology) for one in placement.spread if not one.required),
    )


def _within_reach(other: str, one: Interaction) -> Calls:
    return Calls(f"interaction {other}", other, Limits(one.latency, one.bandwidth))


def _is_wish(one: Interaction) -> bool:
    return not one.required and (one.latency is not None or one.bandwidth is not None)


def _sum(a: Request, b: Request) -> Request:
    return Request(a.cpu_millis + b.cpu_millis, a.memory_bytes + b.memory_bytes, a.disk_bytes + b.disk_bytes)

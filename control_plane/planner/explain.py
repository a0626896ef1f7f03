"""Answers "why is it there, and why not here?" with the full table: every failing constraint of every node, every
score, and the smallest change that would bring a replica to a node.

The question is put as though all replicas of the component were decided again now, with everything else where it is.
The API serves the answer, `shoal why` prints it. Nothing is changed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...descriptions.errors import PluginError, RefusedError
from ...descriptions.kinds.application import Component
from ...policies.node_table import FloatArray
from .explanation import ConstraintCount, Explanation, Failure, NodeExplanation, PolicyScore, PolicyTold
from .policies import Policies
from .ranking import Ranking
from .round import Round, Trial
from .sentences import about_all, about_node, change_for
from .snapshot import Need, Snapshot
from .table import Table

EXTRA_MAX = 64
"""Further replicas that are tried, to find out with how many of them a node would get one."""


def why(
    snapshot: Snapshot, application: str, component: str, node: str = "", *, policies: Policies, seed: int = 0
) -> Explanation:
    """Explain one component on one node, or on all; `RefusedError` where the snapshot doesn't know them."""
    return explain(Table(snapshot), application, component, node, policies, seed)


def explain(
    table: Table, application: str, component: str, node: str, policies: Policies, seed: int = 0
) -> Explanation:
    """As `why`, over columns that are there already; what is taken meanwhile is given back by `Table.begin`."""
    found = table.component(application, component)
    if found is None:
        raise RefusedError(f"{application} has no component {component}")
    if node and node not in table.nodes.row_of:
        raise RefusedError(f"there is no node {node}")
    running = [placement for placement in table.running(application, component) if not placement.lost]
    for placement in running:
        table.lift(placement.id)
    need = Need(application, component, wanted_of(found[1], len(running)), "initial")
    current = Round(table, policies, seed)
    looks: list[Look] = []
    trial = current.run(need, *found, look=lambda trial: looks.append(look_at(trial, current)))
    look, chosen = looks[-1], tuple(trial.rows)
    first_counts = _first_counts(current, trial)
    current.close_trial(trial)
    return _Answer(table, need, trial, look, chosen, first_counts, [one.node_name for one in running]).told(node)


def wanted_of(component: Component, running: int) -> int:
    """Replicas that the question is about: as many as run, or else as many as are described, but at least one."""
    described = component.replicas if component.scaling is None else component.scaling.min
    return max(1, running or described)


@dataclass(frozen=True)
class Look:
    """All nodes before the first replica is placed."""

    failures: tuple[tuple[Failure, ...], ...]
    """By row."""
    ranking: Ranking
    place_of: dict[int, int]
    """Row → place in the ranking."""
    rank_of: dict[int, int]
    """Row → rank from 1."""
    totals: FloatArray
    scaled: list[FloatArray]
    raws: list[FloatArray]


def look_at(trial: Trial, current: Round) -> Look:
    """Take down what holds before anything is placed."""
    ranking = current.ranked(trial)
    order = np.argsort(-ranking.order, kind="stable")
    return Look(
        failures=tuple(_failures(trial, row) for row in range(len(current.table.nodes))),
        ranking=ranking,
        place_of={int(row): at for at, row in enumerate(ranking.rows)},
        rank_of={int(ranking.rows[at]): rank for rank, at in enumerate(order, 1)},
        totals=ranking.totals().copy(),
        scaled=ranking.scaled(),
        raws=[raw.copy() for raw in trial.scoring.raws],
    )


def _failures(trial: Trial, row: int) -> tuple[Failure, ...]:
    refused = [
        Failure(f"policy {policy}", rejection.reason or "refused without a reason", rejection.change)
        for policy, rejection in trial.scoring.reasons(row)
    ]
    return (*trial.evaluation.failures(row), *refused)


def _first_counts(current: Round, trial: Trial) -> dict[int, int]:
    """Row → with how many replicas it gets its first one; more are tried than are wanted."""
    wanted = len(trial.rows)
    if wanted == trial.question.need.count:
        with contextlib.suppress(PluginError):  # then it isn't known; the answer itself stands
            current.choose_more(trial, EXTRA_MAX)
    firsts: dict[int, int] = {}
    for count, row in enumerate(trial.rows, 1):
        firsts.setdefault(row, count)
    return firsts


@dataclass(frozen=True)
class _Answer:
    """Everything found out, ready to be told."""

    table: Table
    need: Need
    trial: Trial
    look: Look
    chosen: tuple[int, ...]
    first_counts: dict[int, int]
    running_on: list[str]

    def told(self, node: str) -> Explanation:
        names = self.table.nodes.names
        rows = [self.table.nodes.row_of[node]] if node else self._rows()
        nodes = tuple(self._node(row) for row in rows)
        would_choose = tuple(names[row] for row in self.chosen)
        counts = sorted(self._counts().items(), key=lambda pair: (-pair[1], pair[0]))
        return Explanation(
            application=self.need.application,
            component=self.need.component,
            node=node,
            version=self.table.snapshot.version,
            summary=about_node(self.need, nodes[0], len(self.look.rank_of), would_choose)
            if node
            else about_all(self.need, nodes, would_choose, dict(counts)),
            running_on=tuple(sorted(self.running_on)),
            would_choose=would_choose,
            unplaced=self.need.count - len(self.chosen),
            counts=tuple(ConstraintCount(name, count) for name, count in counts),
            policies=tuple(
                PolicyTold(one.name, one.version, one.weight, one.options, one.fault)
                for one in self.trial.panel.records
            ),
            nodes=nodes,
        )

    def _rows(self) -> list[int]:
        """Feasible nodes best first, then the others by how little is missing."""
        ranks, failures = self.look.rank_of, self.look.failures
        return sorted(range(len(self.table.nodes)), key=lambda row: (ranks.get(row, math.inf), len(failures[row]), row))

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for failures in self.look.failures:
            for name in dict.fromkeys(failure.constraint for failure in failures):
                counts[name] = counts.get(name, 0) + 1
        return counts

    def _node(self, row: int) -> NodeExplanation:
        name, failures, rank = self.table.nodes.names[row], self.look.failures[row], self.look.rank_of.get(row)
        place = self.look.place_of.get(row)
        chosen = sum(1 for one in self.chosen if one == row)
        return NodeExplanation(
            node=name,
            feasible=place is not None,
            chosen=chosen,
            running=self.running_on.count(name),
            failures=failures,
            scores=self._scores(row, place),
            total=None if place is None else float(self.look.totals[place]),
            rank=rank,
            change="" if chosen else change_for(failures, self.first_counts.get(row)),
        )

    def _scores(self, row: int, place: int | None) -> tuple[PolicyScore, ...]:
        terms: Sequence[tuple[str, float]] = [
            (term.decider.name, term.decider.weight) for term in self.trial.scoring.scorers
        ]
        raws = [float(raw[row]) for raw in self.look.raws]
        return tuple(
            PolicyScore(
                name,
                weight,
                raw if math.isfinite(raw) else None,
                None if place is None else float(self.look.scaled[at][place]),
            )
            for at, ((name, weight), raw) in enumerate(zip(terms, raws, strict=True))
        )

"""Totals kept up to date are those of starting anew, bit for bit; scaling is 0–1 over the nodes that are ranked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.decider import Decider
from shoal.control_plane.planner.fleet import fleet, models
from shoal.control_plane.planner.local import Local
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.ranking import Ranking
from shoal.control_plane.planner.round import Round
from shoal.control_plane.planner.scoring import Term
from shoal.control_plane.planner.table import Table
from shoal.descriptions.errors import PluginError
from shoal.policies.asking import Rating
from shoal.policies.balanced import Balanced

from .small_slice import GIB, app, need, part, snapshot

COUNT = 5
NAMES = tuple(f"n{at}" for at in range(COUNT))
numbers = st.one_of(
    st.sampled_from([0.0, 1.0, 1.5, -3.0]), st.floats(allow_nan=False, allow_infinity=False), st.floats(-1, 1)
)


@dataclass
class Scores:
    """One policy's scores and weight."""

    raw: list[float]
    weight: float

    def term(self) -> Term:
        decider: Decider = Local("some", Balanced(), self.weight)
        return Term(decider, Rating(np.array(self.raw)))


policies = st.lists(
    st.builds(Scores, st.lists(numbers, min_size=COUNT, max_size=COUNT), st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    min_size=1,
    max_size=3,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policies, st.lists(st.tuples(st.integers(0, COUNT - 1), st.lists(numbers, min_size=3, max_size=3)), max_size=6))
def test_what_is_kept_up_to_date_is_what_starting_anew_gives(
    count_case: Callable[[], None], drawn: list[Scores], changes: list[tuple[int, list[float]]]
) -> None:
    terms = [one.term() for one in drawn]
    rows = np.arange(COUNT)
    ranking = Ranking(rows, terms, NAMES)
    for at, values in changes:
        count_case()
        for term, value in zip(terms, values, strict=False):
            assert term.rating.raw is not None
            term.rating.raw[at] = value
        ranking.changed(at, terms)
        anew = Ranking(rows, terms, NAMES)
        assert np.array_equal(ranking.order, anew.order)
        assert np.array_equal(ranking.totals(), anew.totals())
        assert ranking.leading(COUNT) == anew.leading(COUNT)
        assert [ranking.total(place) for place in range(COUNT)] == anew.totals().tolist()


@given(policies)
def test_scores_are_scaled_to_one(drawn: list[Scores]) -> None:
    ranking = Ranking(np.arange(COUNT), [one.term() for one in drawn], NAMES)
    for scaled, one in zip(ranking.scaled(), drawn, strict=True):
        assert ((scaled >= 0) & (scaled <= 1)).all()
        assert scaled.max() == 1.0
        assert (scaled.min() == 0.0) or len(set(one.raw)) == 1
        assert scaled[int(np.argmax(one.raw))] == 1.0
    leading = ranking.leading(COUNT)
    assert leading == sorted(range(COUNT), key=lambda place: (-ranking.order[place], place)), "ties go by name"


def test_only_ranked_nodes_are_looked_at() -> None:
    term = Scores([np.nan, 1.0, 2.0, np.inf, 3.0], 1.0).term()
    ranking = Ranking(np.array([1, 2, 4]), [term], NAMES)
    assert ranking.totals().tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(PluginError, match="score of n3 is inf"):
        Ranking(np.array([1, 3]), [term], NAMES)
    assert term.rating.raw is not None
    term.rating.raw[2] = np.nan
    with pytest.raises(PluginError, match="score of n2 is nan"):
        ranking.changed(1, [term])


REPLICAS = 20
BUILT_INS = ("balanced", "binpack", "cheapest", "greenest", "spread")


@pytest.mark.parametrize("first", BUILT_INS)
@pytest.mark.parametrize("second", BUILT_INS)
def test_many_replicas_at_once_stand_where_one_by_one_they_do(first: str, second: str) -> None:
    uses = [{"use": first}] if first == second else [{"use": first}, {"use": second, "weight": 0.7}]
    described = app(part(cpu=4, memory=6 * GIB, inference={"model": "model-1"}), policies=uses)
    there = snapshot(fleet(12, seed=5), described, models=models())
    planner = Planner(Policies())
    (whole,) = planner.decide(there, [need(count=REPLICAS)]).decisions
    table = Table(there)
    found = table.component("app", "part")
    assert found is not None
    singles = []
    for left in range(REPLICAS, 0, -1):
        current = Round(table, planner.policies, 0)
        trial = current.open_trial(need(count=left), *found, {})
        current.choose(trial, 1)
        current.close_trial(trial)
        singles += [table.nodes.names[row] for row in trial.rows]
    assert [one.node_name for one in whole.assignments] == singles
    assert len(set(singles)) > 1

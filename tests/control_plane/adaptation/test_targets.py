"""QoS verdicts: relations, windows that do not overlap, k of n, and silence that is not a miss."""

from __future__ import annotations

import pytest

from shoal.control_plane.adaptation.targets import MISSES, WINDOWS, Verdict, Verdicts, is_met, judge
from shoal.descriptions.kinds.meta import Relation

from .adaptation_world import latency, readings


@pytest.mark.parametrize(
    ("relation", "below", "equal", "above"),
    [
        pytest.param(Relation.LOWER_OR_EQUAL, True, True, False, id="lowerOrEqual"),
        pytest.param(Relation.LOWER_THAN, True, False, False, id="lowerThan"),
        pytest.param(Relation.GREATER_OR_EQUAL, False, True, True, id="greaterOrEqual"),
        pytest.param(Relation.GREATER_THAN, False, False, True, id="greaterThan"),
        pytest.param(Relation.EQUAL, False, True, False, id="equal"),
    ],
)
def test_relations(relation: Relation, below: bool, equal: bool, above: bool) -> None:
    assert [is_met(relation, value, 10.0) for value in (9.0, 10.0, 11.0)] == [below, equal, above]


def test_equal_has_a_tolerance() -> None:
    assert is_met(Relation.EQUAL, 10.4, 10.0)
    assert not is_met(Relation.EQUAL, 10.6, 10.0)


@pytest.mark.parametrize(
    ("age_s", "values", "verdict", "told"),
    [
        pytest.param(1.0, {"latency": 0.01}, "met", "0.01", id="met"),
        pytest.param(1.0, {"latency": 0.05}, "missed", "0.05, wanted lowerOrEqual 0.02", id="missed"),
        pytest.param(31.0, {"latency": 0.05}, "unknown", "31 s old", id="stale"),
        pytest.param(1.0, {}, "unknown", "no reading", id="missing"),
        pytest.param(1.0, {"latency": float("nan")}, "unknown", "not a number", id="not a number"),
    ],
)
def test_judge(age_s: float, values: dict[str, float], verdict: str, told: str) -> None:
    found = judge(latency(), "shop.web", readings(age_s, **values))
    assert found.verdict == verdict
    assert told in found.reason


def test_excess_is_a_share_of_the_target() -> None:
    assert judge(latency(0.02), "shop.web", readings(latency=0.05)).excess == pytest.approx(1.5)
    assert judge(latency(0.02), "shop.web", readings(latency=0.01)).excess == 0.0


@pytest.mark.parametrize(
    ("windows", "missed"),
    [
        pytest.param(["missed"], False, id="one bad window is no trend"),
        pytest.param(["missed", "missed"], True, id="enough"),
        pytest.param(["missed", "met", "missed"], True, id="enough of the last"),
        pytest.param(["missed", "missed", "met", "met"], False, id="too long ago"),
        pytest.param(["unknown"] * 5, False, id="silence is not a miss"),
        pytest.param(["missed", "unknown", "missed"], True, id="silence between does not excuse"),
    ],
)
def test_k_of_n(windows: list[Verdict], missed: bool) -> None:
    assert (MISSES, WINDOWS) == (2, 3)
    verdicts = Verdicts()
    for index, verdict in enumerate(windows):
        verdicts = verdicts.after(verdict, float(index))
    assert verdicts.is_missed is missed
    assert len(verdicts.kept) <= WINDOWS


def test_windows_do_not_overlap() -> None:
    verdicts = Verdicts().after("missed", 100.0)
    assert not verdicts.is_due(latency(), 129.9)
    assert verdicts.is_due(latency(), 130.0)

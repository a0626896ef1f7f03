"""The arithmetic of scaling: a load and a count give a number of replicas; when it is acted on is in `test_core.py`."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control_plane.adaptation.scaling import Count, Load, Missing, measure, recommend, settle
from shoal.descriptions.kinds.application import Scaling, ScalingSignal

from .adaptation_world import Readings, scaling


def of_mean(minimum: int = 1, maximum: int = 10, target: float = 10.0) -> Scaling:
    return Scaling(min=minimum, max=maximum, signal=ScalingSignal(metric="load", statistic="mean", target=target))


@pytest.mark.parametrize(
    ("scale", "count", "total", "expected"),
    [
        pytest.param(scaling(), Count(2, 2), 20.0, 2, id="on target"),
        pytest.param(scaling(), Count(2, 2), 22.0, 2, id="within tolerance above"),
        pytest.param(scaling(), Count(2, 2), 18.0, 2, id="within tolerance below"),
        pytest.param(scaling(), Count(2, 2), 22.1, 3, id="just over tolerance"),
        pytest.param(scaling(), Count(4, 4), 40.0000000001, 4, id="rounding is no load"),
        pytest.param(scaling(), Count(4, 4), 19.0, 2, id="fewer"),
        pytest.param(scaling(), Count(4, 4), 0.0, 1, id="idle goes to min, a step at a time"),
        pytest.param(scaling(0), Count(1, 1), 0.0, 0, id="zero where zero is allowed"),
        pytest.param(scaling(0), Count(0, 0), 0.0, 0, id="stays at zero"),
        pytest.param(scaling(0), Count(0, 0), 0.1, 1, id="wakes on any load"),
        pytest.param(scaling(maximum=3), Count(3, 3), 1e9, 3, id="never over max"),
        pytest.param(scaling(minimum=2), Count(3, 3), 0.0, 2, id="never under min"),
        pytest.param(scaling(), Count(4, 1), 30.0, 4, id="starting replicas are given a chance before shrinking"),
        pytest.param(scaling(), Count(4, 1), 60.0, 6, id="more than the starting ones will carry"),
        pytest.param(of_mean(), Count(4, 2), 4.0, 3, id="mean: starting replicas count as loaded before shrinking"),
        pytest.param(of_mean(), Count(4, 2), 30.0, 4, id="mean: starting replicas count as idle before growing"),
        pytest.param(scaling(maximum=100), Count(1, 1), 1000.0, 3, id="one step is bounded by one node's influence"),
    ],
)
def test_recommend(scale: Scaling, count: Count, total: float, expected: int) -> None:
    assert recommend(scale, count, Load(total)).replicas == expected


@pytest.mark.parametrize(
    ("silent", "total", "expected"),
    [
        pytest.param(0, 20.0, 2, id="all have spoken: fewer"),
        pytest.param(2, 20.0, 4, id="two of four say nothing: they may be busy"),
        pytest.param(1, 20.0, 3, id="one says nothing"),
        pytest.param(2, 60.0, 6, id="the others alone ask for more"),
        pytest.param(2, 30.0, 4, id="the others are over their target, but not for more than there are"),
    ],
)
def test_silence_is_not_idleness(silent: int, total: float, expected: int) -> None:
    """A new leader hears of one node after the other; that must not look like a fall in load."""
    parts = (("a", total / 2), ("b", total / 2))
    assert recommend(scaling(maximum=20), Count(4, 4), Load(total, parts, 0.0, silent)).replicas == expected


def test_one_lying_node_moves_little_and_is_named() -> None:
    honest = tuple((f"n{index}", 10.0) for index in range(9))
    lying = recommend(scaling(maximum=100), Count(10, 10), Load(1e6 + 90, (*honest, ("n9", 1e6))))
    assert lying.replicas == 10 + math.ceil((1 / 10 + 0.05) * 10)
    assert "node n9 alone" in lying.reason


def test_load_that_is_really_on_one_node_is_followed_step_by_step() -> None:
    wanted = 2
    for _ in range(10):
        load = Load(100.0, (("busy", 100.0), ("idle", 0.0)))
        wanted = recommend(scaling(maximum=50), Count(wanted, wanted), load).replicas
    assert wanted == 10


@given(
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.floats(0, 1e12), max_size=6),
    st.sampled_from(["rate", "mean", "p95"]),
)
def test_never_outside_the_bounds(
    low: int, span: int, wanted: int, ready: int, values: list[float], statistic: str
) -> None:
    scale = Scaling.model_validate(
        {"min": low, "max": low + span, "signal": {"metric": "m", "statistic": statistic, "target": 3}}
    )
    parts = tuple((f"n{index}", value) for index, value in enumerate(values))
    found = recommend(scale, Count(wanted, min(ready, wanted)), Load(sum(values), parts))
    assert low <= found.replicas <= low + span
    assert found.reason


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=8), st.integers(1, 30), st.floats(0, 1e9))
def test_what_one_node_says_moves_a_bounded_share(values: list[float], wanted: int, lie: float) -> None:
    """Whatever the last node reports, the answer is within one step of today's or of what the others say."""
    others = values[:-1]
    parts = (*((f"n{index}", value) for index, value in enumerate(others)), ("last", lie))
    found = recommend(scaling(0, 10_000), Count(wanted, wanted), Load(sum(others) + lie, parts)).replicas
    honest = math.ceil((sum(others) + median(others)) / 10)
    step = math.ceil((1 / len(values) + 0.05) * wanted)
    assert min(wanted, honest - 1) - step <= found <= max(wanted, honest) + step


@given(st.floats(0, 500), st.integers(0, 40))
def test_a_constant_load_is_reached_and_then_left_alone(total: float, wanted: int) -> None:
    """Liveness and no oscillation: the same load settles, and what it has settled to it keeps."""
    seen = [wanted]
    for _ in range(60):
        seen.append(recommend(scaling(0, 40), Count(seen[-1], seen[-1]), Load(total)).replicas)
    assert seen[-1] == seen[-2]
    rises = [after - before for before, after in pairwise(seen)]
    assert all(rise >= 0 for rise in rises) or all(rise <= 0 for rise in rises)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({("load", "a"): (3.0, 1.0), ("load", "b"): (4.0, 9.0)}, Load(7.0, (("a", 3.0), ("b", 4.0)), 9.0),
                     id="sum of the nodes, age of the oldest"),
        pytest.param({("load", "a"): (3.0, 1.0), ("load", ""): (8.0, 2.0)}, Load(3.0, (("a", 3.0),), 1.0, 1),
                     id="a silent node is told apart"),
        pytest.param({("load", "a"): (3.0, 1.0), ("load", "b"): (4.0, 31.0)}, Load(3.0, (("a", 3.0),), 1.0, 1),
                     id="and so is a stale one"),
        pytest.param({("load", ""): (8.0, 2.0)}, Load(8.0, (), 2.0), id="nodes are not told apart"),
        pytest.param({("load", ""): (-5.0, 2.0)}, Load(0.0, (), 2.0), id="less than nothing is nothing"),
    ],
)  # fmt: skip
def test_measure(values: dict[tuple[str, str], tuple[float, float]], expected: Load) -> None:
    assert measure(scaling().signal, "shop.web", [("a", 1), ("b", 1)], Readings(values)) == expected


def test_measure_counts_a_mean_once_for_each_replica() -> None:
    values = {("load", "a"): (3.0, 1.0), ("load", "b"): (4.0, 1.0)}
    load = measure(of_mean().signal, "shop.web", [("a", 2), ("b", 1)], Readings(values))
    assert load == Load(10.0, (("a", 6.0), ("b", 4.0)), 1.0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param({}, "no reading of rate of load over 30 s", id="missing"),
        pytest.param({("load", ""): (5.0, 31.0)}, "31 s old", id="stale"),
        pytest.param({("load", ""): (math.nan, 1.0)}, "not a number", id="not a number"),
        pytest.param({("load", ""): (math.inf, 1.0)}, "not a number", id="infinite"),
    ],
)
def test_measure_says_what_is_missing(values: dict[tuple[str, str], tuple[float, float]], told: str) -> None:
    missing = measure(scaling().signal, "shop.web", [("a", 1)], Readings(values))
    assert isinstance(missing, Missing)
    assert told in missing.reason


@pytest.mark.parametrize(
    ("wanted", "recommended", "earlier", "expected"),
    [
        pytest.param(3, 5, [3, 4], 5, id="up at once"),
        pytest.param(5, 2, [5, 4, 2], 5, id="down only when nothing in the window asked for more"),
        pytest.param(5, 2, [3, 2], 3, id="down to the largest"),
        pytest.param(5, 2, [9], 5, id="an earlier peak does not make it grow"),
        pytest.param(5, 2, [], 2, id="no window"),
    ],
)
def test_settle(wanted: int, recommended: int, earlier: list[int], expected: int) -> None:
    assert settle(wanted, recommended, earlier) == expected

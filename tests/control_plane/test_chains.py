"""Chains of replicas that replace each other: what counts as a head while one in the middle goes."""

from __future__ import annotations

import pytest

from shoal.control_plane.placement import Placement
from shoal.control_plane.reconcile import Situation, Standing, heads_of, linked, reconcile
from shoal.descriptions.kinds.application import Component


def replica(ordinal: int, replaces: int = 0, *, lost: bool = False, wanted: str = "run") -> Placement:
    return Placement(
        f"shop.web.{ordinal}",
        "shop",
        "web",
        ordinal,
        f"uid-{ordinal}",
        f"n{ordinal}",
        1,
        wanted="stop" if wanted == "stop" else "run",
        phase="unknown" if lost else "ready",
        replaces=f"shop.web.{replaces}" if replaces else "",
        lost=lost,
    )


@pytest.mark.parametrize(
    ("rows", "heads"),
    [
        pytest.param((replica(1), replica(2)), [1, 2], id="no chain"),
        pytest.param((replica(1, lost=True), replica(2, 1)), [2], id="one replaced"),
        pytest.param((replica(1, lost=True), replica(2, 1, wanted="stop"), replica(3, 2)), [3], id="the middle stops"),
        pytest.param((replica(1), replica(2, 1, wanted="stop")), [1], id="the last stops"),
        pytest.param((replica(2, 1, wanted="stop"), replica(3, 2)), [3], id="the first is gone"),
    ],
)
def test_heads(rows: tuple[Placement, ...], heads: list[int]) -> None:
    assert [head.ordinal for head in heads_of(linked(rows))] == heads


def test_a_lost_replica_stays_replaced_while_the_returned_one_between_stops() -> None:
    """1 was lost and replaced by 2, which was lost and replaced by 3; 2 is back and stops: nothing is needed."""
    rows = (replica(1, lost=True), replica(2, 1, lost=True), replica(3, 2))
    nodes = {"uid-1": Standing("n1", "lost"), "uid-2": Standing("n2"), "uid-3": Standing("n3")}
    component = Component.model_validate({"name": "web", "process": {"command": ["web"]}})
    found = reconcile(Situation("shop", "web", component, 1, 1, rows, nodes, now_s=1000.0))
    assert [stop.id for stop in found.stops] == ["shop.web.2"]
    assert found.needs == ()

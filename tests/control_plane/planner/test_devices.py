"""Overlapping accelerator requests: the test over all nodes, the shortage of one, and an assignment say the same."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal.control_plane.planner.decide import decide
from shoal.control_plane.planner.devices import Want, assign, enough, shortage
from shoal.control_plane.planner.policies import Policies

from .small_slice import GIB, app, chosen, need, node, part, snapshot

KINDS = 3
kind_sets = st.sets(st.integers(0, KINDS - 1)).map(lambda drawn: tuple(sorted(drawn)))
wants = st.lists(st.builds(Want, kind_sets, st.integers(1, 3)), max_size=3)
frees = st.lists(st.integers(-1, 4), min_size=KINDS, max_size=KINDS)


def can_be_met(free: list[int], asked: list[Want]) -> bool:
    """By trying everything."""
    units = [want.kinds for want in asked for _ in range(want.count)]
    return any(all(taken.count(kind) <= max(0, free[kind]) for kind in range(KINDS)) for taken in product(*units))


@given(frees, wants)
def test_hall_and_trying_everything_agree(free: list[int], asked: list[Want]) -> None:
    met = can_be_met(free, asked)
    assert (shortage(free, asked) is None) == met
    assert enough(np.array(free, dtype=np.int64).reshape(KINDS, 1), asked).tolist() == [met]
    taken = assign(free, asked)
    assert (taken is not None) == met
    if taken is not None:
        assert sum(taken.values()) == sum(want.count for want in asked)
        assert all(count <= free[kind] for kind, count in taken.items())
        # What is taken serves the wants: with nothing else free they could still be met.
        assert can_be_met([taken.get(kind, 0) for kind in range(KINDS)], asked)


def test_the_choosy_request_gets_what_only_it_can_use() -> None:
    gpus = [{"type": "gpu", "model": "a2"}, {"type": "gpu", "model": "t4"}]
    asked = part(accelerators=[{"type": "gpu"}, {"type": "gpu", "model": "a2"}])
    (decision,) = decide(snapshot([node("n1", accelerators=gpus)], app(asked)), [need(count=2)], Policies()).decisions
    assert chosen(decision) == ["n1"]
    holds = decision.assignments[0].reserved.accelerators
    assert [(one.type, one.model, one.count) for one in holds] == [("gpu", "a2", 1), ("gpu", "t4", 1)]


def test_the_plainest_accelerator_that_does_is_taken() -> None:
    gpus = [{"type": "gpu", "memory": 8 * GIB}, {"type": "gpu", "memory": 24 * GIB}]
    there = snapshot([node("n1", accelerators=gpus)], app(part(accelerators=[{"type": "gpu"}])))
    (decision,) = decide(there, [need(count=3)], Policies()).decisions
    assert [one.reserved.accelerators[0].memory_bytes // GIB for one in decision.assignments] == [8, 24]
    assert decision.unplaced == 1

"""A record and its snapshot give the same decision again, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.control_plane.planner.decide import decide
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.record import decode_record, encode_record, readable
from shoal.control_plane.planner.replay import replay
from shoal.control_plane.planner.snapshot import Need, Snapshot
from shoal.descriptions.errors import ProtocolError, RefusedError

from .random_slices import seeds, slices_with_needs
from .small_slice import app, need, node, part, record_of, snapshot

POLICIES = Policies()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slices_with_needs, seeds)
def test_every_decision_replays(count_case: Callable[[], None], drawn: tuple[Snapshot, list[Need]], seed: int) -> None:
    there, needs = drawn
    records = [record_of(one) for one in decide(there, needs, POLICIES, seed).decisions]
    for record in records:
        count_case()
        again = replay(record, there, Policies(), records[: record.position])
        assert encode_record(again) == encode_record(record)


def test_a_policy_that_failed_then_is_not_asked_now() -> None:
    there = snapshot([node("n1"), node("n2")], app(part(), policies=[{"use": "gone"}]))
    record = record_of(decide(there, [need()], Policies()).decisions[0])
    assert record.policies[0].fault
    assert replay(record, there, Policies()) == record


def test_another_snapshot_is_refused() -> None:
    there = snapshot([node("n1"), node("n2")], app(part(cpu=1)))
    record = record_of(decide(there, [need()], POLICIES).decisions[0])
    with pytest.raises(RefusedError, match="with other nodes or placements"):
        replay(record, replace(there, nodes=there.nodes[:1]), POLICIES)
    with pytest.raises(RefusedError, match="over version 7"):
        replay(record, replace(there, version=8), POLICIES)


def test_the_records_before_are_needed() -> None:
    there = snapshot([node("n1"), node("n2")], app(part("a", cpu=3), part("b", cpu=3)))
    first, second = (record_of(one) for one in decide(there, [need("a"), need("b")], POLICIES).decisions)
    assert replay(second, there, POLICIES, [first]).choices[0].node == "n2"
    with pytest.raises(RefusedError, match="needs every record before it"):
        replay(second, there, POLICIES)


def test_a_record_keeps_winner_runner_up_and_the_best() -> None:
    there = snapshot([node(f"n{at}", hardware={"cpu": float(at)}) for at in range(1, 6)], app(part(cpu=1)))
    record = record_of(decide(there, [need(count=2)], POLICIES).decisions[0])
    assert (record.nodes, record.feasible, record.unplaced) == (5, 5, 0)
    assert [(one.node, one.runner_up) for one in record.choices] == [("n5", "n4"), ("n4", "n3")]
    assert [one.node for one in record.top] == ["n5", "n4", "n3"]
    assert record.choices[0].total == 1.0
    assert math.isclose(record.top[1].raw[0], 1.75)


def test_a_record_is_small_and_readable() -> None:
    there = snapshot([node(f"n{at}") for at in range(20)], app(part(cpu=1)))
    data = decide(there, [need(count=10)], POLICIES).decisions[0].record
    assert len(data) < 1000
    told = readable(data)
    assert told["need"] == {
        "application": "app", "component": "part", "count": 10, "cause": "initial",
        "replaces": (), "avoid": (), "node": "",
    }  # fmt: skip
    assert isinstance(told["choices"], list)
    assert told["choices"][0]["node"] == "n0"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="decision record"):
        decode_record(data)

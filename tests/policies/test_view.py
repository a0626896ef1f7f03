"""What policies see: columns that refuse writes, node views that follow them, replicas in order."""

from __future__ import annotations

import numpy as np
import pytest

from shoal.descriptions.messages.reported import MechanismReport
from shoal.policies.node_table import COLUMNS
from shoal.policies.reading import NoMetrics
from shoal.policies.view import LabelColumn, LinkFacts, MechanismOffer, NodeFacts, Replica, Replicas
from shoal.policies.worlds import GIB, Made, mixed, view_of


def test_columns_refuse_writes() -> None:
    nodes = mixed(5, NoMetrics()).view.nodes
    for name in COLUMNS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(nodes, name)[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            getattr(nodes.only(2), name)[0] = 1


def test_a_node_view_gives_the_row_in_plain_numbers() -> None:
    nodes = mixed(40, NoMetrics()).view.nodes
    for row, node in enumerate(nodes):
        assert node.name == nodes.names[row]
        assert node.row == row
        assert node.cpu_free * 1000 == nodes.cpu_millis_free[row]
        assert type(node.memory_bytes_free) is int
        assert node.memory_bytes_free == nodes.memory_bytes_free[row]
        assert node.siblings == nodes.siblings[row]
        assert node.accelerators_free("gpu") == nodes.accelerators("gpu")[row]
        assert node.labels.get("zone") == _value(nodes.label("zone"), row)
        assert nodes.only(row)[0].name == node.name
        assert nodes.only(row)[0].row == row


def _value(column: LabelColumn, row: int) -> str | None:
    code = int(column.codes[row])
    return None if code < 0 else column.values[code]


def test_what_is_not_described_is_none() -> None:
    bare = Made(NodeFacts("n", "edge"), (0, 0, 0), is_bare=True)
    (node,) = view_of([bare], NoMetrics(), replicas=0).nodes
    assert (node.energy_price_per_kwh, node.co2_g_per_kwh, node.location) == (None, None, None)


def test_node_views_follow_what_is_written_once_it_is_said() -> None:
    table = mixed(3, NoMetrics()).view.nodes
    before = table[0].replicas
    column = table.replicas.base
    assert isinstance(column, np.ndarray)
    column[0] += 5
    assert table[0].replicas == before
    table.moved()
    assert table[0].replicas == before + 5
    assert table.only(0)[0].replicas == before + 5


def test_the_view_finds_nodes_links_and_mechanisms() -> None:
    made = [
        Made(NodeFacts("a", "edge"), (1000, GIB, GIB), links=(LinkFacts("node:b", 0.01, 1e6),)),
        Made(NodeFacts("b", "edge"), (1000, GIB, GIB)),
    ]
    view = view_of(made, NoMetrics(), replicas=2)
    assert view.node("gone") is None
    assert view.node("b") is view.nodes[1]
    assert (view.rtt_s("a", "b"), view.bandwidth_bps("b", "a"), view.rtt_s("a", "gone")) == (0.01, 1e6, None)
    (offer,) = view.mechanisms("a")
    assert [verb.verb for verb in offer.options.verbs] == ["setFrequency"]
    assert view.mechanisms("gone") == ()
    assert [one.node for one in view.replicas_of("classify")] == ["a"]
    assert view.reading("anything") is None


def test_a_report_that_cannot_be_read_offers_nothing_and_says_so() -> None:
    view = mixed(1, NoMetrics()).view
    broken = type(view)(
        **{
            **{name: getattr(view, name) for name in view.__struct_fields__},
            "reports": {"n": (MechanismReport("cpufreq", options="{"),)},
        }
    )
    (offer,) = broken.mechanisms("n")
    assert isinstance(offer, MechanismOffer)
    assert offer.options.reason.startswith("its report can't be read")


def test_replicas_keep_the_order_of_ids_and_a_log_of_changes() -> None:
    replicas = Replicas()
    second, first = (Replica(f"a.p.{at}", "a", "p", "n", 0, True) for at in (2, 1))
    for one in (second, first):
        replicas.insert(one)
    decided = Replica("", "a", "p", "n", 0, False)
    replicas.add(decided)
    replicas.add(decided)
    assert replicas.of("a", "p") == [first, second, decided, decided]
    replicas.take_back(decided)
    assert replicas.remove("a", "p", "a.p.1") == first
    assert replicas.remove("a", "p", "a.p.1") is None
    assert replicas.of("a", "p") == [second, decided]
    assert replicas.all() == replicas.of_application("a") == [second, decided]
    assert [is_added for is_added, _ in replicas.log] == [True, True, True, True, False, False]

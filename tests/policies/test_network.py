"""Links: the most specific counts, both ends agree, and what nobody describes is not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.policies.reading import NoMetrics
from shoal.policies.view import LinkFacts, Network, NodeFacts
from shoal.policies.worlds import Made, view_of

NAN = float("nan")


def network(*nodes: tuple[str, str, str, tuple[LinkFacts, ...]]) -> Network:
    """Nodes as name, layer, cluster and links."""
    made = [Made(NodeFacts(name, layer, cluster), (1000, 1, 1), links=links) for name, layer, cluster, links in nodes]
    return view_of(made, NoMetrics(), replicas=0).network


def test_the_most_specific_link_counts_for_each_quality() -> None:
    links = (
        LinkFacts("*", 0.1, 1e6),
        LinkFacts("layer:edge", 0.05),
        LinkFacts("cluster:x", 0.02),
        LinkFacts("node:c", 0.01),
    )
    net = network(
        ("a", "cloud", "", links),
        ("b", "edge", "", ()),
        ("c", "edge", "x", ()),
        ("d", "edge", "x", ()),
        ("e", "cloud", "", ()),
    )
    assert [net.rtt_s(0, row) for row in range(5)] == [0.0, 0.05, 0.01, 0.02, 0.1]
    assert [net.bandwidth_bps(0, row) for row in range(1, 5)] == [1e6] * 4


def test_either_end_may_describe_it_and_the_worse_of_equals_counts() -> None:
    net = network(
        ("a", "edge", "", (LinkFacts("node:b", 0.01, 1e6),)),
        ("b", "edge", "", (LinkFacts("node:a", 0.03, 1e3), LinkFacts("*", 9.0))),
        ("c", "edge", "", ()),
    )
    assert (net.rtt_s(0, 1), net.bandwidth_bps(0, 1)) == (0.03, 1e3)
    assert (net.rtt_s(2, 1), net.bandwidth_bps(2, 1)) == (9.0, None)
    assert net.rtt_s(0, 2) is None


def test_of_two_links_to_the_same_end_the_first_counts() -> None:
    net = network(("a", "edge", "", (LinkFacts("*", 0.01), LinkFacts("*", 0.5))), ("b", "edge", "", ()))
    assert net.rtt_s(0, 1) == 0.01


ENDS = ["*", "layer:edge", "layer:cloud", "cluster:x", "cluster:nobody", "node:n0", "node:n2", "node:gone"]
qualities = {"rtt_s": st.sampled_from([NAN, 0.001, 0.01, 0.1]), "bandwidth_bps": st.sampled_from([NAN, 1e3, 1e9])}
links = st.lists(st.builds(LinkFacts, st.sampled_from(ENDS), **qualities), max_size=4).map(tuple)
drawn_nodes = st.tuples(st.sampled_from(["edge", "cloud"]), st.sampled_from(["", "x"]), links)


@given(
    st.lists(st.tuples(st.sampled_from(["edge", "cloud"]), st.sampled_from(["", "x"]), links), min_size=1, max_size=5)
)
def test_every_pair_has_one_value_from_both_ends(drawn: list[tuple[str, str, tuple[LinkFacts, ...]]]) -> None:
    net = network(*[(f"n{at}", layer, cluster, own) for at, (layer, cluster, own) in enumerate(drawn)])
    for a in range(len(drawn)):
        reach = net.reach(a)
        for b in range(len(drawn)):
            assert net.rtt_s(a, b) == net.rtt_s(b, a)
            assert net.bandwidth_bps(a, b) == net.bandwidth_bps(b, a)
            there = float(reach.rtt_s[b])
            assert (net.rtt_s(a, b) is None) == (there != there)

"""The simulated wire: what arrives, in what order, and who notices what when something breaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.sim.broker import IN_FLIGHT_MAX, QUEUE_MAX
from shoal.sim.network import Quality
from shoal.sim.topic_tree import TopicTree

from .wire_world import Wire

FILTERS = [
    pytest.param("a/b", "a/b", True, id="same"),
    pytest.param("a/+", "a/b", True, id="one level"),
    pytest.param("a/+", "a/b/c", False, id="one level is one"),
    pytest.param("a/#", "a/b/c", True, id="all below"),
    pytest.param("a/#", "a", True, id="and the level itself"),
    pytest.param("+/up/#", "n1/up/hb", True, id="both"),
    pytest.param("+/up/#", "n1/down/hb", False, id="other branch"),
    pytest.param("a/b/c", "a/b", False, id="shorter"),
    pytest.param("#", "a/b", True, id="everything"),
]


@pytest.mark.parametrize(("topic_filter", "topic", "expected"), FILTERS)
def test_filters(topic_filter: str, topic: str, expected: bool) -> None:
    subscriptions: TopicTree[str] = TopicTree()
    subscriptions.put(topic_filter, "x")
    assert (subscriptions.hearing(topic) == ["x"]) is expected
    topics: TopicTree[str] = TopicTree()
    topics.put(topic, "x")
    assert (topics.covered(topic_filter) == ["x"]) is expected


LEVEL = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTER = st.tuples(st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4), st.booleans()).map(
    lambda made: "/".join([*made[0], "#"] if made[1] else made[0])
)


def covers(topic_filter: str, topic: str) -> bool:
    """The rule, level by level, as the standard has it."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        return len(given) >= len(wanted) - 1 and all(w in ("+", g) for w, g in zip(wanted[:-1], given, strict=False))
    return len(wanted) == len(given) and all(w in ("+", g) for w, g in zip(wanted, given, strict=True))


@given(st.lists(FILTER, max_size=8), st.lists(TOPIC, max_size=8), st.data())
def test_trees_find_what_the_rule_says(filters: list[str], topics: list[str], data: st.DataObject) -> None:
    heard: TopicTree[str] = TopicTree()
    numbers = [heard.put(one, one) for one in filters]
    kept: TopicTree[str] = TopicTree()
    for topic in topics:
        kept.put(topic, topic)
    for topic in topics:
        assert heard.hearing(topic) == [one for one in filters if covers(one, topic)]
    for one in filters:
        assert kept.covered(one) == [topic for topic in topics if covers(one, topic)]
    if filters:
        gone = data.draw(st.integers(0, len(filters) - 1))
        heard.remove(filters[gone], numbers[gone])
        left = filters[:gone] + filters[gone + 1 :]
        for topic in topics:
            assert heard.hearing(topic) == [one for one in left if covers(one, topic)]


def test_publications_arrive_in_order_and_are_acknowledged() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    _, reader = wire.client("b", "t/#")
    wire.run(1.0)
    done: list[bool] = []
    for index in range(50):
        assert sender.publish(f"t/{index % 2}", str(index).encode(), index % 2, done=done.append)
    wire.run(5.0)
    assert [int(message.payload) for message in reader.messages if message.qos == 1] == list(range(1, 50, 2))
    assert [int(message.payload) for message in reader.messages if message.qos == 0] == list(range(0, 50, 2))
    assert done == [True] * 50


def test_retained_messages_wait_for_readers_and_are_cleared_by_empty_ones() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    wire.run(1.0)
    sender.publish("t/keep", b"1", 1, retain=True)
    sender.publish("t/gone", b"1", 1, retain=True)
    sender.publish("t/gone", b"", 1, retain=True)
    wire.run(1.0)
    _, reader = wire.client("b", "t/#")
    wire.run(1.0)
    assert reader.texts == ["t/keep=1"]
    assert reader.messages[0].retain


def test_a_farewell_drops_the_will_and_a_kill_publishes_it() -> None:
    wire = Wire()
    _, reader = wire.client("watch", "state/#")
    polite, _ = wire.client("polite")
    killed, _ = wire.client("killed")
    wire.run(1.0)
    polite.stop(gracefully=True)
    killed.stop(gracefully=False)
    wire.run(1.0)
    assert [text for text in reader.texts if "gone" in text] == [f"state/killed=gone {killed.session}"]


def test_a_power_cut_is_noticed_by_the_keepalive_alone() -> None:
    wire = Wire()
    _, reader = wire.client("watch", "state/#")
    victim, _ = wire.client("victim")
    wire.run(1.0)
    victim.stop(gracefully=False, power_lost=True)
    wire.run(40.0)
    assert not any("gone" in text for text in reader.texts)
    wire.run(10.0)
    assert any("gone" in text for text in reader.texts)


def test_a_clean_session_forgets_and_a_kept_one_queues_up_to_its_limit() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    kept, reader = wire.client("kept", "t/#", clean=False)
    clean, forgetful = wire.client("clean", "t/#")
    wire.run(1.0)
    for link in (kept, clean):
        link.stop(gracefully=True)
    wire.run(1.0)
    for index in range(QUEUE_MAX + 5):
        wire.run(0.05)
        assert sender.publish("t/x", str(index).encode(), 1)
    wire.run(5.0)
    kept.start()
    clean.start()
    wire.run(30.0)
    assert [int(message.payload) for message in reader.messages] == list(range(QUEUE_MAX))
    assert wire.broker.dropped == 5
    assert forgetful.messages == []


def test_only_so_many_are_in_flight_to_a_client_that_does_not_acknowledge() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    _, slow = wire.client("slow", "t/#", acks=False)
    wire.run(1.0)
    for index in range(IN_FLIGHT_MAX + 10):
        sender.publish("t/x", str(index).encode(), 1)
    wire.run(5.0)
    assert len(slow.messages) == IN_FLIGHT_MAX
    slow.messages[0].ack()
    wire.run(1.0)
    assert len(slow.messages) == IN_FLIGHT_MAX + 1


def test_what_was_not_acknowledged_comes_again_after_a_reconnect() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    slow, reader = wire.client("slow", "t/#", clean=False, acks=False)
    wire.run(1.0)
    sender.publish("t/x", b"1", 1)
    wire.run(1.0)
    slow.stop(gracefully=False)
    slow.start()
    wire.run(5.0)
    assert reader.texts == ["t/x=1", "t/x=1"]


def test_a_second_client_of_the_same_name_takes_over() -> None:
    wire = Wire()
    _, watch = wire.client("watch", "state/#")
    _, first = wire.client("twin")
    wire.run(1.0)
    _, second = wire.client("twin")
    wire.run(0.5)
    assert first.states == ["up", "down: the connection was closed"]
    assert second.states == ["up"]
    assert any("gone" in text for text in watch.texts)


@pytest.mark.parametrize(
    ("up", "down"),
    [pytest.param(True, True, id="both"), pytest.param(True, False, id="up"), pytest.param(False, True, id="down")],
)
def test_a_partition_ends_the_connection_on_both_sides_and_heals(up: bool, down: bool) -> None:
    wire = Wire()
    _, watch = wire.client("watch", "state/#")
    cut, owner = wire.client("cut", "t/#")
    wire.run(1.0)
    wire.network.block("cut", up=up, down=down)
    cut.publish("t/x", b"1")
    wire.run(60.0)
    assert owner.states == ["up", "down: no progress for 20 s"]
    assert any("gone" in text for text in watch.texts)
    wire.network.block("cut", up=False, down=False)
    wire.run(90.0)
    assert owner.states[-1] == "up"


def test_a_short_partition_is_only_a_delay() -> None:
    wire = Wire()
    cut, owner = wire.client("cut", "t/#")
    wire.run(1.0)
    wire.network.block("cut", up=True, down=True)
    cut.publish("t/x", b"1", 1)
    wire.run(10.0)
    assert owner.messages == []
    wire.network.block("cut", up=False, down=False)
    wire.run(1.0)
    assert owner.texts == ["t/x=1"]
    wire.run(60.0)
    assert owner.states == ["up"]


def test_loss_takes_qos_0_and_delays_qos_1() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    _, reader = wire.client("b", "t/#")
    wire.run(1.0)
    wire.network.path("a").up.quality = Quality(loss=0.3)
    for index in range(100):
        wire.run(1.0)
        sender.publish("t/0", str(index).encode())
        sender.publish("t/1", str(index).encode(), 1)
    wire.run(120.0)
    loose = [int(message.payload) for message in reader.messages if message.topic == "t/0"]
    firm = [int(message.payload) for message in reader.messages if message.topic == "t/1"]
    assert 50 < len(loose) < 90
    assert firm == list(range(100))


def test_duplicates_and_reordering_do_what_their_names_say() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    _, reader = wire.client("b", "t/#")
    wire.run(1.0)
    wire.network.path("b").down.quality = Quality(duplicate=0.3, reorder=0.3)
    for index in range(100):
        wire.run(0.1)
        sender.publish("t/1", str(index).encode(), 1)
    wire.run(60.0)
    seen = [int(message.payload) for message in reader.messages]
    assert sorted(set(seen)) == list(range(100))
    assert len(seen) > 110
    assert seen != sorted(seen)


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        pytest.param("kept", ["t/x=2"], id="kept"),
        pytest.param("rolledBack", ["t/x=1"], id="rolled back"),
        pytest.param("wiped", [], id="wiped"),
    ],
)
def test_a_broker_restart_keeps_what_it_keeps(store: str, expected: list[str]) -> None:
    wire = Wire(save_s=100.0)
    sender, owner = wire.client("a")
    wire.run(1.0)
    sender.publish("t/x", b"1", 1, retain=True)
    wire.run(150.0)
    sender.publish("t/other", b"", 1, retain=True)  # a change after the interval: the store is written
    wire.run(1.0)
    sender.publish("t/x", b"2", 1, retain=True)
    wire.run(1.0)
    wire.broker.stop()
    wire.run(30.0)
    assert owner.states[-1].startswith("down")
    wire.broker.start(store)
    wire.run(120.0)
    assert owner.states[-1] == "up"
    _, reader = wire.client("b", "t/#")
    wire.run(1.0)
    assert reader.texts == expected


def test_a_frozen_process_keeps_its_connection_until_the_keepalive_and_then_catches_up() -> None:
    wire = Wire()
    sender, _ = wire.client("a")
    frozen, owner = wire.client("frozen", "t/#")
    wire.run(1.0)
    frozen.freeze()
    sender.publish("t/x", b"1")
    wire.run(60.0)
    assert owner.messages == []
    frozen.thaw()
    assert owner.texts == ["t/x=1"]
    wire.run(90.0)
    assert owner.states == ["up", "down: the connection was closed", "up"]


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[str]:
        wire = Wire(seed)
        sender, _ = wire.client("a")
        _, reader = wire.client("b", "t/#")
        wire.run(1.0)
        wire.network.path("b").down.quality = Quality(duplicate=0.5, reorder=0.5)
        for index in range(30):
            sender.publish("t/1", str(index).encode(), 1)
        wire.run(60.0)
        return reader.texts

    assert run(3) == run(3)
    assert run(3) != run(4)

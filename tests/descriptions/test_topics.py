"""Topics: built and parsed in one place, and nothing else is a topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.descriptions.errors import ProtocolError
from shoal.descriptions.topics import (
    Topic,
    agent_subscriptions,
    control_plane_subscriptions,
    node_topic,
    parse_topic,
    shared_topic,
)


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        (node_topic("home", "u1", "up/hb"), Topic("home", "u1", "up/hb")),
        (node_topic("home", "u1", "up/ev/s1"), Topic("home", "u1", "up/ev/s1")),
        (shared_topic("home", "state"), Topic("home", "_", "state")),
        (shared_topic("home", "routes/digits"), Topic("home", "_", "routes/digits")),
    ],
)
def test_what_is_built_is_parsed(topic: str, parsed: Topic) -> None:
    assert parse_topic(topic) == parsed


NO_TOPICS = [
    "", "shoal", "shoal/1/home/u1", "shoal/2/home/u1/up", "other/1/home/u1/up/hb", "shoal/1//u1/up/hb",
    "shoal/1/home/u1/up/", "shoal/1/home/" + "u" * 600 + "/up/hb", "/shoal/1/home/u1/up",
]  # fmt: skip


@pytest.mark.parametrize("topic", NO_TOPICS)
def test_nothing_else_is_a_topic(topic: str) -> None:
    with pytest.raises(ProtocolError, match="not a topic of this protocol"):
        parse_topic(topic)


@given(st.text())
def test_any_text_is_a_topic_or_a_protocol_error(text: str) -> None:
    told = ""
    try:
        parse_topic(text)
    except ProtocolError as error:
        told = str(error)
    assert len(told) < 1000


def test_subscriptions() -> None:
    assert agent_subscriptions("home", "u1") == ("shoal/1/home/u1/down/#", "shoal/1/home/_/#")
    assert control_plane_subscriptions("home") == ("shoal/1/home/+/up/#", "shoal/1/home/_/canary")

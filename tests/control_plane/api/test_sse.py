"""Reading server-sent events out of bytes, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control_plane.api.sse import EVENT_BYTES_MAX, EventParser, ServerEvent
from shoal.descriptions.errors import ProtocolError

WHOLE = (
    b'retry: 1000\n\n: heartbeat\n\nid: 7\nevent: put\ndata: {"a":1}\n\n'
    b"event: put\r\ndata: x\r\ndata:y\r\n\r\ndata: \xc3\xa4\n\n"
)
EVENTS = [ServerEvent("put", '{"a":1}', "7"), ServerEvent("put", "x\ny", "7"), ServerEvent("message", "ä", "7")]


def test_comments_and_retries_are_no_events() -> None:
    assert list(EventParser().feed(WHOLE)) == EVENTS


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    parser = EventParser()
    found = [event for start, end in pairwise(places) for event in parser.feed(WHOLE[start:end])]
    assert found == EVENTS


@given(noise=st.binary(max_size=300))
def test_noise_is_survived(noise: bytes) -> None:
    parser = EventParser()
    list(parser.feed(noise + b"\n\n"))
    assert list(parser.feed(b"data: after\n\n"))[-1].data == "after"


@pytest.mark.parametrize("part", [b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"], ids=["one line", "many lines"])
def test_an_event_without_end_is_refused(part: bytes) -> None:
    parser = EventParser()
    parts = [part] * (EVENT_BYTES_MAX // 65536 + 2)
    with pytest.raises(ProtocolError, match="over"):
        [list(parser.feed(one)) for one in parts]

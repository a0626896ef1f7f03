"""Frames: what is packed comes back whole however the stream is cut, and nonsense is a `ProtocolError`."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.agents.inference.frames import (
    FIELDS_LEN_MAX,
    HEADER,
    MAGIC,
    FrameReader,
    FrameType,
    pack_fields,
    pack_header,
    unpack_fields,
    unpack_header,
)
from shoal.agents.inference.worker.channel import Channel
from shoal.descriptions.errors import ProtocolError

names = st.text(st.characters(codec="ascii", categories=("Ll", "Nd"), include_characters="-"), min_size=1, max_size=20)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
fields = st.dictionaries(st.builds(str.__add__, st.sampled_from(["", ":"]), names), values, max_size=6)
frames = st.tuples(st.sampled_from(FrameType), st.integers(0, 2**64 - 1), fields, st.binary(max_size=300))


def packed(frame: tuple[FrameType, int, dict[str, str], bytes]) -> bytes:
    frame_type, frame_id, named, body = frame
    text = pack_fields(named)
    return pack_header(frame_type, frame_id, len(text), len(body)) + text + body


def test_header_is_the_documented_32_bytes() -> None:
    header = pack_header(FrameType.INFER, 0x1122334455667788, 5, 7)
    assert header == b"SHW1" + struct.pack("<HHQIIQ", 3, 0, 0x1122334455667788, 5, 0, 7)
    assert len(header) == HEADER.size == 32


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 200), min_size=1))
def test_a_stream_cut_anywhere_gives_the_same_frames(
    sent: list[tuple[FrameType, int, dict[str, str], bytes]], cuts: list[int]
) -> None:
    stream = b"".join(packed(frame) for frame in sent)
    reader = FrameReader()
    seen = []
    at = 0
    for step in range(len(stream) + 1):
        part = stream[at : at + cuts[step % len(cuts)]]
        at += len(part)
        seen += reader.feed(part)
        if at >= len(stream):
            break
    assert [(frame.type, frame.id, unpack_fields(frame.fields), bytes(frame.body)) for frame in seen] == sent
    assert reader.pending == 0


def test_nonsense_is_a_protocol_error_or_too_short(count_case: Callable[[], None]) -> None:
    @given(st.binary(max_size=200), st.integers(1, 50))
    def check(data: bytes, step: int) -> None:
        count_case()
        reader = FrameReader()
        try:
            for at in range(0, len(data), step):
                assert reader.feed(data[at : at + step]) == []
        except ProtocolError:
            return
        assert len(data) < HEADER.size or data.startswith(b"SHW1")

    check()


@given(fields)
def test_fields_round_trip(named: dict[str, str]) -> None:
    assert unpack_fields(pack_fields(named)) == named


@given(st.binary(max_size=100))
def test_any_bytes_are_fields_or_a_protocol_error(data: bytes) -> None:
    try:
        named = unpack_fields(data)
    except ProtocolError:
        return
    assert all(isinstance(value, str) for value in named.values())


@pytest.mark.parametrize(
    ("header", "says"),
    [
        pytest.param(HEADER.pack(MAGIC + 1, 1, 0, 0, 0, 0, 0), "expected 0x31574853", id="magic"),
        pytest.param(HEADER.pack(MAGIC, 1, 1, 0, 0, 0, 0), "flags 0x1", id="flags"),
        pytest.param(HEADER.pack(MAGIC, 1, 0, 0, 0, 9, 0), "reserved 0x9", id="reserved"),
        pytest.param(HEADER.pack(MAGIC, 0, 0, 0, 0, 0, 0), "type 0 is unknown", id="type 0"),
        pytest.param(HEADER.pack(MAGIC, 11, 0, 0, 0, 0, 0), "type 11 is unknown", id="type 11"),
        pytest.param(HEADER.pack(MAGIC, 1, 0, 0, FIELDS_LEN_MAX + 1, 0, 0), "bytes of fields", id="fields"),
        pytest.param(HEADER.pack(MAGIC, 1, 0, 0, 0, 0, 2**64 - 1), "body of 18446744073709551615", id="body"),
    ],
)
def test_wrong_headers_are_named(header: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        unpack_header(header)


@pytest.mark.parametrize("name", ["", ":", "a:b", "a\nb"])
def test_fields_that_would_break_the_lines_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        pack_fields({name: "x"})
    with pytest.raises(ProtocolError):
        pack_fields({"a": "x\ny"})


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"a: b", "newline"), (b"a b\n", "name: value"), (b"\xff: b\n", "UTF-8"), (b"\n", "name: value")],
)
def test_wrong_fields_are_named(data: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        unpack_fields(data)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield Channel(left, body_len_max=4 << 20), right


def test_channel_reads_frames_larger_than_the_socket(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    body = bytes(range(256)) * 8192
    thread = threading.Thread(
        target=lambda: Channel(other).send(FrameType.INFER, 5, b"a: b\n", [body[:1000], body[1000:]])
    )
    thread.start()
    frame = channel.receive()
    thread.join()
    assert frame is not None
    assert (frame.type, frame.id, frame.fields, bytes(frame.body)) == (FrameType.INFER, 5, b"a: b\n", body)
    other.close()
    assert channel.receive() is None


def test_channel_keeps_what_came_ahead(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(packed((FrameType.PING, 1, {}, b"one")) + packed((FrameType.PING, 2, {"a": "b"}, b"two"))[:-1])
    first = channel.receive()
    assert first is not None
    assert bytes(first.body) == b"one"
    other.sendall(b"o")
    second = channel.receive()
    assert second is not None
    assert bytes(second.body) == b"two"


def test_channel_with_many_parts_joins_them(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    Channel(other).send(FrameType.RESULT, 1, b"", [b"%d" % (index % 10) for index in range(2000)])
    frame = channel.receive()
    assert frame is not None
    assert len(frame.body) == 2000


def test_channel_refuses_a_body_over_its_limit(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(pack_header(FrameType.INFER, 1, 0, (4 << 20) + 1))
    with pytest.raises(ProtocolError, match="over 4194304"):
        channel.receive()


def test_channel_ends_in_the_midst_of_a_frame(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(packed((FrameType.PING, 1, {}, b"one"))[:-1])
    other.close()
    assert channel.receive() is None


def test_reader_takes_a_large_body_in_small_pieces() -> None:
    body = bytes(range(256)) * 4096
    stream = packed((FrameType.RESULT, 1, {}, body))
    reader = FrameReader()
    seen = [frame for at in range(0, len(stream), 4096) for frame in reader.feed(stream[at : at + 4096])]
    assert [bytes(frame.body) for frame in seen] == [body]

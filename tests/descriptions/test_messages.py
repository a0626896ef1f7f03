"""Messages: each comes back from the wire equal, survives fields of a newer peer, and garbage is a ProtocolError."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions import mechanism, messages, signing
from shoal.descriptions.errors import ProtocolError
from shoal.descriptions.messages.codec import SIZE_MAX, Message, decode, encode
from shoal.descriptions.messages.desired import Desired, DesiredSpec, InferenceTask, ReplicaSpec, digest_of
from shoal.descriptions.messages.lease import Ack, Heartbeat, Lease
from shoal.descriptions.messages.reported import State


def message_types() -> list[type[Message]]:
    modules = [
        importlib.import_module(f"{messages.__name__}.{found.name}")
        for found in pkgutil.iter_modules(messages.__path__)
    ]
    found: set[type[Message]] = set()
    for module in (*modules, mechanism, signing):
        found |= {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Message)}
    return sorted(found - {Message}, key=lambda one: one.__qualname__)


MESSAGES = message_types()
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=10)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """What may stand for an annotation of a message's field."""
    limits: list[Any] = []
    if get_origin(annotation) is Annotated:
        annotation, *limits = get_args(annotation)
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if arguments:
        return st.one_of([values(one) for one in arguments])
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return instances(annotation)
    return scalars(annotation, limits[0] if limits else msgspec.Meta())


def scalars(annotation: Any, limit: msgspec.Meta) -> st.SearchStrategy[Any]:
    most = limit.le if limit.le is not None else limit.lt - 1 if limit.lt is not None else 2**63 - 1
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(CHARACTERS, min_size=limit.min_length or 0, max_size=min(limit.max_length or 10, 10)),
        bool: st.booleans(),
        int: st.integers(int(limit.ge or 0), int(most)),
        float: st.floats(limit.ge, allow_nan=False, allow_infinity=False),
        type(None): st.none(),
        msgspec.Raw: PLAIN.map(lambda value: msgspec.Raw(json.dumps(value).encode())),
    }
    return plain[annotation]


def instances(message: type[Message]) -> st.SearchStrategy[Message]:
    hints = get_type_hints(message, include_extras=True)
    return st.builds(message, **{name: values(hints[name]) for name in message.__struct_fields__})


def widened(value: Any, extra: str) -> Any:
    """The same JSON with a field more in every object, as a newer peer may send it."""
    if isinstance(value, dict):
        return {**{key: widened(inner, extra) for key, inner in value.items()}, extra: [None]}
    return [widened(inner, extra) for inner in value] if isinstance(value, list) else value


def has_free_mappings(message: type[Message]) -> bool:
    """Whether an added field could be taken for an entry of a mapping."""
    return any(
        "dict" in str(hint) or "Raw" in str(hint) for one in parts(message) for hint in get_type_hints(one).values()
    )


def parts(message: type[Message]) -> Iterator[type[Message]]:
    yield message
    for hint in get_type_hints(message).values():
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, Message):
                yield from parts(inner)


def test_every_message_is_found() -> None:
    names = {one.__name__ for one in MESSAGES}
    assert {
        "Desired",
        "Heartbeat",
        "Lease",
        "Reported",
        "EventBatch",
        "JoinReply",
        "Options",
        "Outcome",
        "Sealed",
    } <= names


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.__name__)
def test_a_message_comes_back_from_the_wire(message: type[Message], count_case: Callable[[], None]) -> None:
    @given(instances(message))
    @settings(max_examples=30)
    def goes_round(sent: Message) -> None:
        count_case()
        payload = encode(sent)
        payload.decode("utf-8")
        assert encode(decode(message, payload, 2**30)) == payload

    goes_round()


@pytest.mark.parametrize(
    "message", [one for one in MESSAGES if not has_free_mappings(one)], ids=lambda one: one.__name__
)
def test_fields_of_a_newer_peer_are_ignored(message: type[Message]) -> None:
    @given(instances(message))
    @settings(max_examples=20)
    def ignores(sent: Message) -> None:
        payload = json.dumps(widened(json.loads(encode(sent)), "fromTheFuture")).encode()
        assert encode(decode(message, payload, 2**30)) == encode(sent)

    ignores()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.__name__)
def test_garbage_is_a_protocol_error(message: type[Message], count_case: Callable[[], None]) -> None:
    @given(st.binary(max_size=60) | PLAIN.map(lambda value: json.dumps(value).encode()), instances(message), st.data())
    @settings(max_examples=40)
    def refused_or_read(garbage: bytes, sent: Message, data: st.DataObject) -> None:
        count_case()
        payload = encode(sent)
        at = data.draw(st.integers(0, len(payload)))
        for spoilt in (garbage, payload[:at] + garbage, payload[:at] + garbage + payload[at:]):
            told = ""
            try:
                decode(message, spoilt)
            except ProtocolError as error:
                told = str(error)
            assert len(told) < 500

    refused_or_read()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "Lease: Input data was truncated"),
        (b"[]", "Lease: Expected `object`, got `array`"),
        (b"{}", "Lease: Object missing required field `node`"),
        (b'{"node":1}', "Lease: Expected `str`, got `int` - at `$.node`"),
        (b"[" * 100_000, "Lease: Expected `object`, got `array`"),
        (b'{"node":"n","session":"s","seq":-1}', "Lease: Expected `int` >= 0 - at `$.seq`"),
        (b'{"node":"n","session":"s","seq":1e99}', "Lease: Expected `int`, got `float` - at `$.seq`"),
        (
            b'{"node":"n","session":"s","seq":18446744073709551616}',
            "Lease: Expected `int` <= 9223372036854775807 - at `$.seq`",
        ),
        (b'{"node":"n","session":"s","seq":1,"leaseS":-1}', "Lease: Expected `float` >= 0.0 - at `$.leaseS`"),
        (b'{"node":"n","session":"s","seq":1,"leaseS":1e999}', "Lease: Number out of range - at `$.leaseS`"),
        (b'{"node":"\xff"}', "Lease: 'utf-8' codec can't decode byte 0xff"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said(payload: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        decode(Lease, payload)
    assert str(raised.value).startswith(message)


def test_size_is_capped_before_anything_is_read() -> None:
    payload = encode(State(node="n" * SIZE_MAX, session="s", online=True))
    with pytest.raises(ProtocolError, match=f"State: {len(payload)} bytes, over the limit of {SIZE_MAX}"):
        decode(State, payload)


def test_a_deep_payload_in_an_unknown_field_is_refused() -> None:
    payload = b'{"stream":"s","upto":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    with pytest.raises(ProtocolError):
        decode(Ack, payload)


def test_the_wire_is_camel_case_without_defaults() -> None:
    assert (
        encode(Heartbeat(node="n", session="s", boot_id="b", seq=1))
        == b'{"node":"n","session":"s","bootId":"b","seq":1}'
    )


def test_a_digest_is_that_of_the_bytes_that_are_sent() -> None:
    task = InferenceTask(model="m", version="1", format="onnx")
    spec = DesiredSpec(replicas=(ReplicaSpec(id="a.b.0", application="a", component="b", revision=1, task=task),))
    desired = Desired(node="n", slice="s", epoch=1, generation=2, fence=3, digest=digest_of(spec), spec=spec)
    received = decode(Desired, encode(desired))
    assert received.spec is not None
    assert digest_of(received.spec) == received.digest

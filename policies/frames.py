"""What the planner and a policy process say to each other: length-prefixed msgpack frames over a socket pair.

Four bytes of length, little endian, then one frame. The planner speaks; `Load`, `Bind`, `Rate`, `RateRow` and `Adapt`
are answered, in order, by what is named beside them or by `Wrong`; everything else only tells. Numbers of nodes don't
travel: they are in shared memory (`shared_columns.py`). Nothing is ever pickled.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Literal, TypeVar

import msgspec

from ..descriptions.errors import ProtocolError
from .actions import Move, Scale
from .network import LinkFacts
from .node_view import Device, NodeFacts
from .reading import MetricUse, Statistic

FRAME_BYTES_MAX = 256 * 1024 * 1024
"""Of a frame to a policy process; an answer is held to what its question needs."""

_LENGTH = struct.Struct("<I")


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load the policy, anew if one is loaded; answered by `Loaded`. A `source` is run as the file `target`."""

    name: str
    target: str
    source: bytes | None = None


class Bind(msgspec.Struct, frozen=True, tag=True):
    """Make an instance with options (JSON, camelCase); answered by `Bound`."""

    binding: int
    options: str


class Nodes(msgspec.Struct, frozen=True, tag=True):
    """The nodes; their columns are in the shared memory that comes with this frame."""

    facts: tuple[NodeFacts, ...]
    links: tuple[tuple[LinkFacts, ...], ...]
    layers: tuple[str, ...]
    clusters: tuple[str, ...]
    datacenters: tuple[str, ...]
    accelerator_kinds: tuple[Device, ...]


class SliceTold(msgspec.Struct, frozen=True, tag=True):
    """The Slice, as JSON."""

    body: bytes


class ApplicationTold(msgspec.Struct, frozen=True, tag=True):
    """An Application, as JSON; what was told of it before no longer holds."""

    name: str
    body: bytes


class ReplicaRow(msgspec.Struct, frozen=True, array_like=True):
    """One replica, as `view.Replica`."""

    id: str
    application: str
    component: str
    node: str
    row: int
    is_ready: bool


class ReplicasTold(msgspec.Struct, frozen=True, tag=True):
    """Changes of the replicas, oldest first; all of them where `is_all`."""

    is_all: bool
    changes: tuple[tuple[bool, ReplicaRow], ...]


class ReadingRow(msgspec.Struct, frozen=True, array_like=True):
    """One reading, by what it was read for."""

    metric: str
    statistic: Statistic
    window_s: float
    node: str
    component: str
    value: float
    age_s: float
    samples: int


class ReadingsTold(msgspec.Struct, frozen=True, tag=True):
    """What the policy's metrics say for one application; earlier readings no longer hold."""

    readings: tuple[ReadingRow, ...]


class ReportRow(msgspec.Struct, frozen=True, array_like=True):
    """One mechanism of one node, as `MechanismReport`."""

    node: str
    name: str
    verbs: tuple[str, ...]
    options: str
    status: str


class ReportsTold(msgspec.Struct, frozen=True, tag=True):
    """The mechanisms of all nodes."""

    reports: tuple[ReportRow, ...]


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """What a view knows beside the slice."""

    now_s: float
    wall: str
    """RFC 3339."""
    seed: int
    application: str
    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


class Rate(msgspec.Struct, frozen=True, tag=True):
    """Filter and score; answered by `Rated`."""

    binding: int
    moment: Moment
    component: str
    asked: bytes
    """One byte a node, 1 where asked."""
    reasons: bool


class RateRow(msgspec.Struct, frozen=True, tag=True):
    """Filter and score one node again; answered by `RatedRow`."""

    binding: int
    moment: Moment
    component: str
    row: int


class Adapt(msgspec.Struct, frozen=True, tag=True):
    """Analyse and plan; answered by `Adapted`."""

    binding: int
    moment: Moment


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """What the policy is."""

    class_name: str
    version: str
    doc: str
    rescore: Literal["never", "row", "all"]
    is_placing: bool
    is_scoring: bool
    is_adapting: bool
    metrics: tuple[MetricUse, ...]
    operator_options: tuple[str, ...]
    """Fields that descriptions may not set."""
    options_schema: bytes
    """JSON Schema."""
    is_offline: bool = False
    """Whether the process has no network; only where the kernel allows it."""


class Bound(msgspec.Struct, frozen=True, tag=True):
    """The options fit."""


class Rated(msgspec.Struct, frozen=True, tag=True):
    """Scores as float64, refusals as one byte a node; None where the policy has no such hook."""

    scores: bytes | None
    refused: bytes | None
    reasons: tuple[tuple[int, str, str], ...] = ()
    """Row, reason, change; where reasons were asked for."""


class RatedRow(msgspec.Struct, frozen=True, tag=True):
    """One node."""

    score: float
    is_refused: bool


class SetRow(msgspec.Struct, frozen=True, array_like=True):
    """One `Set`, its arguments as JSON."""

    mechanism: str
    verb: str
    node: str
    target: str
    arguments: bytes
    application: str
    component: str
    reason: str


class Adapted(msgspec.Struct, frozen=True, tag=True):
    """What the policy wants done; `order` says from which list each next action comes."""

    moves: tuple[Move, ...]
    scales: tuple[Scale, ...]
    sets: tuple[SetRow, ...]
    order: str
    """One letter an action: m, s or t."""


class Wrong(msgspec.Struct, frozen=True, tag=True):
    """Why there is no answer: the options don't fit (`description`), or the policy broke its contract."""

    kind: Literal["description", "plugin"]
    message: str
    path: str | None = None
    expected: str | None = None
    nearest: str | None = None


Told = (
    Load
    | Bind
    | Nodes
    | SliceTold
    | ApplicationTold
    | ReplicasTold
    | ReadingsTold
    | ReportsTold
    | Rate
    | RateRow
    | Adapt
)
Answer = Loaded | Bound | Rated | RatedRow | Adapted | Wrong

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()
_TOLD: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def frame(message: Told | Answer) -> bytes:
    """One message as it is sent."""
    body = _ENCODER.encode(message)
    return _LENGTH.pack(len(body)) + body


def read_told(body: bytes) -> Told:
    """What the planner says."""
    return _decode(_TOLD, body)


def read_answer(body: bytes) -> Answer:
    """What a policy process says; `ProtocolError` for anything else."""
    return _decode(_ANSWER, body)


def receive(connection: socket.socket, bytes_max: int, end_s: float | None = None) -> bytes:
    """One frame's body, by `end_s` of the monotonic clock where it is given.

    Raises `EOFError` at the end, `TimeoutError` where the whole frame isn't there in time, and `ProtocolError` for one
    over `bytes_max`.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, end_s))
    if length > bytes_max:
        raise ProtocolError(f"a frame of {length} bytes, over the limit of {bytes_max}")
    return _exactly(connection, length, end_s)


def _exactly(connection: socket.socket, count: int, end_s: float | None) -> bytes:
    buffer = bytearray(count)
    view, at = memoryview(buffer), 0
    while at < count:
        if end_s is not None:  # anew each time, so that bytes that trickle in don't move the end
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
        read = connection.recv_into(view[at:])
        if not read:
            raise EOFError
        at += read
    return bytes(buffer)


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        message: T = decoder.decode(body)
        return message
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"policy frame: {error}") from None

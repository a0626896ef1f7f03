"""Telemetry batches on `up/tel/hi` and `up/tel/lo`: samples in columns, msgpack on the wire.

A series is described once in a session and is a number after that. Columns are little-endian arrays in one byte string
each, so that the control plane turns them into numpy arrays without touching single samples; the agent makes them with
`array`. `telemetry/encoding.py` writes batches, `telemetry/windows.py` reads them.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Literal

import msgspec

from ..errors import ProtocolError
from .codec import SIZE_MAX

VERSION = 1
SERIES_MAX = 4096
"""Series of one node; ids are below this."""
DEFINITIONS_MAX = 1024
"""Definitions in one batch."""
SAMPLES_MAX = 16_384
HISTOGRAMS_MAX = 256
BOUNDS_MAX = 128
ATTRIBUTES_MAX = 16
NAME_MAX = 255
VALUE_MAX = 255
OFFSET_MS_MAX = 3_600_000
"""A batch spans an hour at most."""

METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,254}\Z")
"""OpenTelemetry's instrument names, and Prometheus' for what applications bring along."""

Kind = Literal["gauge", "counter", "histogram"]
"""`counter` only grows, but for restarts; `histogram` counts by bucket and only grows as well."""
SeriesId = Annotated[int, msgspec.Meta(ge=0, lt=SERIES_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=VALUE_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class SeriesDefinition(msgspec.Struct, frozen=True, array_like=True):
    """What a series id stands for within the session."""

    id: SeriesId
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    unit: Annotated[str, msgspec.Meta(max_length=63)]
    """UCUM, as OpenTelemetry has it: `1`, `s`, `By`, `{request}`."""
    kind: Kind
    attributes: Annotated[dict[Text, Text], msgspec.Meta(max_length=ATTRIBUTES_MAX)] = {}
    bounds: Annotated[tuple[float, ...], msgspec.Meta(max_length=BOUNDS_MAX)] = ()
    """Upper bounds of a histogram's buckets, ascending; one more bucket is above the last."""


class HistogramPoint(msgspec.Struct, frozen=True, array_like=True):
    """A histogram at one moment, totals since its series began."""

    series: SeriesId
    offset_ms: Annotated[int, msgspec.Meta(ge=0, le=OFFSET_MS_MAX)]
    sum: float
    counts: Annotated[tuple[Count, ...], msgspec.Meta(max_length=BOUNDS_MAX + 1)]


class TelemetryBatch(msgspec.Struct, frozen=True, array_like=True):
    """The payload. Later versions append fields; receivers ignore what they don't know."""

    version: int
    session: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Of the agent's run: series ids and `base_ms` mean something only within it."""
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Counts batches of the session; a gap tells that batches were lost."""
    base_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """When the batch began, on a clock of the agent that never jumps (its zero means nothing)."""
    definitions: Annotated[tuple[SeriesDefinition, ...], msgspec.Meta(max_length=DEFINITIONS_MAX)] = ()
    series: bytes = b""
    """uint16, series id of each sample."""
    offsets_ms: bytes = b""
    """uint32, milliseconds after `base_ms`, of each sample."""
    values: bytes = b""
    """float64, of each sample."""
    histograms: Annotated[tuple[HistogramPoint, ...], msgspec.Meta(max_length=HISTOGRAMS_MAX)] = ()

    @property
    def samples(self) -> int:
        """How many samples the columns hold."""
        return len(self.series) // 2


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TelemetryBatch)


def encode_batch(batch: TelemetryBatch) -> bytes:
    """Bytes for the wire."""
    return _encoder.encode(batch)


def decode_batch(payload: bytes, size_max: int = SIZE_MAX) -> TelemetryBatch:
    """Parse and validate; `ProtocolError` says what is wrong. Values may still be NaN or out of range."""
    if len(payload) > size_max:
        raise ProtocolError(f"telemetry batch: {len(payload)} bytes, over the limit of {size_max}")
    try:
        batch = _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(f"telemetry batch: {error}") from None
    _check_columns(batch)
    for definition in batch.definitions:
        _check_definition(definition)
    return batch


def _check_columns(batch: TelemetryBatch) -> None:
    if batch.version < 1:
        raise ProtocolError(f"telemetry batch: version {batch.version}")
    count = batch.samples
    if count > SAMPLES_MAX or len(batch.series) != 2 * count:
        raise ProtocolError(f"telemetry batch: {len(batch.series)} bytes of series ids")
    if len(batch.offsets_ms) != 4 * count or len(batch.values) != 8 * count:
        raise ProtocolError("telemetry batch: columns of different lengths")


def _check_definition(definition: SeriesDefinition) -> None:
    if not METRIC_NAME.match(definition.name):
        raise ProtocolError(f"telemetry batch: metric name {definition.name[:64]!r}")
    bounds = definition.bounds
    ascending = all(math.isfinite(bound) for bound in bounds) and all(a < b for a, b in itertools.pairwise(bounds))
    if bool(bounds) != (definition.kind == "histogram") or not ascending:
        raise ProtocolError(f"telemetry batch: bounds of {definition.name} ({definition.kind})")

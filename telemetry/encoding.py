"""Samples to batches for the wire: series become numbers, samples become columns, sizes stay under the caps.

The agent's driver feeds it what the reader collected and hands the bytes to the outbox. A definition travels with the
first sample of its series and again every `redefine_every` batches, because a batch of QoS 0 may be lost; the control
plane may also ask for all of them at once (`redefine`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..descriptions.messages.telemetry import (
    DEFINITIONS_MAX,
    HISTOGRAMS_MAX,
    OFFSET_MS_MAX,
    SAMPLES_MAX,
    SERIES_MAX,
    VERSION,
    HistogramPoint,
    SeriesDefinition,
    TelemetryBatch,
    encode_batch,
)
from .metrics import AnySample, HistogramSample, Sample, Series

BATCH_BYTES = 48 * 1024
"""Aimed at, well under the payload cap: a lost batch loses little, and control never waits long behind one."""
SAMPLE_BYTES = 14
POINT_BYTES = 32


@dataclass
class BatchEncoder:
    """Encodes one session; make a new one when the agent starts."""

    session: str
    redefine_every: int = 20
    """Batches after which a definition is repeated."""
    refused: int = 0
    """Samples of series beyond the limit of a node."""
    _ids: dict[Series, int] = field(default_factory=dict)
    _defined_at: dict[int, int] = field(default_factory=dict)
    """Series id → number of the batch that carried its definition."""
    _seq: int = 0

    def redefine(self) -> None:
        """Send all definitions again with the next samples."""
        self._defined_at.clear()

    def encode(self, samples: Sequence[AnySample]) -> Iterator[bytes]:
        """Payloads that carry these samples, in order; none for no samples."""
        batch = _Columns()
        for sample in samples:
            series_id = self._ids.setdefault(sample.series, len(self._ids))
            if series_id >= SERIES_MAX:
                del self._ids[sample.series]
                self.refused += 1
                continue
            if not batch.fits(sample):
                yield self._finish(batch)
                batch = _Columns()
            batch.add(series_id, sample, self._definition(series_id, sample.series))
        if batch.times_s or batch.points:
            yield self._finish(batch)

    def _definition(self, series_id: int, series: Series) -> SeriesDefinition | None:
        defined = self._defined_at.get(series_id)
        if defined is not None and self._seq - defined < self.redefine_every:
            return None
        self._defined_at[series_id] = self._seq
        return SeriesDefinition(
            series_id, series.name, series.unit, series.kind, dict(series.attributes), series.bounds
        )

    def _finish(self, batch: _Columns) -> bytes:
        payload = encode_batch(batch.message(self.session, self._seq))
        self._seq += 1
        return payload


class _Columns:
    """A batch that is being filled."""

    def __init__(self) -> None:
        self.ids = array("H")
        self.times_s: list[float] = []
        self.values = array("d")
        self.points: list[tuple[int, HistogramSample]] = []
        self.definitions: list[SeriesDefinition] = []
        self.size = 0
        self.first_s = float("inf")
        self.last_s = float("-inf")

    def fits(self, sample: AnySample) -> bool:
        """Whether one more sample keeps the batch within its limits."""
        span_ms = (max(self.last_s, sample.time_s) - min(self.first_s, sample.time_s)) * 1000
        return (
            self.size < BATCH_BYTES
            and len(self.ids) < SAMPLES_MAX
            and len(self.points) < HISTOGRAMS_MAX
            and len(self.definitions) < DEFINITIONS_MAX
            and span_ms < OFFSET_MS_MAX
        )

    def add(self, series_id: int, sample: AnySample, definition: SeriesDefinition | None) -> None:
        """Append a sample, and the definition that it needs."""
        self.first_s, self.last_s = min(self.first_s, sample.time_s), max(self.last_s, sample.time_s)
        if definition is not None:
            self.definitions.append(definition)
            self.size += 16 + len(definition.name) + 9 * len(definition.bounds)
            self.size += sum(len(key) + len(value) for key, value in definition.attributes.items())
        if isinstance(sample, Sample):
            self.ids.append(series_id)
            self.times_s.append(sample.time_s)
            self.values.append(sample.value)
            self.size += SAMPLE_BYTES
        else:
            self.points.append((series_id, sample))
            self.size += POINT_BYTES + 2 * len(sample.counts)

    def message(self, session: str, seq: int) -> TelemetryBatch:
        """The batch with times as offsets from its earliest sample."""
        first_s = self.first_s
        offsets = array("I", (_ms(time_s - first_s) for time_s in self.times_s))
        return TelemetryBatch(
            VERSION,
            session,
            seq,
            _ms(first_s),
            tuple(self.definitions),
            _little_endian(self.ids),
            _little_endian(offsets),
            _little_endian(self.values),
            tuple(
                HistogramPoint(series_id, _ms(point.time_s - first_s), point.sum, point.counts)
                for series_id, point in self.points
            ),
        )


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _little_endian(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()

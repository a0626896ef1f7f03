"""Batches on the wire: what goes in comes out, within the caps; what isn't one is told as `ProtocolError`."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.errors import DescriptionError, ProtocolError
from shoal.descriptions.messages.codec import SIZE_MAX
from shoal.descriptions.messages.telemetry import (
    SERIES_MAX,
    SeriesDefinition,
    TelemetryBatch,
    decode_batch,
    encode_batch,
)
from shoal.telemetry.encoding import BATCH_BYTES, BatchEncoder
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample, Series, series

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_./:-]{0,20}", fullmatch=True)
attributes = st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4)
plain_series = st.builds(series, names, st.sampled_from(["gauge", "counter"]), st.just("1"), attributes)
histogram_series = st.builds(
    series, names, st.just("histogram"), st.just("ms"), attributes, st.just((1.0, 10.0, 100.0))
)
times = st.floats(0, 3000).map(lambda time_s: round(time_s, 3))
samples = st.one_of(
    st.builds(Sample, plain_series, times, st.floats(allow_nan=False)),
    st.builds(HistogramSample, histogram_series, times, st.floats(0, 1e9), st.tuples(*[st.integers(0, 2**40)] * 4)),
)


def decode_samples(payloads: list[bytes]) -> list[AnySample]:
    """Plain samples first, then histograms, as the columns have them."""
    defined: dict[int, Series] = {}
    found: list[AnySample] = []
    points: list[AnySample] = []
    for payload in payloads:
        batch = decode_batch(payload)
        for d in batch.definitions:
            defined[d.id] = Series(d.name, d.kind, d.unit, tuple(sorted(d.attributes.items())), d.bounds)
        ids = struct.unpack(f"<{batch.samples}H", batch.series)
        offsets = struct.unpack(f"<{batch.samples}I", batch.offsets_ms)
        values = struct.unpack(f"<{batch.samples}d", batch.values)
        for series_id, offset_ms, value in zip(ids, offsets, values, strict=True):
            found.append(Sample(defined[series_id], (batch.base_ms + offset_ms) / 1000, value))
        for point in batch.histograms:
            time_s = (batch.base_ms + point.offset_ms) / 1000
            points.append(HistogramSample(defined[point.series], time_s, point.sum, point.counts))
    return found + points


@settings(deadline=None)
@given(st.lists(samples, max_size=40))
def test_samples_survive_the_wire(given_samples: list[AnySample]) -> None:
    """Columns come before histograms; times are kept to the millisecond."""
    payloads = list(BatchEncoder("s").encode(given_samples))
    assert len(payloads) == bool(given_samples)
    expected = sorted(given_samples, key=lambda sample: isinstance(sample, HistogramSample))
    decoded = decode_samples(payloads)
    assert [contents(sample) for sample in decoded] == [contents(sample) for sample in expected]
    assert all(abs(a.time_s - b.time_s) < 0.0011 for a, b in zip(expected, decoded, strict=True))


def contents(sample: AnySample) -> tuple[object, ...]:
    if isinstance(sample, Sample):
        return sample.series, sample.value
    return sample.series, sample.sum, sample.counts


def test_many_samples_are_split_into_batches_of_bounded_size() -> None:
    many = [
        Sample(series(f"m{n % 500}", "gauge", "1", {"k": "v" * 100}), float(n // 500), float(n)) for n in range(20_000)
    ]
    payloads = list(BatchEncoder("s").encode(many))
    assert len(payloads) > 1
    assert max(map(len, payloads)) < BATCH_BYTES + 4096 < SIZE_MAX
    assert [s.value for s in decode_samples(payloads) if isinstance(s, Sample)] == [float(n) for n in range(20_000)]
    assert [decode_batch(payload).seq for payload in payloads] == list(range(len(payloads)))


def test_samples_far_apart_do_not_share_a_batch() -> None:
    gauge = series("m", "gauge", "1")
    payloads = list(BatchEncoder("s").encode([Sample(gauge, 0.0, 1.0), Sample(gauge, 10_000.0, 2.0)]))
    assert [(decode_batch(p).base_ms, decode_batch(p).samples) for p in payloads] == [(0, 1), (10_000_000, 1)]


def test_definitions_travel_first_then_now_and_then_and_when_asked() -> None:
    encoder = BatchEncoder("s", redefine_every=3)
    gauge = series("m", "gauge", "1")

    def has_definition() -> bool:
        (payload,) = encoder.encode([Sample(gauge, 0.0, 1.0)])
        return len(decode_batch(payload).definitions) == 1

    assert [has_definition() for _ in range(7)] == [True, False, False, True, False, False, True]
    assert not has_definition()
    encoder.redefine()
    assert has_definition()


def test_series_beyond_the_limit_are_refused_and_counted() -> None:
    encoder = BatchEncoder("s")
    many = [Sample(series(f"m{n}", "gauge", "1"), 0.0, 1.0) for n in range(SERIES_MAX + 10)]
    payloads = list(encoder.encode(many))
    assert sum(decode_batch(payload).samples for payload in payloads) == SERIES_MAX
    assert encoder.refused == 10
    assert len(list(encoder.encode(many[-1:]))) == 0
    assert len(list(encoder.encode(many[:1]))) == 1


@pytest.mark.parametrize(
    "batch",
    [
        TelemetryBatch(0, "s", 0, 0),
        TelemetryBatch(1, "s", 0, 0, series=b"\0"),
        TelemetryBatch(1, "s", 0, 0, series=b"\0\0", offsets_ms=b"\0\0\0\0"),
        TelemetryBatch(1, "s", 0, 0, series=b"\0\0" * 16_385, offsets_ms=b"\0" * 4 * 16_385, values=b""),
        TelemetryBatch(1, "", 0, 0),
        TelemetryBatch(1, "s", -1, 0),
        TelemetryBatch(1, "s", 0, 2**60),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(SERIES_MAX, "m", "1", "gauge"),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m m", "1", "gauge"),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "", "1", "gauge"),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "gauge", bounds=(1.0,)),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "histogram"),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "histogram", bounds=(2.0, 1.0)),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "histogram", bounds=(float("nan"),)),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "gauge", {str(n): "" for n in range(17)}),)),
        TelemetryBatch(1, "s", 0, 0, (SeriesDefinition(0, "m", "1", "gauge", {"k": "v" * 256}),)),
    ],
)
def test_batches_against_the_rules_are_refused(batch: TelemetryBatch) -> None:
    with pytest.raises(ProtocolError, match="telemetry batch"):
        decode_batch(encode_batch(batch))


def test_a_payload_over_the_cap_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        decode_batch(b"\x00" * (SIZE_MAX + 1))


def test_fields_of_a_later_version_are_ignored() -> None:
    known = msgspec.msgpack.decode(encode_batch(TelemetryBatch(2, "s", 7, 5)))
    assert decode_batch(msgspec.msgpack.encode([*known, "new", {"more": 1}])).seq == 7


VALID = next(
    iter(
        BatchEncoder("session").encode(
            [
                Sample(series("m", "gauge", "1", {"a": "b"}), 1.0, 2.0),
                HistogramSample(series("h", "histogram", "ms", None, (1.0, 2.0)), 1.5, 3.0, (1, 2, 3)),
            ]
        )
    )
)


@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=4)).map(
            lambda cut: VALID[: cut[0]] + cut[1] + VALID[cut[0] + len(cut[1]) :]
        ),
        st.integers(0, len(VALID)).map(lambda end: VALID[:end]),
    )
)
def test_hostile_bytes_are_a_batch_or_a_protocol_error(payload: bytes) -> None:
    """Anything else that is raised fails the test; what passes is within the limits."""
    try:
        batch = decode_batch(payload)
    except ProtocolError:
        return
    assert len(batch.values) == 8 * batch.samples
    assert len(batch.offsets_ms) == 4 * batch.samples


@pytest.mark.parametrize(
    ("name", "kind", "attributes", "bounds"),
    [
        ("1st", "gauge", {}, ()),
        ("m" * 256, "gauge", {}, ()),
        ("m", "gauge", {str(n): "" for n in range(17)}, ()),
        ("m", "gauge", {"k": "v" * 256}, ()),
        ("m", "gauge", {}, (1.0,)),
        ("m", "histogram", {}, ()),
        ("m", "histogram", {}, tuple(float(n) for n in range(129))),
    ],
)
def test_series_that_the_wire_could_not_carry_are_refused(
    name: str, kind: str, attributes: dict[str, str], bounds: tuple[float, ...]
) -> None:
    with pytest.raises(DescriptionError):
        series(name, kind, "1", attributes, bounds)  # type: ignore[arg-type]

"""The windows as Prometheus text, read back by Prometheus' own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shoal.telemetry.encoding import BatchEncoder
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample, series
from shoal.telemetry.prometheus import label_name, metric_name, windows_text
from shoal.telemetry.windows import Windows


def windows_of(node: str, *samples: AnySample, windows: Windows | None = None) -> Windows:
    windows = windows or Windows()
    for payload in BatchEncoder("s").encode(samples):
        windows.ingest(node, payload, 10.0)
    return windows


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_kind_in_its_form() -> None:
    windows = windows_of(
        "n1",
        Sample(series("system.cpu.utilization", "gauge", "1"), 10.0, 0.25),
        Sample(series("shoal.model.requests", "counter", "{request}", {"shoal.replica": 'a"b\\c\n'}), 10.0, 7.0),
        HistogramSample(series("shoal.model.latency", "histogram", "ms", None, (1.0, 2.5)), 10.0, 9.5, (1, 2, 3)),
    )
    windows_of("n2", Sample(series("system.cpu.utilization", "gauge", "1"), 10.0, 0.5), windows=windows)
    assert parsed(windows_text(windows, 10.0)) == {
        ("system_cpu_utilization_ratio", (("node", "n1"),)): 0.25,
        ("system_cpu_utilization_ratio", (("node", "n2"),)): 0.5,
        ("shoal_model_requests_total", (("node", "n1"), ("shoal_replica", 'a"b\\c\n'))): 7.0,
        ("shoal_model_latency_milliseconds_bucket", (("le", "1.0"), ("node", "n1"))): 1.0,
        ("shoal_model_latency_milliseconds_bucket", (("le", "2.5"), ("node", "n1"))): 3.0,
        ("shoal_model_latency_milliseconds_bucket", (("le", "+Inf"), ("node", "n1"))): 6.0,
        ("shoal_model_latency_milliseconds_count", (("node", "n1"),)): 6.0,
        ("shoal_model_latency_milliseconds_sum", (("node", "n1"),)): 9.5,
    }


def test_what_is_older_than_the_window_is_not_told() -> None:
    windows = windows_of("n1", Sample(series("m", "gauge", "1"), 10.0, 1.0))
    assert windows_text(windows, 310.0) != ""
    assert windows_text(windows, 310.1) == ""


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("system.memory.usage", "By", "gauge", "system_memory_usage_bytes"),
        ("process.cpu.time", "s", "counter", "process_cpu_time_seconds"),
        ("app/latency.ms-p50", "ms", "gauge", "app_latency_ms_p50_milliseconds"),
        ("uptime_seconds", "s", "gauge", "uptime_seconds"),
        ("errors_total", "1", "counter", "errors"),
        ("queue", "{item}", "gauge", "queue"),
    ],
)
def test_names(name: str, unit: str, kind: str, expected: str) -> None:
    assert metric_name(name, unit, kind) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("http.route", "http_route"), ("1st", "key_1st"), ("__x", "key___x"), ("", "key_"), ("é", "_")],
)
def test_labels(name: str, expected: str) -> None:
    assert label_name(name) == expected


names = st.from_regex(r"[a-z][a-z0-9_./:-]{0,8}", fullmatch=True)
attributes = st.dictionaries(st.text(max_size=5), st.text(st.characters(codec="utf-8"), max_size=5), max_size=3)
all_samples = st.lists(
    st.builds(
        lambda name, kind, unit, told, value: Sample(series(name, kind, unit, told), 10.0, value),
        names,
        st.sampled_from(["gauge", "counter"]),
        st.sampled_from(["1", "s", "By", ""]),
        attributes,
        st.floats(0, 1),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(all_samples)
def test_whatever_applications_name_it_the_text_is_valid(samples: list[AnySample]) -> None:
    text = windows_text(windows_of("n1", *samples), 10.0)
    assert all(math.isfinite(value) for value in parsed(text).values())

"""Rates and the reader under virtual time: what is measured when, and on which class it travels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.telemetry.metrics import AnySample, HistogramSample, Sample, series
from shoal.telemetry.rates import Rates, Schedule
from shoal.telemetry.reader import RateReader


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (Rates(15.0), 15.0),
        (Rates(15.0, {"system.": 5.0}), 5.0),
        (Rates(15.0, {"system.": 5.0, "system.cpu": 1.0}), 1.0),
        (Rates(15.0, {"system.cpu": 60.0}), 15.0),
        (Rates(15.0, {"shoal.": 1.0}), 15.0),
        (Rates(15.0, load_level=2), 60.0),
        (Rates(15.0, {"system.cpu": 5.0}, load_level=2), 5.0),
        (Rates(15.0, {"system.cpu": 0.0}), 0.1),
        (Rates(1e9), 3600.0),
    ],
    ids=["default", "prefix", "shortest", "never slower", "another's", "load", "load spares asked", "floor", "cap"],
)
def test_the_interval_of_system_cpu_utilization(rates: Rates, expected: float) -> None:
    assert rates.interval_s("system.cpu.utilization") == expected


def ticks(schedule: Schedule, name: str, until_s: float) -> list[float]:
    now_s, measured = 0.0, []
    while now_s <= until_s:
        if schedule.is_due(name, now_s):
            measured.append(now_s)
            schedule.measured(name, now_s)
        now_s = schedule.next_s(now_s)
    return measured


def test_measurements_fall_on_multiples_of_the_interval() -> None:
    schedule = Schedule(Rates(15.0))
    schedule.measured("m", 7.0)
    assert ticks(schedule, "m", 50.0)[1:] == [30.0, 45.0]


def test_a_fleet_started_at_once_is_spread_by_phase() -> None:
    schedule = Schedule(Rates(10.0), phase=0.3)
    schedule.measured("m", 0.0)
    assert schedule.due_s("m") == pytest.approx(3.0)
    schedule.measured("m", 3.0)
    assert schedule.due_s("m") == pytest.approx(13.0)


@given(interval_s=st.floats(0.1, 3600), phase=st.floats(0, 1), start_s=st.floats(0, 1e6))
def test_the_next_tick_is_never_now_and_never_further_than_the_interval(
    interval_s: float, phase: float, start_s: float
) -> None:
    schedule = Schedule(Rates(interval_s), phase)
    schedule.measured("m", start_s)
    for _ in range(5):
        last_s = start_s
        start_s = schedule.due_s("m")
        assert last_s < start_s <= last_s + interval_s * 1.001 + 1e-6
        schedule.measured("m", start_s)


class Counting:
    """An instrument that says how often it was asked."""

    def __init__(self, reader: RateReader, name: str) -> None:
        self.asked = 0
        self.name = name
        reader.observe("gauge", name, "1", self.read)

    def read(self) -> Iterable[tuple[float, dict[str, str]]]:
        self.asked += 1
        return [(float(self.asked), {})]


def test_only_what_is_due_is_asked_and_rates_follow_policies() -> None:
    reader = RateReader(Rates(15.0))
    cpu, disk = Counting(reader, "system.cpu.utilization"), Counting(reader, "system.disk.io")
    first = reader.collect_due(0.0)
    assert {sample.series.name for sample in first.low} == {cpu.name, disk.name}
    assert first.high == ()

    reader.rates = Rates(15.0, {"system.cpu": 1.0})
    assert reader.next_s(0.0) == 1.0
    now_s = 0.0
    while now_s < 10.0:
        now_s = reader.next_s(now_s)
        collected = reader.collect_due(now_s)
        assert [sample.series.name for sample in collected.high] == [cpu.name]
        assert collected.low == ()
    assert (cpu.asked, disk.asked) == (11, 1)

    reader.rates = Rates(15.0)
    assert reader.next_s(now_s) == 15.0
    collected = reader.collect_due(15.0)
    assert {sample.series.name for sample in collected.low} == {cpu.name, disk.name}
    assert (cpu.asked, disk.asked) == (12, 2)


def test_kinds_units_and_attributes_of_instruments() -> None:
    reader = RateReader()
    reader.observe("counter", "system.network.io", "By", lambda: [(5.0, {"b": "2", "a": "1"})])
    requests = reader.meter.create_counter("requests", "{request}")
    requests.add(2, {"route": "/"})
    requests.add(3, {"route": "/"})
    reader.meter.create_up_down_counter("sessions").add(-2)
    latency = reader.meter.create_histogram("latency", "ms", explicit_bucket_boundaries_advisory=[10.0, 100.0])
    for taken_ms in (5.0, 50.0, 60.0, 500.0):
        latency.record(taken_ms)
    found = {sample.series.name: sample for sample in reader.collect_due(9.0).low}
    assert found["system.network.io"] == Sample(
        series("system.network.io", "counter", "By", {"a": "1", "b": "2"}), 9.0, 5.0
    )
    assert found["requests"] == Sample(series("requests", "counter", "{request}", {"route": "/"}), 9.0, 5.0)
    assert found["sessions"] == Sample(series("sessions", "gauge", ""), 9.0, -2.0)
    assert found["latency"] == HistogramSample(
        series("latency", "histogram", "ms", None, [10.0, 100.0]), 9.0, 615.0, (1, 2, 1)
    )


def test_producers_are_asked_for_what_is_due() -> None:
    class Fixed:
        def produce(self, now_s: float, is_due: Callable[[str], bool]) -> Iterator[AnySample]:
            for name in ("p.fast", "p.slow"):
                if is_due(name):
                    yield Sample(series(name, "gauge", "1"), now_s, 1.0)

    reader = RateReader(Rates(10.0, {"p.fast": 1.0}))
    reader.add_producer(Fixed())
    reader.collect_due(0.0)
    collected = reader.collect_due(1.0)
    assert [sample.series.name for sample in collected.high] == ["p.fast"]
    assert collected.low == ()


def test_with_nothing_known_the_reader_looks_again_after_the_default_interval() -> None:
    reader = RateReader(Rates(15.0))
    assert reader.collect_due(100.0).low == ()
    assert reader.next_s(100.0) == 115.0


def test_two_readers_do_not_meet() -> None:
    one, other = RateReader(), RateReader()
    one.observe("gauge", "m", "1", lambda: [(1.0, {})])
    assert len(one.collect_due(0.0).low) == 1
    assert other.collect_due(0.0).low == ()

"""From payloads to statistics: what is kept, what is dropped and how that is counted, and whose clock it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.errors import ProtocolError
from shoal.telemetry.encoding import BatchEncoder
from shoal.telemetry.metrics import AnySample, HistogramSample, Sample, Series, series
from shoal.telemetry.window_query import Moment, Query, query
from shoal.telemetry.windows import Windows

CPU = series("system.cpu.utilization", "gauge", "1")
QUEUE = series("shoal.model.queue", "gauge", "{request}")
REQUESTS = series("shoal.model.requests", "counter", "{request}")
LATENCY = series("shoal.model.latency", "histogram", "ms", None, (10.0, 20.0, 40.0))


def of(component: str, base: Series = REQUESTS, replica: str = "0") -> Series:
    application, name = component.split(".")
    where = {"shoal.application": application, "shoal.component": name, "shoal.replica": f"{component}.{replica}"}
    return series(base.name, base.kind, base.unit, where, base.bounds)


class Node:
    """An agent's encoder with a clock that is `ahead_s` of ours."""

    def __init__(self, windows: Windows, name: str, ahead_s: float = 0.0, session: str = "run-1") -> None:
        self.windows, self.name, self.ahead_s = windows, name, ahead_s
        self.encoder = BatchEncoder(session)

    def payloads(self, *samples: AnySample) -> list[bytes]:
        moved: list[AnySample] = [
            Sample(s.series, s.time_s + self.ahead_s, s.value)
            if isinstance(s, Sample)
            else HistogramSample(s.series, s.time_s + self.ahead_s, s.sum, s.counts)
            for s in samples
        ]
        return list(self.encoder.encode(moved))

    def send(self, now_s: float, *samples: AnySample) -> int:
        return sum(self.windows.ingest(self.name, payload, now_s) for payload in self.payloads(*samples))


def value(windows: Windows, question: Query, now_s: float) -> float | None:
    rows = query(windows, question, now_s)
    assert len(rows) <= 1
    return rows[0].value if rows else None


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("last", 0.9), ("mean", 0.5), ("min", 0.1), ("max", 0.9), ("p50", 0.5), ("p95", 0.86), ("rate", 0.02)],
)
def test_statistics_of_a_gauge(statistic: str, expected: float) -> None:
    windows = Windows()
    Node(windows, "n1").send(140.0, *(Sample(CPU, 100.0 + 10 * n, 0.1 + 0.2 * n) for n in range(5)))
    found = query(windows, Query(CPU.name, statistic, 60.0, "n1"), 142.0)  # type: ignore[arg-type]
    assert found[0].value == pytest.approx(expected)
    assert (found[0].samples, found[0].age_s, found[0].unit) == (5, 2.0, "1")


def test_only_the_window_counts() -> None:
    windows = Windows()
    Node(windows, "n1").send(140.0, *(Sample(CPU, 100.0 + 10 * n, 0.1 * n) for n in range(5)))
    assert value(windows, Query(CPU.name, "mean", 20.0), 140.0) == pytest.approx(0.3)
    assert value(windows, Query(CPU.name, "mean", 5.0), 140.0) == pytest.approx(0.4)
    assert value(windows, Query(CPU.name, "mean", 5.0), 150.0) is None


def test_a_counter_is_read_by_its_growth_and_survives_restarts() -> None:
    windows = Windows()
    totals = [100, 110, 130, 5, 25]
    Node(windows, "n1").send(40.0, *(Sample(REQUESTS, 10.0 * n, float(total)) for n, total in enumerate(totals)))
    # 10 + 20 + 5 (restart) + 20 in 40 s
    assert value(windows, Query(REQUESTS.name, "rate", 60.0), 40.0) == pytest.approx(55 / 40)
    assert value(windows, Query(REQUESTS.name, "last", 60.0), 40.0) == 25
    assert value(windows, Query(REQUESTS.name, "max", 60.0), 40.0) == pytest.approx(2.0)
    # The window holds two samples; growth counts from the last one before it.
    assert value(windows, Query(REQUESTS.name, "rate", 15.0), 40.0) == pytest.approx(25 / 20)


def test_one_total_is_no_rate() -> None:
    windows = Windows()
    Node(windows, "n1").send(0.0, Sample(REQUESTS, 0.0, 1000.0))
    assert value(windows, Query(REQUESTS.name, "rate", 60.0), 0.0) is None


def test_rates_add_up_and_the_rest_describes_one() -> None:
    windows = Windows()
    for number, node in enumerate(("n1", "n2")):
        samples: list[AnySample] = []
        for replica in ("0", "1"):
            requests, queue = of("app.c", REQUESTS, replica), of("app.c", QUEUE, replica)
            samples += [Sample(requests, 0.0, 0.0), Sample(requests, 10.0, 50.0), Sample(queue, 10.0, 4.0 + number)]
        Node(windows, node).send(10.0, *samples)
    everywhere = Query(REQUESTS.name, "rate", 60.0, component="app.c")
    assert value(windows, everywhere, 10.0) == pytest.approx(20.0)
    assert value(windows, Query(QUEUE.name, "last", 60.0, component="app.c"), 10.0) == pytest.approx(4.5)
    assert value(windows, Query(REQUESTS.name, "rate", 60.0, node="n2", component="app.c"), 10.0) == pytest.approx(10.0)
    assert value(windows, Query(REQUESTS.name, "rate", 60.0, component="app.other"), 10.0) is None
    by_node = query(windows, Query(REQUESTS.name, "rate", 60.0, by="node"), 10.0)
    assert [(row.node, row.value, row.series) for row in by_node] == [("n1", 10.0, 2), ("n2", 10.0, 2)]
    by_replica = query(windows, Query(REQUESTS.name, "rate", 60.0, by="replica", application="app"), 10.0)
    assert [(row.node, row.replica) for row in by_replica] == [
        (node, f"app.c.{replica}") for node in ("n1", "n2") for replica in ("0", "1")
    ]
    by_series = query(windows, Query("shoal.model.*", "last", 60.0, node="n1", by="series"), 10.0)
    assert [row.metric for row in by_series] == [QUEUE.name] * 2 + [REQUESTS.name] * 2


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("rate", 1.0), ("mean", 15.0), ("p50", 10.0), ("p95", 19.0), ("p99", 19.8), ("min", 0.0), ("max", 20.0)],
)
def test_statistics_of_a_histogram_are_over_what_the_window_gained(statistic: str, expected: float) -> None:
    windows = Windows()
    points = [
        HistogramSample(LATENCY, 0.0, 5000.0, (0, 0, 100, 0)),
        HistogramSample(LATENCY, 10.0, 5150.0, (5, 5, 100, 0)),
        HistogramSample(LATENCY, 20.0, 5300.0, (10, 10, 100, 0)),
    ]
    Node(windows, "n1").send(20.0, *points)
    found = value(windows, Query(LATENCY.name, statistic, 60.0), 20.0)  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


def test_a_histogram_that_restarts_or_stands_still() -> None:
    windows = Windows()
    node = Node(windows, "n1")
    node.send(
        10.0, HistogramSample(LATENCY, 0.0, 900.0, (0, 0, 30, 0)), HistogramSample(LATENCY, 10.0, 900.0, (0, 0, 30, 0))
    )
    assert value(windows, Query(LATENCY.name, "p95", 60.0), 10.0) is None
    assert value(windows, Query(LATENCY.name, "rate", 60.0), 10.0) == 0.0
    node.send(20.0, HistogramSample(LATENCY, 20.0, 50.0, (10, 0, 0, 0)))
    assert value(windows, Query(LATENCY.name, "mean", 60.0), 20.0) == pytest.approx(5.0)
    assert value(windows, Query(LATENCY.name, "rate", 60.0), 20.0) == pytest.approx(0.5)


@pytest.mark.parametrize("ahead_s", [1e9, 3600.0, 0.0], ids=["30 years ahead", "an hour ahead", "right"])
def test_the_nodes_clock_moves_nothing(ahead_s: float) -> None:
    windows = Windows()
    node = Node(windows, "n1", ahead_s)
    node.send(100.0, Sample(CPU, 90.0, 0.1), Sample(CPU, 100.0, 0.2))
    (row,) = query(windows, Query(CPU.name, "last", 60.0), 103.0)
    assert row.value == 0.2
    assert row.age_s == pytest.approx(3.0)
    assert value(windows, Query(CPU.name, "rate", 60.0), 103.0) == pytest.approx(0.01)


def test_what_was_spooled_is_as_old_as_it_is() -> None:
    windows = Windows(window_s=300.0)
    node = Node(windows, "n1", ahead_s=5e5)
    node.send(100.0, Sample(CPU, 100.0, 0.1))
    (spooled,) = node.payloads(Sample(CPU, 110.0, 0.2))
    (ancient,) = node.payloads(Sample(CPU, 111.0, 0.3))
    assert windows.ingest("n1", spooled, 200.0) == 1
    (row,) = query(windows, Query(CPU.name, "last", 300.0), 200.0)
    assert row.age_s == pytest.approx(90.0)
    assert windows.ingest("n1", ancient, 500.0) == 0
    assert windows.counters.stale == 1


def test_a_batch_that_comes_twice_counts_once_and_a_late_one_is_not_lost() -> None:
    windows = Windows()
    node = Node(windows, "n1")
    first, second, third = (
        node.payloads(Sample(CPU, float(n), 0.1), Sample(QUEUE, float(n), 1.0))[0] for n in range(3)
    )
    assert windows.ingest("n1", first, 0.0) == 2
    assert windows.ingest("n1", third, 2.0) == 2
    assert windows.counters.lost_batches == 1
    assert windows.ingest("n1", third, 2.1) == 0
    assert windows.ingest("n1", second, 2.2) == 0
    counters = windows.counters
    assert (counters.duplicates, counters.late, counters.lost_batches, counters.batches) == (1, 2, 0, 3)


def test_nonsense_is_dropped_and_counted() -> None:
    windows = Windows()
    nan, inf = float("nan"), float("inf")
    values = [0.5, nan, inf, -inf, 1.5, -0.1, 1e300, 0.7]
    Node(windows, "n1").send(
        8.0, *(Sample(CPU, float(n), v) for n, v in enumerate(values)), Sample(REQUESTS, 1.0, -5.0)
    )
    counters = windows.counters
    assert (counters.samples, counters.not_finite, counters.out_of_range) == (2, 3, 4)
    assert value(windows, Query(CPU.name, "mean", 60.0), 8.0) == pytest.approx(0.6)


def test_samples_without_their_definition_are_counted_and_asked_for() -> None:
    windows = Windows()
    node = Node(windows, "n1")
    node.payloads(Sample(CPU, 0.0, 0.5))  # lost
    assert node.send(1.0, Sample(CPU, 1.0, 0.5)) == 0
    assert windows.counters.unknown_series == 1
    assert windows.take_undefined() == {"n1"}
    assert windows.take_undefined() == frozenset()
    node.encoder.redefine()
    assert node.send(2.0, Sample(CPU, 2.0, 0.5)) == 1


def test_a_new_run_of_the_agent_continues_the_series() -> None:
    windows = Windows()
    Node(windows, "n1", session="run-1").send(10.0, Sample(QUEUE, 9.0, 1.0), Sample(CPU, 10.0, 0.1))
    Node(windows, "n1", ahead_s=-9.0, session="run-2").send(20.0, Sample(CPU, 20.0, 0.3))
    assert value(windows, Query(CPU.name, "mean", 60.0), 20.0) == pytest.approx(0.2)
    assert windows.series_count == 2


def test_late_batches_of_earlier_runs_do_not_push_out_the_present_one() -> None:
    windows = Windows()
    now = Node(windows, "n1", session="present")
    now.send(1.0, Sample(CPU, 1.0, 0.1))
    for tick in range(8):
        Node(windows, "n1", session=f"old-{tick}").send(2.0 + tick, Sample(QUEUE, 2.0 + tick, 1.0))
        assert now.send(2.5 + tick, Sample(CPU, 2.5 + tick, 0.1)) == 1
    assert windows.counters.unknown_series == 0


def test_series_beyond_the_limit_are_refused_and_room_comes_back() -> None:
    windows = Windows(window_s=60.0, series_max=2)
    node = Node(windows, "n1")
    three = [Sample(series(f"m{n}", "gauge", "1"), 0.0, 1.0) for n in range(3)]
    assert node.send(0.0, *three) == 2
    assert windows.counters.series_refused == 1
    assert windows.expire(119.0) == 0
    assert windows.expire(121.0) == 2
    assert windows.series_count == 0
    node.encoder.redefine()
    assert node.send(122.0, Sample(three[2].series, 122.0, 1.0), Sample(three[0].series, 122.0, 1.0)) == 2


def test_a_removed_node_leaves_nothing_behind() -> None:
    windows = Windows()
    for name in ("n1", "n2"):
        Node(windows, name).send(1.0, Sample(CPU, 0.0, 0.5), HistogramSample(LATENCY, 1.0, 1.0, (1, 0, 0, 0)))
    windows.forget("n1")
    assert windows.series_count == 2
    assert [row.node for row in query(windows, Query(CPU.name, by="node"), 1.0)] == ["n2"]
    windows.forget("n2")
    assert windows.series_count == 0
    Node(windows, "n3").send(2.0, Sample(CPU, 2.0, 0.9))
    assert value(windows, Query(CPU.name, "mean", 60.0), 2.0) == pytest.approx(0.9)


def test_a_moment_gives_the_same_answer_while_samples_come_in() -> None:
    windows = Windows()
    node = Node(windows, "n1")
    node.send(1.0, Sample(CPU, 1.0, 0.5))
    moment = Moment(windows, 1.0)
    before = moment.read(CPU.name, "mean", 30.0, node="n1")
    assert moment.read("nothing", "mean", 30.0) is None
    node.send(2.0, Sample(CPU, 2.0, 0.9))
    assert moment.read(CPU.name, "mean", 30.0, node="n1") == before
    assert len(moment.readings) == 2


def test_malformed_payloads_are_told_and_counted() -> None:
    windows = Windows()
    with pytest.raises(ProtocolError):
        windows.ingest("n1", b"\xc1", 0.0)
    assert windows.counters.malformed == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.floats(-10, 10)), min_size=1, max_size=12), min_size=1, max_size=12
    )
)
def test_windows_hold_the_newest_samples_of_each_series(ticks: list[list[tuple[int, float]]]) -> None:
    """Against a model of lists; several samples of a series in one batch, rings that wrap around."""
    windows, depth = Windows(depth=5), 5
    node = Node(windows, "n1")
    model: dict[int, list[float]] = {}
    for tick, batch in enumerate(ticks):
        samples = []
        for step, (number, measured) in enumerate(batch):
            samples.append(Sample(series(f"m{number}", "gauge", "1"), tick + step / 100, measured))
            model.setdefault(number, []).append(measured)
        node.send(float(tick) + 0.5, *samples)
    now_s = len(ticks) + 0.5
    for number, kept in model.items():
        for statistic, fold in (("max", max), ("min", min), ("mean", lambda values: sum(values) / len(values))):
            found = value(windows, Query(f"m{number}", statistic, 300.0), now_s)  # type: ignore[arg-type]
            assert found == pytest.approx(fold(kept[-depth:]))

"""The pure parts around a request: pool, latency window, targets, model table's choice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.agents.inference.gateway.http.exchange import Exchange
from shoal.agents.inference.gateway.latency import BOUNDS_MS, GROWTH, WINDOW_S, LatencyWindow, buckets, quantile_ms
from shoal.agents.inference.gateway.pool import Call, Outlook, Pool
from shoal.agents.inference.gateway.settings import is_loopback, parse
from shoal.agents.inference.gateway.target import Target
from shoal.agents.inference.gateway.target import parse as parse_target
from shoal.descriptions.errors import RefusedError


@dataclass(eq=False)
class FakeSlot:
    """A worker at the pool's door."""

    in_flight_max: int = 2
    calls: list[Call] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        return len(self.calls)

    def dispatch(self, call: Call) -> None:
        assert self.in_flight < self.in_flight_max
        self.calls.append(call)


class Nowhere:
    """A connection that nobody reads."""

    def send(self, parts: Any, *, close: bool) -> None:
        return


def call(version: str | None = None, received_s: float = 0.0) -> Call:
    exchange = Exchange(Nowhere(), "POST", "/", {})
    exchange.received_s = received_s
    return Call(exchange, b"", version)


@pytest.fixture
def pool() -> Pool:
    return Pool("m", "1", queue_max=3)


def test_the_least_busy_worker_comes_first(pool: Pool) -> None:
    one, two = FakeSlot(), FakeSlot()
    pool.workers = [one, two]
    assert [pool.submit(call()) for _ in range(3)] == ["dispatched"] * 3
    assert (one.in_flight, two.in_flight) == (2, 1)
    one.calls.clear()
    pool.submit(call())
    assert (one.in_flight, two.in_flight) == (1, 1)


def test_calls_wait_in_order_and_not_for_ever(pool: Pool) -> None:
    slot = FakeSlot(in_flight_max=1)
    pool.workers = [slot]
    calls = [call(received_s=float(index)) for index in range(5)]
    assert [pool.submit(each) for each in calls] == ["dispatched", "queued", "queued", "queued", "full"]
    slot.calls.clear()
    pool.pump()
    assert slot.calls == [calls[1]]
    assert list(pool.expired(3.0)) == [calls[2]]
    assert list(pool.queue) == [calls[3]]


def test_a_new_call_does_not_overtake_those_that_wait(pool: Pool) -> None:
    slot = FakeSlot(in_flight_max=1)
    first, second = call(), call()
    assert pool.submit(first) == "queued"
    pool.workers = [slot]
    assert pool.submit(second) == "queued"
    pool.pump()
    assert slot.calls == [first]


def test_calls_of_a_dead_worker_go_before_the_others(pool: Pool) -> None:
    waiting, held = call(), [call(), call()]
    pool.submit(waiting)
    pool.put_back(held)
    assert list(pool.queue) == [*held, waiting]


def test_abandoned_calls_are_not_handed_out(pool: Pool) -> None:
    gone, here = call(), call()
    pool.submit(gone)
    pool.submit(here)
    gone.exchange.is_answered = True
    slot = FakeSlot()
    pool.workers = [slot]
    pool.pump()
    assert slot.calls == [here]


def test_without_hope_nothing_waits(pool: Pool) -> None:
    pool.outlook = Outlook(is_hopeful=False)
    assert pool.submit(call()) == "hopeless"
    pool.retiring = [FakeSlot()]
    assert pool.submit(call()) == "hopeless", "a worker that is going takes nothing new"
    pool.workers = [FakeSlot()]
    assert pool.submit(call()) == "dispatched"


def test_a_retiring_worker_takes_what_waited_before(pool: Pool) -> None:
    old = FakeSlot(in_flight_max=1)
    asked, free = call("1"), call()
    pool.submit(asked)
    pool.submit(free)
    assert pool.take_unversioned() == [free]
    pool.retiring = [old]
    pool.pump()
    assert old.calls == [asked]


@given(st.lists(st.floats(0.01, 50_000), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_right_within_a_bucket(latencies_ms: list[float], fraction: float) -> None:
    window = LatencyWindow(0.0)
    for latency_ms in latencies_ms:
        window.record(latency_ms, 1.0)
    ordered = sorted(latencies_ms)
    exact = ordered[max(0, math.ceil(len(ordered) * fraction) - 1)]
    told = quantile_ms(window.counts(1.0), fraction)
    assert max(exact, BOUNDS_MS[0] / GROWTH) / GROWTH <= told <= max(exact, BOUNDS_MS[0]) * GROWTH


@given(st.lists(st.floats(0, 200), min_size=1, max_size=30))
def test_only_the_last_minute_counts(times_s: list[float]) -> None:
    window = LatencyWindow(0.0)
    for now_s in sorted(times_s):
        window.record(1.0, now_s)
    now_s = max(times_s)
    seen = sum(window.counts(now_s))
    assert (
        sum(time_s > now_s - WINDOW_S + 5 for time_s in times_s)
        <= seen
        <= sum(time_s > now_s - WINDOW_S - 5 for time_s in times_s)
    )
    assert window.counts(now_s + 2 * WINDOW_S) == [0] * (len(BOUNDS_MS) + 1)
    assert sum(window.totals) == len(times_s)


def test_rates_begin_with_the_first_second() -> None:
    window = LatencyWindow(100.0)
    assert window.rate_per_s(100.0) == 0
    for _ in range(10):
        window.record(1.0, 100.5)
    assert window.rate_per_s(100.5) == 10
    assert window.rate_per_s(110.0) == 1
    assert quantile_ms([0] * 67, 0.5) == 0
    assert [(round(bucket.le_ms, 2), bucket.count) for bucket in buckets(window.counts(110.0))] == [(1.14, 10)]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2", Target("server")),
        ("/v2/", Target("server")),
        ("/v2/health/live", Target("live")),
        ("/v2/health/ready", Target("ready")),
        ("/v2/models", Target("models")),
        ("/metrics", Target("metrics")),
        ("/v2/models/m", Target("model", "m")),
        ("/v2/models/m/infer", Target("infer", "m")),
        ("/v2/models/m/ready", Target("model-ready", "m")),
        ("/v2/models/m/versions/2", Target("model", "m", "2")),
        ("/v2/models/m/versions/v1.2.3/infer", Target("infer", "m", "v1.2.3")),
        ("/v2/models/m/versions/2/ready", Target("model-ready", "m", "2")),
        ("/v2/models/hf/gpt2@latest/infer", Target("infer", "hf/gpt2@latest")),
        ("/v2/models/hf%2Fgpt2%40latest/infer", Target("infer", "hf/gpt2@latest")),
        ("/v2/models/hf/gpt2/versions/1/infer", Target("infer", "hf/gpt2", "1")),
        ("/v2/models/gr%C3%BCn", Target("model", "grün")),
        ("/v2/models/versions/versions/1/infer", Target("infer", "versions", "1")),
        ("/v2/models/infer/infer", Target("infer", "infer")),
        ("/v2/models//infer", None),
        ("/v2/models/m/versions/", None),
        ("/v2/models/m/versions/1/2/infer", None),
        ("/v1/models/m", None),
        ("/", None),
        ("", None),
    ],
)
def test_targets(path: str, target: Target | None) -> None:
    assert parse_target(path) == target


@given(st.text(max_size=60))
def test_any_path_is_a_target_or_nothing(path: str) -> None:
    for each in (path, "/v2/models/" + path):
        target = parse_target(each)
        assert target is None or target.operation


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("edge", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


class TestSettings:
    def test_flags(self) -> None:
        flags = "--dir /tmp/x --http [::1]:0 --plugin onnx --predictors /p --body-max-mib 8"
        settings = parse(flags.split())
        assert (settings.host, settings.port, settings.plugins) == ("::1", 0, ("onnx",))
        assert settings.limits.body_bytes_max == 8 * 1024 * 1024
        assert settings.predictors[0].is_absolute()

    @pytest.mark.parametrize(
        "flags",
        [
            "",
            "--dir x --http 1.2.3.4",
            "--dir x --http a:99999",
            "--dir x --in-flight-max 0",
            "--dir x --queue-s-max nan",
            "--di x",
        ],
    )
    def test_wrong_flags_are_usage_errors(self, flags: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse(flags.split())
        assert ended.value.code == 2
        assert "usage: shoal-gateway" in capsys.readouterr().err

    def test_an_open_address_needs_a_word(self) -> None:
        with pytest.raises(RefusedError, match="--token-file, or --insecure"):
            parse(["--dir", "x", "--http", "0.0.0.0:80"])
        assert parse(["--dir", "x", "--http", "0.0.0.0:80", "--insecure"]).host == "0.0.0.0"

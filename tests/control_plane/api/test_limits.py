"""Token buckets and occupancy as pure bookkeeping."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control_plane.api import limits
from shoal.control_plane.api.limits import ApiLimits, Occupancy, RateLimiter
from shoal.control_plane.api.refusals import RateError, UnavailableError


def is_allowed(limiter: RateLimiter, principal: str, now_s: float) -> bool:
    try:
        limiter.take(principal, now_s)
    except RateError:
        return False
    return True


def test_a_burst_then_the_rate() -> None:
    limiter = RateLimiter(rate_per_s=2.0, burst=3)
    assert [is_allowed(limiter, "a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [is_allowed(limiter, "a", 0.5) for _ in range(2)] == [True, False]
    assert is_allowed(limiter, "b", 0.5), "another's bucket is full"
    assert [is_allowed(limiter, "a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_the_refusal_says_how_long_to_wait() -> None:
    limiter = RateLimiter(rate_per_s=2.0, burst=1)
    limiter.take("a", 0.0)
    with pytest.raises(RateError) as caught:
        limiter.take("a", 0.1)
    assert caught.value.retry_after_s == pytest.approx(0.4)
    assert is_allowed(limiter, "a", 0.1 + 0.41)


@given(st.lists(st.floats(0, 1), max_size=200))
def test_never_more_than_burst_and_rate_allow(pauses_s: list[float]) -> None:
    limiter = RateLimiter(rate_per_s=10.0, burst=5)
    now_s, allowed = 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        allowed += is_allowed(limiter, "a", now_s)
    assert allowed <= 5 + 10.0 * now_s + 1e-6


def test_buckets_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRINCIPALS_MAX", 10)
    limiter = RateLimiter(rate_per_s=1.0, burst=1)
    for index in range(100):
        limiter.take(f"p{index}", 0.0)
    assert len(limiter._buckets) == 10


def test_places_are_given_back_whatever_happens() -> None:
    occupancy = Occupancy(ApiLimits(in_flight_max=1))
    with occupancy.request(), pytest.raises(UnavailableError), occupancy.request():
        pass
    with pytest.raises(RuntimeError), occupancy.request():
        raise RuntimeError
    assert occupancy.requests == 0


def test_streams_have_caps_for_each_and_for_all() -> None:
    occupancy = Occupancy(ApiLimits(streams_max=3, streams_per_principal_max=2))
    with ExitStack() as held:
        for principal in ("a", "a", "b"):
            held.enter_context(occupancy.stream(principal))
        with pytest.raises(UnavailableError, match="streams are open"):
            held.enter_context(occupancy.stream("c"))
    with ExitStack() as held:
        held.enter_context(occupancy.stream("a"))
        held.enter_context(occupancy.stream("a"))
        with pytest.raises(UnavailableError, match="you have"):
            held.enter_context(occupancy.stream("a"))
    assert occupancy.streams.total() == 0

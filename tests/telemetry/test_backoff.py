from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.telemetry.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_cap_and_starts_again_after_a_reset() -> None:
    backoff = Backoff(1.0, 60.0, Random(1))
    ceilings = []
    for _ in range(8):
        ceilings.append(backoff.ceiling_s())
        backoff.next_s()
    assert ceilings == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    backoff.reset()
    assert backoff.ceiling_s() == 1.0


def test_a_reconnect_spread_lifts_the_ceiling() -> None:
    assert Backoff(1.0, 60.0, Random(1)).ceiling_s(floor_s=300.0) == 300.0


@given(seed=st.integers(), attempts=st.integers(0, 200), floor_s=st.floats(0, 1000))
def test_delays_stay_between_zero_and_the_ceiling(seed: int, attempts: int, floor_s: float) -> None:
    backoff = Backoff(1.0, 60.0, Random(seed))
    backoff.attempts = attempts
    ceiling_s = backoff.ceiling_s(floor_s)
    assert 0.0 <= backoff.next_s(floor_s) <= ceiling_s <= max(60.0, floor_s)


def test_delays_are_spread_over_the_whole_range() -> None:
    delays = [Backoff(1.0, 60.0, Random(seed)).next_s(floor_s=100.0) for seed in range(1000)]
    tenths = {int(delay // 10) for delay in delays}
    assert tenths == set(range(10))


@pytest.mark.parametrize(("base_s", "cap_s"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_senseless_bounds_are_refused(base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s, cap_s, Random(1))

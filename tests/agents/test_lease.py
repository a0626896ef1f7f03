"""Tables of the lease core: heartbeats with jitter, what grants a lease and when it ends."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.agents.lease import (
    SAFE_SHARE,
    UNANSWERED_MAX,
    Effect,
    Event,
    Ignored,
    LeaseHeld,
    LeaseKeeper,
    LeaseReceived,
    LeaseUntil,
    LinkDown,
    LinkUp,
    SawFence,
    SendHeartbeat,
    TimingsChanged,
    UseLoadLevel,
    WakeAt,
    Woken,
)
from shoal.descriptions.messages.lease import Lease


def keeper(until_s: float = 0.0) -> LeaseKeeper:
    return LeaseKeeper(5.0, 30.0, Random(1), until_s)


def granted(seq: int, session: str = "s1", lease_s: float = 30.0, fence: int = 1, level: int = 0) -> LeaseReceived:
    return LeaseReceived("l", Lease("n", session, seq, lease_s, fence, 1, level))


def run(one: LeaseKeeper, *events: tuple[float, Event]) -> list[Effect]:
    return [effect for now_s, event in events for effect in one.handle(event, now_s)]


def wake_of(effects: list[Effect]) -> float:
    return [effect.at_s for effect in effects if isinstance(effect, WakeAt)][-1]


def test_a_connection_begins_with_a_heartbeat() -> None:
    effects = run(keeper(), (100.0, LinkUp("u", "s1")))
    assert effects[0] == SendHeartbeat("u", "s1", 1)
    assert 104.5 <= wake_of(effects) <= 105.5


def test_heartbeats_come_with_jitter_and_stop_with_the_link() -> None:
    one = keeper()
    at_s = wake_of(run(one, (0.0, LinkUp("u", "s1"))))
    gaps = []
    for _ in range(200):
        before = at_s
        effects = one.handle(Woken("w"), at_s)
        assert isinstance(effects[0], SendHeartbeat)
        at_s = wake_of(effects)
        gaps.append(at_s - before)
    assert min(gaps) >= 4.5 - 1e-9
    assert max(gaps) <= 5.5 + 1e-9
    assert len({round(gap, 3) for gap in gaps}) > 50
    assert run(one, (at_s, LinkDown("d")), (at_s + 60, Woken("w"))) == []


def test_a_lease_counts_from_when_its_heartbeat_was_sent() -> None:
    one = keeper()
    run(one, (100.0, LinkUp("u", "s1")))
    effects = run(one, (103.0, granted(1)))
    assert effects[:3] == [SawFence("l", 1), LeaseUntil("l", 124.0), LeaseHeld("l", True)]
    assert run(one, (123.9, LinkDown("d"))) == [WakeAt("d", 124.0)]
    assert run(one, (124.0, Woken("w"))) == [LeaseHeld("w", False)]


def test_no_lease_is_held_before_the_first_answer() -> None:
    one = keeper()
    assert not any(isinstance(effect, LeaseHeld) for effect in run(one, (5.0, LinkUp("u", "s1")), (9.0, Woken("w"))))


def test_an_agent_that_restarts_within_its_lease_holds_it() -> None:
    one = keeper(until_s=124.0)
    assert LeaseHeld("w", True) in run(one, (110.0, Woken("w")))
    assert run(one, (124.0, Woken("w")))[0] == LeaseHeld("w", False)


@pytest.mark.parametrize(
    "answer",
    [granted(1, session="s0"), granted(99), granted(1, fence=0)],
    ids=["of another session", "of a heartbeat never sent", "of an earlier control plane"],
)
def test_answers_that_grant_nothing(answer: LeaseReceived) -> None:
    one = keeper()
    one.fence = 1
    run(one, (100.0, LinkUp("u", "s1")))
    effects = run(one, (101.0, answer))
    assert isinstance(effects[0], Ignored)
    assert not any(isinstance(effect, LeaseUntil | LeaseHeld) for effect in effects)


def test_an_old_answer_never_shortens_a_lease() -> None:
    one = keeper()
    at_s = wake_of(run(one, (0.0, LinkUp("u", "s1"))))
    run(one, (at_s, Woken("w")), (at_s + 0.1, granted(2)))
    until_s = one.until_s
    run(one, (at_s + 0.2, granted(1)))
    assert one.until_s == until_s == at_s + SAFE_SHARE * 30


def test_only_the_latest_heartbeats_may_be_answered() -> None:
    one = keeper()
    at_s = wake_of(run(one, (0.0, LinkUp("u", "s1"))))
    for _ in range(UNANSWERED_MAX):
        at_s = wake_of(one.handle(Woken("w"), at_s))
    assert isinstance(run(one, (at_s, granted(1)))[0], Ignored)


def test_timings_of_the_document_take_over_at_once() -> None:
    one = keeper()
    run(one, (0.0, LinkUp("u", "s1")))
    effects = run(one, (1.0, TimingsChanged("t", 1.0, 4.0)))
    assert wake_of(effects) == 2.0
    assert isinstance(run(one, (2.0, Woken("w")))[0], SendHeartbeat)


def test_the_load_level_is_told_when_it_changes() -> None:
    one = keeper()
    run(one, (0.0, LinkUp("u", "s1")))
    assert UseLoadLevel("l", 2) in run(one, (0.1, granted(1, level=2)))
    assert not any(isinstance(effect, UseLoadLevel) for effect in run(one, (0.2, granted(1, level=2))))
    assert UseLoadLevel("l", 16) in run(one, (0.3, granted(1, level=10**9)))


@given(
    st.lists(st.tuples(st.floats(0.01, 20.0), st.booleans(), st.integers(0, 10), st.booleans()), max_size=60),
    st.floats(1.0, 60.0),
)
def test_what_is_held_was_sent_less_than_the_safe_share_ago(
    steps: list[tuple[float, bool, int, bool]], lease_s: float
) -> None:
    """I5, the agent's half: whatever comes, holding ends within 0.8 of the lease after the last answered heartbeat."""
    one, now_s, held = keeper(), 0.0, False
    sent_s: dict[int, float] = {}
    answered_s = -1e9
    for step_s, is_up, back, answers in steps:
        now_s += step_s
        events: list[Event] = [Woken("w")]
        if answers and sent_s:
            seq = max(sent_s) - back
            events.append(granted(seq, lease_s=lease_s))
            if seq in sent_s:
                answered_s = max(answered_s, sent_s[seq])
        events.append(LinkUp("u", "s1") if is_up else LinkDown("d"))
        for event in events:
            for effect in one.handle(event, now_s):
                if isinstance(effect, SendHeartbeat):
                    sent_s[effect.seq] = now_s
                if isinstance(effect, LeaseHeld):
                    held = effect.held
        if held:
            assert now_s < answered_s + SAFE_SHARE * lease_s

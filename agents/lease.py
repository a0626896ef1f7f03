"""The agent's lease core: when to send heartbeats, and whether single-instance replicas may run. Pure.

A lease lasts from the moment at which the heartbeat that it answers was *sent*, on CLOCK_BOOTTIME, which counts suspend
and ignores the wall clock. The agent gives up after 0.8 of it; the control plane waits 1.25 of it before it starts a
replacement, so two clocks may differ in rate by a factor of 1.56 before two instances could meet. Everything else runs
on without a lease.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import assert_never

from ..descriptions.messages.lease import Lease

SAFE_SHARE = 0.8
JITTER = 0.1
UNANSWERED_MAX = 64
"""Heartbeats whose answer is still accepted; an older answer grants nothing."""


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkUp:
    """The MQTT link is connected, with this session id."""

    id: str
    session: str


@dataclass(frozen=True)
class LinkDown:
    """The MQTT link is not connected any more."""

    id: str


@dataclass(frozen=True)
class LeaseReceived:
    """A lease whose seal has been verified."""

    id: str
    lease: Lease


@dataclass(frozen=True)
class TimingsChanged:
    """The desired document says another heartbeat or lease."""

    id: str
    heartbeat_s: float
    lease_s: float


@dataclass(frozen=True)
class Woken:
    """The time of a `WakeAt` has come."""

    id: str


Event = LinkUp | LinkDown | LeaseReceived | TimingsChanged | Woken


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendHeartbeat:
    """Publish a heartbeat now, at the time of the event."""

    cause: str
    session: str
    seq: int


@dataclass(frozen=True)
class LeaseHeld:
    """Whether single-instance replicas may run has changed; tell the reconcile core."""

    cause: str
    held: bool


@dataclass(frozen=True)
class LeaseUntil:
    """The time until which they may run; told to what guards them, which stops them even if the agent is dead."""

    cause: str
    until_s: float


@dataclass(frozen=True)
class UseLoadLevel:
    """Each level halves the rate of low-priority telemetry."""

    cause: str
    level: int


@dataclass(frozen=True)
class SawFence:
    """Tell the reconcile core."""

    cause: str
    fence: int


@dataclass(frozen=True)
class Ignored:
    """A lease that grants nothing; count it."""

    cause: str
    reason: str


@dataclass(frozen=True)
class WakeAt:
    """Send `Woken` at this time; takes the place of an earlier `WakeAt`."""

    cause: str
    at_s: float


Effect = SendHeartbeat | LeaseHeld | LeaseUntil | UseLoadLevel | SawFence | Ignored | WakeAt


class LeaseKeeper:
    """One node's heartbeats and lease."""

    def __init__(self, heartbeat_s: float, lease_s: float, rng: Random, until_s: float = 0.0) -> None:
        """`until_s` is what an earlier run of the agent was granted in this boot (CLOCK_BOOTTIME), if anything."""
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._rng = rng
        self._session = ""
        self._seq = 0
        self._sent_s: dict[int, float] = {}
        self._next_s = 0.0
        self._held = False
        self.until_s = until_s
        self.fence = 0
        self.load_level = 0

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """What follows from the event."""
        effects: list[Effect] = []
        match event:
            case LinkUp():
                self._session, self._next_s = event.session, now_s
                self._sent_s.clear()
            case LinkDown():
                self._session = ""
            case LeaseReceived():
                effects += self._receive(event, now_s)
            case TimingsChanged():
                self._change(event, now_s)
            case Woken():
                pass
            case _:
                assert_never(event)
        effects += self._beat(event.id, now_s)
        effects += self._hold(event.id, now_s)
        effects += self._wake(event.id, now_s)
        return effects

    def _change(self, event: TimingsChanged, now_s: float) -> None:
        if event.heartbeat_s < self._heartbeat_s:
            self._next_s = min(self._next_s, now_s + event.heartbeat_s)
        self._heartbeat_s, self._lease_s = event.heartbeat_s, event.lease_s

    def _receive(self, event: LeaseReceived, now_s: float) -> Iterator[Effect]:
        lease = event.lease
        if lease.fence < self.fence:
            yield Ignored(event.id, f"fence {lease.fence} is below {self.fence}")
            return
        sent_s = self._sent_s.get(lease.seq) if lease.session == self._session else None
        if sent_s is None:
            yield Ignored(
                event.id, f"nobody waits for the answer to heartbeat {lease.seq} of session {lease.session!r}"
            )
            return
        if lease.fence > self.fence:
            self.fence = lease.fence
            yield SawFence(event.id, lease.fence)
        until_s = sent_s + SAFE_SHARE * lease.lease_s
        if until_s > self.until_s:
            self.until_s = until_s
            yield LeaseUntil(event.id, until_s)
        level = max(0, min(lease.load_level, 16))
        if level != self.load_level:
            self.load_level = level
            yield UseLoadLevel(event.id, level)

    def _beat(self, cause: str, now_s: float) -> Iterator[Effect]:
        if not self._session or now_s < self._next_s:
            return
        self._seq += 1
        self._sent_s[self._seq] = now_s
        self._sent_s.pop(self._seq - UNANSWERED_MAX, None)
        self._next_s = now_s + self._heartbeat_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
        yield SendHeartbeat(cause, self._session, self._seq)

    def _hold(self, cause: str, now_s: float) -> Iterator[Effect]:
        held = now_s < self.until_s
        if held != self._held:
            self._held = held
            yield LeaseHeld(cause, held)

    def _wake(self, cause: str, now_s: float) -> Iterator[Effect]:
        times = [time_s for time_s, counts in ((self._next_s, self._session), (self.until_s, self._held)) if counts]
        if times:
            yield WakeAt(cause, min(times))

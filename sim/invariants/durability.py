"""Invariants of keeping: what was promised is there, each event counts once, what is dropped is dropped in order."""

from __future__ import annotations

from ..observed import (
    EventApplied,
    EventEmitted,
    EventsGivenUp,
    Fact,
    OutboxDropped,
    OutboxSize,
    StoreOpened,
    WriteAcknowledged,
)
from .ledger import Ledger, invariant


@invariant("I1", WriteAcknowledged, StoreOpened)
def acknowledged_writes_are_kept(ledger: Ledger, fact: WriteAcknowledged | StoreOpened) -> str:
    """Every acknowledged mutation is present after any crash, restart or failover.

    A declared restore of a backup takes back what is newer than the backup, and nothing else.
    """
    if isinstance(fact, WriteAcknowledged):
        ledger.acknowledged[fact.kind, fact.name] = (fact.version, fact.is_delete)
        return ""
    if fact.restored:
        newest = max(fact.versions.values(), default=0)
        ledger.acknowledged = {key: ack for key, ack in ledger.acknowledged.items() if ack[0] <= newest}
        return ""
    for (kind, name), (version, is_delete) in ledger.acknowledged.items():
        found = fact.versions.get((kind, name))
        if found is None and not is_delete:
            return f"{kind} {name}, acknowledged as version {version}, is gone"
        if found is not None and found < version:
            return f"{kind} {name} is at version {found}; version {version} was acknowledged"
    return ""


@invariant("I4", EventEmitted, EventApplied, EventsGivenUp, StoreOpened)
def events_count_once_and_in_order(ledger: Ledger, fact: Fact) -> str:
    """Events applied by the control plane for each node and stream are a gap-free prefix, each exactly once.

    A gap is allowed where the node's own outbox gave the events up; what is applied is what the node wrote.
    """
    match fact:
        case EventApplied():
            return _applied(ledger, fact)
        case EventEmitted():
            ledger.emitted.setdefault(fact.stream, {})[fact.seq] = fact.body
        case EventsGivenUp():
            ledger.given_up[fact.stream] = max(fact.upto, ledger.given_up.get(fact.stream, 0))
        case StoreOpened(restored=True):
            _restored(ledger, fact)
        case _:
            pass
    return ""


def _applied(ledger: Ledger, fact: EventApplied) -> str:
    last = ledger.applied.get(fact.stream, 0)
    if fact.seq <= last:
        return f"event {fact.seq} of stream {fact.stream} was applied again, after {last}"
    if fact.seq > last + 1 and ledger.given_up.get(fact.stream, 0) < fact.seq - 1:
        return f"event {fact.seq} of stream {fact.stream} was applied after {last}: the ones between are missing"
    wrote = ledger.emitted.get(fact.stream, {}).get(fact.seq)
    if wrote != fact.body:
        return f"event {fact.seq} of stream {fact.stream} says {fact.body!r}; the node wrote {wrote!r}"
    ledger.applied[fact.stream] = fact.seq
    return ""


def _restored(ledger: Ledger, fact: StoreOpened) -> None:
    """The backup knows less: what nodes deleted meanwhile, because it was acknowledged, is lost with the database."""
    positions = {stream: position for (_, stream), position in fact.positions.items()}
    for stream, last in ledger.applied.items():
        ledger.given_up[stream] = max(last, ledger.given_up.get(stream, 0))
        ledger.applied[stream] = positions.get(stream, 0)


@invariant("I11", OutboxSize, OutboxDropped)
def outboxes_are_bounded_and_drops_are_counted(ledger: Ledger, fact: OutboxSize | OutboxDropped) -> str:
    """The outbox stays under its cap; every drop is counted by class."""
    if isinstance(fact, OutboxSize):
        return "" if fact.bytes <= fact.quota else f"the outbox of {fact.node} holds {fact.bytes} of {fact.quota} bytes"
    if fact.seen == fact.counted:
        return ""
    return f"the outbox of {fact.node} gave up {fact.seen} of P{fact.urgency} and counts {fact.counted}"


@invariant("I12", OutboxDropped)
def the_less_urgent_goes_first(ledger: Ledger, fact: OutboxDropped) -> str:
    """No P0 or P1 item is dropped while a P2 item is queued."""
    if fact.urgency == 2 or fact.kept[2] == 0:
        return ""
    return f"the outbox of {fact.node} gave up P{fact.urgency} while it kept {fact.kept[2]} of P2"

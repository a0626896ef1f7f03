"""Invariants of order and authority: who may write, what may follow what, who may speak for whom."""

from __future__ import annotations

from ..observed import DesiredApplied, DocumentLoaded, MessageTaken, RowsCommitted
from .ledger import Ledger, invariant


@invariant("I2", DesiredApplied)
def documents_never_go_back(ledger: Ledger, fact: DesiredApplied) -> str:
    """(epoch, generation) applied by an agent never decreases; an equal pair implies an equal digest.

    What an agent takes from its own disk at start is the last known good and may be older than one it has lost.
    """
    if fact.from_disk:
        return ""
    memory, order = ledger.node(fact.node), (fact.epoch, fact.generation)
    if order < memory.order:
        return f"{fact.node} applied {order} after {memory.order}"
    if order == memory.order and fact.digest != memory.digest:
        return f"{fact.node} applied two documents as {order}"
    memory.order, memory.digest = order, fact.digest
    return ""


@invariant("I3", RowsCommitted)
def no_stale_leader_commits(ledger: Ledger, fact: RowsCommitted) -> str:
    """No row is committed by a leader whose fence is lower than the highest one given out."""
    if fact.fence < fact.fence_max:
        return f"{fact.holder} committed version {fact.version} with fence {fact.fence}, {fact.fence_max} was given out"
    return ""


@invariant("I8", DocumentLoaded)
def nothing_starts_from_a_broken_document(ledger: Ledger, fact: DocumentLoaded) -> str:
    """An agent never starts from a torn, unsigned or corrupt document."""
    return "" if fact.is_true else f"{fact.node} started from bytes that no control plane ever sealed"


@invariant("I13", MessageTaken)
def nobody_speaks_for_another(ledger: Ledger, fact: MessageTaken) -> str:
    """No message affects a node other than its identity's."""
    if fact.sender == fact.subject:
        return ""
    return f"a message of {fact.sender} was taken as {fact.subject}'s"

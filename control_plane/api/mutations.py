"""Runs what changes something: change, audit row and the reply kept for its idempotency key are one transaction.

Handlers hand in the change as a function over the transaction. A dry run goes the whole way and is rolled back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ..store.reading import ReadTransaction
from ..store.records import AuditEntry, IdempotentReply
from ..store.store import Store
from ..store.transaction import Transaction
from .call import Call, Reply
from .refusals import InvalidError
from .requests import WriteQuery


@dataclass(frozen=True)
class Target:
    """What a change is about."""

    kind: str
    name: str


class _DryRun(Exception):  # noqa: N818 - not an error: the way out of a transaction that must not be kept
    def __init__(self, reply: Reply) -> None:
        super().__init__("dry run")
        self.reply = reply


async def mutate(store: Store, call: Call, target: Target, change: Callable[[Transaction], Reply]) -> Reply:
    """Make the change, or give the reply that the same `Idempotency-Key` got before. Raises what `change` raises."""
    is_dry_run = isinstance(call.query, WriteQuery) and call.query.dry_run
    fingerprint = _fingerprint(call)

    def job(tx: Transaction) -> Reply:
        prior = None if is_dry_run else _replayed(tx, call, fingerprint)
        if prior is not None:
            return prior
        reply = change(tx)
        if is_dry_run:
            raise _DryRun(reply)
        tx.append_audit(audit_entry(call, target, reply.status))
        if call.idempotency_key and not reply.is_secret:
            tx.remember_reply(_remembered(call, fingerprint, reply))
        return reply

    try:
        return await store.write(job)
    except _DryRun as done:
        return done.reply


def audit_entry(call: Call, target: Target, status: int) -> AuditEntry:
    """The audit row of a call."""
    who = call.principal
    detail = msgspec.json.encode({"token": who.id, "status": status, "from": call.remote})
    action = call.route.name
    return AuditEntry(who.subject, who.role.value, action, target.kind, target.name, call.request_id, detail)


def _replayed(tx: ReadTransaction, call: Call, fingerprint: str) -> Reply | None:
    if not call.idempotency_key:
        return None
    prior = tx.reply(call.principal.id, call.idempotency_key)
    if prior is None:
        return None
    if prior.fingerprint != fingerprint:
        raise InvalidError("this Idempotency-Key was used for another request: choose a new one")
    return Reply(prior.body, prior.status, (*prior.headers, ("Idempotent-Replay", "true")))


def _remembered(call: Call, fingerprint: str, reply: Reply) -> IdempotentReply:
    return IdempotentReply(
        call.principal.id, call.idempotency_key, fingerprint, reply.status, reply.body, reply.headers
    )


def _fingerprint(call: Call) -> str:
    asked = f"{call.route.method} {call.http.path_qs} {call.preconditions}\n".encode()
    return hashlib.sha256(asked + call.raw_body).hexdigest()

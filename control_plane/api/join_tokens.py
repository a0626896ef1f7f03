"""Join tokens: let one node in, once, for a short while.

A token is `sj1.<id>.<secret>`, kept as SHA-256 in a row of kind `JoinToken`. It can do nothing but join: rights are
made on the server. Whoever joins calls `check`, then `spend` in the same transaction.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

import msgspec

from ...descriptions.errors import RefusedError
from ..store.reading import ReadTransaction
from ..store.records import StoredObject
from ..store.transaction import Transaction
from .refusals import UnauthorizedError
from .tokens import digest

JOIN_TOKEN_KIND = "JoinToken"  # noqa: S105 - the name of a kind
TOKENS_MAX = 10_000
"""Unexpired tokens at once."""

_TOKEN = re.compile(r"sj1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")


class JoinToken(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is kept of a token."""

    sha256: str
    expires_ms: int
    node: str = ""
    """The only node name that it lets in; any when empty."""
    used_by: str = ""
    """Uid of the node that it let in."""
    nonce_sha256: str = ""
    """Of the nonce that it was used with: the same request again, after a lost reply, is answered again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A token that counts."""

    id: str
    token: JoinToken
    version: int

    @property
    def used_by(self) -> str:
        """Uid of the node that joined with it, if this is the same request again; otherwise empty."""
        return self.token.used_by


def issue(tx: Transaction, *, ttl_s: float, node: str = "") -> tuple[str, StoredObject]:
    """Mint a token; returns it, the only time that it is seen, and its row. Drops those that are expired."""
    for row in _expired(tx):
        tx.delete(JOIN_TOKEN_KIND, row.name)
    if tx.count(JOIN_TOKEN_KIND) >= TOKENS_MAX:
        raise RefusedError(f"{TOKENS_MAX} join tokens wait already: delete some, or let them expire")
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    kept = JoinToken(digest(secret), tx.now_ms + int(ttl_s * 1000), node)
    row = tx.put(JOIN_TOKEN_KIND, token_id, msgspec.json.encode(kept), expected_version=0)
    return f"sj1.{token_id}.{secret}", row


def check(tx: Transaction, token: str, *, nonce: str, node: str) -> Claim:
    """The claim of a token for a node of this name. Raises `UnauthorizedError`, which doesn't say what was wrong."""
    parts = _TOKEN.fullmatch(token)
    row = None if parts is None else tx.get(JOIN_TOKEN_KIND, parts[1])
    kept = decoded(row) if row is not None else JoinToken("0" * 64, 0)
    is_right = hmac.compare_digest(kept.sha256, digest(parts[2] if parts else ""))
    is_fresh = kept.expires_ms > tx.now_ms and kept.node in ("", node)
    is_unspent = not kept.used_by or hmac.compare_digest(kept.nonce_sha256, digest(nonce))
    if row is None or not (is_right and is_fresh and is_unspent):
        raise UnauthorizedError("the join token is unknown, expired, spent, or not for this node")
    return Claim(row.name, kept, row.resource_version)


def spend(tx: Transaction, claim: Claim, *, nonce: str, node_uid: str) -> None:
    """Note who joined with it, in the transaction that makes the node."""
    used = msgspec.structs.replace(claim.token, used_by=node_uid, nonce_sha256=digest(nonce))
    tx.put(JOIN_TOKEN_KIND, claim.id, msgspec.json.encode(used), expected_version=claim.version)


def current(tx: ReadTransaction, now_ms: int) -> list[StoredObject]:
    """Rows of the tokens that are not expired."""
    return [row for row in tx.all(JOIN_TOKEN_KIND) if decoded(row).expires_ms > now_ms]


def decoded(row: StoredObject) -> JoinToken:
    """A row's token."""
    return msgspec.json.decode(row.doc, type=JoinToken)


def _expired(tx: Transaction) -> list[StoredObject]:
    return [row for row in tx.all(JOIN_TOKEN_KIND) if decoded(row).expires_ms <= tx.now_ms]

"""API tokens: minted once, kept as SHA-256, compared in constant time.

A token is `shoal_<id>_<secret>`; its row has the kind `ApiToken` and is named by the id. The secrets are 256 random
bits, so a plain hash is enough. `auth.py` checks tokens, joining issues one for each agent, the first start one for
the admin, and `/v1/tokens` the others.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..store.reading import ReadTransaction
from ..store.records import StoredObject
from ..store.transaction import Transaction
from .roles import Role

API_TOKEN_KIND = "ApiToken"  # noqa: S105 - the name of a kind
TTL_S_MAX = 90 * 86_400.0
"""Longest life of a token that people ask for; those of agents and of the first start don't end."""

_TOKEN = re.compile(r"shoal_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class ApiToken(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is kept of a token."""

    sha256: str
    role: Role
    subject: str
    """Who holds it, as audit rows show: `admin`, `agent:<node name>`."""
    node_uid: str = ""
    """Of an agent: the one node that it speaks for."""
    expires_ms: int = 0
    """Unix milliseconds; 0 = never."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request."""

    id: str
    """Token id; rate limits and idempotency keys belong to it."""
    role: Role
    subject: str
    node_uid: str = ""


def issue(tx: Transaction, role: Role, subject: str, *, node_uid: str = "", ttl_s: float = 0.0) -> str:
    """Mint a token, keep its hash and return it: the only time that it is seen."""
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    expires_ms = tx.now_ms + int(ttl_s * 1000) if ttl_s else 0
    kept = ApiToken(digest(secret), role, subject, node_uid, expires_ms)
    tx.put(API_TOKEN_KIND, token_id, msgspec.json.encode(kept), expected_version=0)
    return f"shoal_{token_id}_{secret}"


def revoke_of_node(tx: Transaction, node_uid: str) -> int:
    """Delete every token of a node and return how many there were; requests with them fail from the commit on."""
    held = [row for row in tx.all(API_TOKEN_KIND) if decoded(row).node_uid == node_uid]
    for row in held:
        tx.delete(API_TOKEN_KIND, row.name)
    return len(held)


def find(tx: ReadTransaction, token: str, now_ms: int) -> Principal | None:
    """The principal of a token, or None if it doesn't count."""
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return None
    row = tx.get(API_TOKEN_KIND, parts[1])
    # An unknown id costs the same comparison as a wrong secret.
    kept = decoded(row) if row is not None else ApiToken("0" * 64, Role.VIEWER, "")
    is_right = hmac.compare_digest(kept.sha256, digest(parts[2]))
    if row is None or not is_right or 0 < kept.expires_ms <= now_ms:
        return None
    return Principal(row.name, kept.role, kept.subject, kept.node_uid)


def id_of(token: str) -> str:
    """The id in a token that `issue` made."""
    parts = _TOKEN.fullmatch(token)
    assert parts is not None
    return parts[1]


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def ensure_admin(tx: Transaction, path: Path) -> bool:
    """At the first start, write a random admin token to a 0600 file; True if one was written.

    First means: no token with all rights exists. A lost file is answered by deleting that token's row, not by guessing.
    """
    if any(decoded(row).role is Role.SLICE_ADMIN for row in tx.all(API_TOKEN_KIND)):
        return False
    write_secret(path, issue(tx, Role.SLICE_ADMIN, "admin"))
    return True


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def decoded(row: StoredObject) -> ApiToken:
    """A row's token."""
    return msgspec.json.decode(row.doc, type=ApiToken)

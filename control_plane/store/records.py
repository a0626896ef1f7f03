"""What the store keeps and hands out: frozen rows with bytes inside, no SQL and no kinds.

Made by `reading.py` and `transaction.py`, read by everybody who uses the store. What the bytes mean is the callers'
business. Times are Unix milliseconds of the store's clock; versions come from one counter, so objects, events,
decisions and audit rows share a single order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

DOC_BYTES_MAX = 1024 * 1024
"""Largest document or record accepted, in bytes; the API's body cap is the same."""

NAME_CHARS_MAX = 253
"""Longest kind, name, uid or key, in characters: a DNS name fits."""

MESSAGE_CHARS_MAX = 4096
"""Longest message of an event, in characters."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One row of `objects` as it was committed."""

    kind: str
    name: str
    uid: str
    resource_version: int
    generation: int
    """Counts changes of what is wanted: starts at 1, grows when the writer says that the spec changed."""
    created_ms: int
    updated_ms: int
    doc: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """An object to be written: created if absent, replaced if present."""

    kind: str
    name: str
    doc: bytes
    expected_version: int | None = None
    """The version the writer saw; 0 means "must not exist yet", None accepts whatever is there."""
    new_generation: bool = False
    """True if the spec changed, so that `generation` grows."""
    uid: str | None = None
    """Only for a new object; None lets the store mint one."""


class Operation(StrEnum):
    """What a change did to its object."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change of one object. After a delete, `object` is the last state and `version` the delete's own."""

    version: int
    operation: Operation
    object: StoredObject


class Severity(StrEnum):
    """How loudly an event asks for a reader."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class EventEntry:
    """Something that happened to an object, for people and for `watch`."""

    reason: str
    """CamelCase and stable (`NodeLost`), so that programs may match it."""
    message: str
    kind: str = ""
    name: str = ""
    severity: Severity = Severity.INFO
    application: str = ""
    node: str = ""
    detail: bytes = b""
    """JSON, or empty."""


@dataclass(frozen=True, slots=True)
class DecisionEntry:
    """A decision with all that replay needs, as bytes; the store compresses `record` on disk."""

    id: str
    application: str
    component: str
    outcome: str
    record: bytes


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which object. Written in the transaction of the mutation itself."""

    actor: str
    role: str
    action: str
    kind: str
    name: str
    request_id: str
    detail: bytes = b""
    """JSON, or empty. Never a secret."""


E = TypeVar("E", EventEntry, DecisionEntry, AuditEntry)


@dataclass(frozen=True, slots=True)
class Logged(Generic[E]):
    """A row of an append-only table: the entry, its place in the order of all commits, and when."""

    version: int
    at_ms: int
    entry: E


@dataclass(frozen=True, slots=True)
class Leader:
    """Who may commit. `fence` grows with each take-over, `epoch` with each restore from a backup; neither shrinks."""

    holder: str = ""
    fence: int = 0
    epoch: int = 1
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class IdempotentReply:
    """The answer given to a request with an `Idempotency-Key`, kept so that a retry gets the same."""

    principal: str
    key: str
    fingerprint: str
    """SHA-256 of method, path and body: the same key with another request is a mistake of the client."""
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Objects of one kind in order of name, as they all stood at `version`."""

    objects: tuple[StoredObject, ...]
    version: int
    next_name: str | None
    """Pass as `after` to go on; None when this was the last page."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events to read. Empty strings match all; `after_version` and `before_version` are exclusive."""

    kind: str = ""
    name: str = ""
    application: str = ""
    node: str = ""
    reason: str = ""
    after_version: int = 0
    before_version: int | None = None
    limit: int = 500
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Which decisions to read, newest first. Empty strings match all."""

    application: str = ""
    component: str = ""
    outcome: str = ""
    since_ms: int = 0
    until_ms: int | None = None
    before_version: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which audit rows to read, newest first. Empty strings match all."""

    actor: str = ""
    kind: str = ""
    name: str = ""
    before_version: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Retention:
    """How much an append-only table keeps. The oldest rows beyond either bound go, and are counted."""

    rows_max: int
    age_s_max: float


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Caps of every table that would otherwise grow without end."""

    events: Retention = Retention(rows_max=100_000, age_s_max=7 * 86_400)
    decisions: Retention = Retention(rows_max=100_000, age_s_max=7 * 86_400)
    audit: Retention = Retention(rows_max=1_000_000, age_s_max=365 * 86_400)
    tombstones: Retention = Retention(rows_max=20_000, age_s_max=86_400)
    idempotency: Retention = Retention(rows_max=10_000, age_s_max=86_400)
    batch_rows: int = 2_000
    """Most rows pruned in one commit, so that pruning never holds up a write for long."""


@dataclass(frozen=True, slots=True)
class LogSize:
    """How many rows a table holds and how many retention has removed since the database was made."""

    rows: int
    pruned: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The figures that `/metrics` and `doctor` show."""

    head_version: int
    leader: Leader
    sizes: dict[str, LogSize] = field(default_factory=dict)
    file_bytes: int = 0
    writes_queued: int = 0
    commits: int = 0
    writes: int = 0

"""Turns kinds into the bytes that the store keeps, and rows back into kinds.

A row's document holds `apiVersion`, `kind`, `metadata{name, labels, annotations}`, `spec` and `status` as JSON; uid,
resource version, generation and creation time are the row's own columns and are filled in on the way out. The API and
the control plane's driver both read and write through here, so that a document means the same to both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel

from ..descriptions.kinds import KINDS, Kind
from .store.records import StoredObject

K = TypeVar("K", bound=BaseModel)

_SERVER_FIELDS = ("uid", "resourceVersion", "generation", "created")


def to_document(kind: Kind) -> bytes:
    """What the store keeps of an object; what its row knows is left out."""
    plain = kind.model_dump(mode="json", by_alias=True, exclude_none=True)
    for field in _SERVER_FIELDS:
        plain["metadata"].pop(field, None)
    return msgspec.json.encode(plain)


def from_row(row: StoredObject, model: type[K]) -> K:
    """The object of a row, with the row's uid, versions and creation time in its metadata."""
    return model.model_validate_json(rendered(row))


def kind_of_row(row: StoredObject) -> Kind:
    """As `from_row`, for any kind that people write."""
    return KINDS[row.kind].model_validate_json(rendered(row))


def rendered(row: StoredObject) -> bytes:
    """The JSON that the API answers for a row; much cheaper than going through the model."""
    return msgspec.json.encode(plain(row))


def plain(row: StoredObject) -> dict[str, Any]:
    """As `rendered`, before it becomes text."""
    value: dict[str, Any] = msgspec.json.decode(row.doc)
    value["metadata"] |= {
        "uid": row.uid,
        "resourceVersion": row.resource_version,
        "generation": row.generation,
        "created": rfc3339(row.created_ms),
    }
    return value


def labels_of(row: StoredObject) -> dict[str, str]:
    """The labels of a row's object."""
    return msgspec.json.decode(row.doc, type=_Labelled).metadata.labels


def written_by_people(document: bytes, current: StoredObject | None) -> tuple[bytes, bool]:
    """What to store when people write `document` over `current`, and whether the spec differs from the stored one.

    The status stays as it is, whatever they sent: it isn't theirs to say. Cheap enough for the writer thread.
    """
    wanted = msgspec.json.decode(document, type=_Parts)
    if current is None:
        return msgspec.json.encode(msgspec.structs.replace(wanted, status=msgspec.UNSET)), True
    before = msgspec.json.decode(current.doc, type=_Parts)
    kept = msgspec.json.encode(msgspec.structs.replace(wanted, status=before.status))
    return kept, bytes(before.spec) != bytes(wanted.spec)


def with_status(row: StoredObject, status: BaseModel) -> bytes:
    """The row's document with another status and everything else as it is; for the control plane's own writes."""
    value: dict[str, Any] = msgspec.json.decode(row.doc)
    value["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return msgspec.json.encode(value)


def rfc3339(at_ms: int) -> str:
    """Unix milliseconds as UTC text."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Parts(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: msgspec.Raw
    spec: msgspec.Raw
    status: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _LabelledMetadata(msgspec.Struct):
    labels: dict[str, str] = {}


class _Labelled(msgspec.Struct):
    metadata: _LabelledMetadata

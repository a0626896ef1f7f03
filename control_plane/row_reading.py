"""Turns stored rows into what the core keeps: at a start all of them, afterwards each change that others commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ..descriptions.kinds import KINDS
from .component_state import COMPONENT_STATE_KIND, DESIRED_KIND, REVISION_KIND, ComponentState, DesiredMark, Revision
from .documents import kind_of_row
from .inputs import Row, RowValue
from .placement import PLACEMENT_KIND, Placement
from .store.reading import ReadTransaction
from .store.records import Change, Operation, StoredObject

OTHERS_WRITE = ("Slice", "Datacenter", "Cluster", "Node", "Application", "Model", "Policy", "Mechanism", "Secret")
"""Kinds that people or joining agents write."""
_OWN: dict[str, type[Placement | Revision | ComponentState | DesiredMark]] = {
    PLACEMENT_KIND: Placement,
    REVISION_KIND: Revision,
    COMPONENT_STATE_KIND: ComponentState,
    DESIRED_KIND: DesiredMark,
}


@dataclass(frozen=True)
class Image:
    """All that a starting core needs, at one version."""

    version: int
    rows: tuple[Row, ...]
    positions: tuple[tuple[str, str, int], ...]


def read_image(tx: ReadTransaction) -> Image:
    """Read everything; runs in a reader thread."""
    positions = tuple((node, stream, seq) for (node, stream), seq in sorted(tx.stream_positions().items()))
    return Image(tx.version, tuple(_rows(tx)), positions)


def row_of(change: Change) -> Row:
    """A change that somebody else committed."""
    stored = change.object
    value = None if change.operation is Operation.DELETE else value_of(stored)
    return Row(stored.kind, stored.name, value, change.version)


def value_of(stored: StoredObject) -> RowValue:
    """What a row holds."""
    own = _OWN.get(stored.kind)
    return msgspec.json.decode(stored.doc, type=own) if own is not None else kind_of_row(stored)


def _rows(tx: ReadTransaction) -> Iterator[Row]:
    for kind in (*KINDS, *_OWN):
        for stored in tx.all(kind):
            yield Row(kind, stored.name, value_of(stored), stored.resource_version)

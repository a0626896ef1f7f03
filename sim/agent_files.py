"""What an agent keeps on its simulated disks: two slots for documents, marks, and events that wait.

`agent.py` reads it at the start of a life and writes it as the cores say; the slots hold the bytes that
`agents/slots.py` writes, checked by its code. A write is safe when `Machine`'s disks have been synced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ..agents.mark import Mark
from ..agents.outbox_events import EventUrgency
from ..agents.slots import open_desired, pack, slot_to_replace, unpack
from ..agents.stream import StreamStart
from ..descriptions.errors import ProtocolError
from ..descriptions.messages.desired import Desired
from .disk import Disk, Journal
from .sealing import MacRing

SLOTS = ("desired-a", "desired-b")


@dataclass(frozen=True)
class Kept:
    """A whole document found in a slot."""

    desired: Desired
    sealed: bytes


class AgentFiles:
    """The files of one machine."""

    def __init__(self, disk: Disk, database: Journal, ring: MacRing, topic: str) -> None:
        self._disk = disk
        self._database = database
        self._ring = ring
        self._topic = topic

    # Documents.

    def load(self) -> Kept | None:
        """The newest whole document; broken slots are passed over."""
        kept = self._whole()
        return max(kept.values(), key=lambda one: (one.desired.epoch, one.desired.generation), default=None)

    def save(self, sealed: bytes) -> None:
        """Write to the slot that may go; not safe before a sync."""
        kept = {slot: one.desired for slot, one in self._whole().items()}
        good = self._database.read("good") or b""
        self._disk.write(slot_to_replace(SLOTS, kept, good.decode()), pack(sealed))

    def promote(self, digest: str) -> None:
        """This document is the last known good."""
        self._database.write({"good": digest.encode()})

    def _whole(self) -> dict[str, Kept]:
        found: dict[str, Kept] = {}
        for slot in SLOTS:
            data = self._disk.read(slot)
            if data is None:
                continue
            try:
                sealed = unpack(data)
                found[slot] = Kept(open_desired(self._ring, sealed, self._topic), sealed)
            except ProtocolError:
                continue
        return found

    # Marks.

    def mark(self) -> Mark:
        """The durable mark, or a new one."""
        data = self._database.read("mark")
        return Mark() if data is None else msgspec.json.decode(data, type=Mark)

    def save_mark(self, mark: Mark) -> None:
        """Not safe before a sync."""
        self._database.write({"mark": msgspec.json.encode(mark)})

    def next_incarnation(self) -> int:
        """Count the agent's starts."""
        count = int(self._database.read("incarnation") or b"0") + 1
        self._database.write({"incarnation": str(count).encode()})
        self._database.sync()
        return count

    # Events.

    def stream(self, urgency: EventUrgency, fresh_name: str) -> StreamStart:
        """What is stored of a stream; made under `fresh_name` when the database is new."""
        name = self._database.read(f"stream/{urgency}")
        if name is None:
            name = fresh_name.encode()
            self._database.write({f"stream/{urgency}": name, f"last/{urgency}": b"0"})
            self._database.sync()
        keys = self._database.keys(f"event/{urgency}/")
        last = int(self._database.read(f"last/{urgency}") or b"0")
        first = int(keys[0].rpartition("/")[2]) if keys else last + 1
        sizes = tuple(len(self._database.read(key) or b"") for key in keys)
        return StreamStart(name.decode(), first, sizes)

    def store_events(self, events: Mapping[tuple[EventUrgency, int], bytes]) -> None:
        """One transaction, safe when this returns."""
        changes: dict[str, bytes | None] = {
            f"event/{urgency}/{seq:012d}": body for (urgency, seq), body in events.items()
        }
        for urgency, seq in events:
            changes[f"last/{urgency}"] = str(seq).encode()
        self._database.write(changes)
        self._database.sync()

    def delete_events(self, urgency: EventUrgency, upto: int) -> None:
        """Acknowledged or given up; a crash may bring them back, which does no harm."""
        keys = self._database.keys(f"event/{urgency}/")
        gone = [key for key in keys if int(key.rpartition("/")[2]) <= upto]
        if gone:
            self._database.write(dict.fromkeys(gone))

    def events(self, urgency: EventUrgency, first: int, last: int) -> list[bytes]:
        """Stored events, both ends included."""
        keys = (f"event/{urgency}/{seq:012d}" for seq in range(first, last + 1))
        return [body for key in keys if (body := self._database.read(key)) is not None]

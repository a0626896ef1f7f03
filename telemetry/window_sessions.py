"""What the numbers in a node's batches mean: series ids, batch numbers and the node's clock, for each session.

`windows.py` keeps the latest sessions of every node. Nothing here trusts the node: ids are bounded
by the wire's limits, and its clock only orders its own samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..descriptions.messages.telemetry import SERIES_MAX
from .metrics import Series

SKEW_S = 300.0
"""How long the shortest delay of a session is remembered, so that clocks may drift apart slowly."""
SEEN_BITS = 256
"""Batch numbers below the highest one for which a repetition is told from a late arrival."""


@dataclass
class Session:
    """One encoder of one agent run, as far as its batches have told."""

    slot_of: npt.NDArray[np.int64] = field(default_factory=lambda: np.full(64, -1, np.int64))
    histogram_of: dict[int, Series] = field(default_factory=dict)
    highest_seq: int = -1
    seen: int = 0
    skew_s: float = float("inf")
    skew_before_s: float = float("inf")
    skew_since_s: float = 0.0

    def is_repeated(self, seq: int) -> bool:
        """Note a batch number; whether it was noted before or is too old to tell (RFC 4303 §3.4.3)."""
        if seq > self.highest_seq:
            shift = seq - self.highest_seq
            self.seen = ((self.seen << min(shift, SEEN_BITS)) | 1) & ((1 << SEEN_BITS) - 1)
            self.highest_seq = seq
            return False
        behind = self.highest_seq - seq
        if behind >= SEEN_BITS or self.seen >> behind & 1:
            return True
        self.seen |= 1 << behind
        return False

    def to_local(self, newest_device_s: float, now_s: float) -> float:
        """What to add to the device's time to get ours: the smallest delay seen lately counts as none."""
        if now_s - self.skew_since_s > SKEW_S:
            self.skew_before_s, self.skew_s, self.skew_since_s = self.skew_s, float("inf"), now_s
        self.skew_s = min(self.skew_s, now_s - newest_device_s)
        return min(self.skew_s, self.skew_before_s)

    def slots(self, ids: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
        """The slot of each id, -1 for those that nothing was said of."""
        if len(ids) and int(ids.max()) < len(self.slot_of):
            return self.slot_of[ids]
        slots = np.full(len(ids), -1, np.int64)
        in_table = ids < len(self.slot_of)
        slots[in_table] = self.slot_of[ids[in_table]]
        return slots

    def point(self, series_id: int, slot: int) -> None:
        """Let the id stand for a slot."""
        if series_id >= len(self.slot_of):
            room = min(SERIES_MAX, max(2 * len(self.slot_of), series_id + 1))
            self.slot_of = np.concatenate((self.slot_of, np.full(room - len(self.slot_of), -1, np.int64)))
        self.slot_of[series_id] = slot

    def forget(self, slot: int) -> None:
        """Let no id stand for this slot any more."""
        self.slot_of[self.slot_of == slot] = -1

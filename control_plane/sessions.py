"""Which of a node's connections is the present one: births, wills and heartbeats in, a verdict on each out.

MQTT may deliver a will or a heartbeat of an older connection after the birth of a newer one, or deliver one twice; such
a message must not speak for the node (the rule of Sparkplug's bdSeq). Session ids are random, so age is told by memory:
what was superseded or willed stays ended. `membership.py` keeps one `Sessions` for each node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ENDED_MAX = 8
"""Ended sessions that are remembered."""
REVIVAL_BEATS = 3
"""An ended session that goes on for this many heartbeats was ended by a message that came late."""


@dataclass
class Sessions:
    """The present session of one node, and the last few before it."""

    current: str = ""
    """Empty when none is known or the last one was willed."""
    seq: int = -1
    """Highest heartbeat of the present session."""
    boot_id: str = ""
    ended: dict[str, int] = field(default_factory=dict)
    """Session id → highest heartbeat when it ended, oldest first."""

    def born(self, session: str, boot_id: str) -> bool:
        """A birth: true when the session is now the present one, false when it ended earlier."""
        if session in self.ended:
            return False
        if session != self.current:
            self._end_current()
            self.current, self.seq = session, -1
        self.boot_id = boot_id
        return True

    def willed(self, session: str) -> bool:
        """A will or farewell: true when it speaks for the present session, or when none is known yet."""
        if session in self.ended or (self.current and session != self.current):
            return False
        self.current = session
        self._end_current()
        return True

    def beat(self, session: str, seq: int, boot_id: str) -> bool:
        """A heartbeat: true when it shows that the node is alive now, false for an old or repeated one."""
        if session in self.ended:
            return self._revive(session, seq, boot_id)
        if not self.current and not self.ended:
            self.current = session  # after a start of the control plane the birth may be gone with a wiped broker
        if session != self.current or seq <= self.seq:
            return False
        self.seq, self.boot_id = seq, boot_id
        return True

    def _revive(self, session: str, seq: int, boot_id: str) -> bool:
        if seq < self.ended[session] + REVIVAL_BEATS:
            return False
        del self.ended[session]
        self._end_current()
        self.current, self.seq, self.boot_id = session, seq, boot_id
        return True

    def _end_current(self) -> None:
        if self.current:
            self.ended[self.current] = self.seq
            while len(self.ended) > ENDED_MAX:
                del self.ended[next(iter(self.ended))]
        self.current, self.seq = "", -1

"""Counts the faults of policies and fences those that go wrong again and again."""

from __future__ import annotations

from dataclasses import dataclass

from .snapshot import PolicyFault

STRIKES_MAX = 3
"""Faults after which a policy is fenced."""

FORGIVEN_AFTER = 100
"""Good answers in a row after which earlier faults no longer count, so that one fault a day never fences."""


@dataclass
class _Record:
    strikes: int = 0
    good: int = 0
    message: str = ""


class Fence:
    """Faults by policy name, since each was loaded."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    @property
    def is_clean(self) -> bool:
        """Whether nothing counts against any policy."""
        return not self._records

    def strike(self, policy: str, message: str) -> PolicyFault:
        """Count a fault."""
        record = self._records.setdefault(policy, _Record())
        record.strikes, record.good, record.message = record.strikes + 1, 0, message
        return PolicyFault(policy, message, record.strikes, record.strikes >= STRIKES_MAX)

    def note(self, policy: str, message: str) -> PolicyFault:
        """Tell of something wrong that is no fault in deciding, such as a file that can't be loaded."""
        strikes = self._records[policy].strikes if policy in self._records else 0
        return PolicyFault(policy, message, strikes, strikes >= STRIKES_MAX)

    def good(self, policy: str) -> None:
        """Count a good answer."""
        record = self._records.get(policy)
        if record is not None and record.strikes < STRIKES_MAX:
            record.good += 1
            if record.good >= FORGIVEN_AFTER:
                del self._records[policy]

    def reason(self, policy: str) -> str:
        """Why a policy is fenced; empty when it isn't."""
        record = self._records.get(policy)
        if record is None or record.strikes < STRIKES_MAX:
            return ""
        return f"fenced after {record.strikes} faults, the last: {record.message}"

    def strikes(self, policy: str) -> int:
        """Faults that count now."""
        return self._records[policy].strikes if policy in self._records else 0

    def forgive(self, policy: str) -> None:
        """Start anew: it was loaded again, or its Policy was applied again."""
        self._records.pop(policy, None)

"""The two clocks of an agent: one that never jumps, for decisions, and the wall clock, for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime

BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts suspend as well, where the system has it (Linux)."""


def boottime_s() -> float:
    """Seconds since boot; leases, deadlines and samples are on it."""
    return time.clock_gettime(BOOT_CLOCK)


def rfc3339() -> str:
    """Now, in UTC, by a clock that may be wrong by years."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

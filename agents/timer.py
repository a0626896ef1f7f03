"""One deadline of a core: `WakeAt` in, a call at that time out; a later one takes the place of an earlier one.

The event loop's own clock stops while the machine sleeps, so a long wait is cut into shorter ones and the boot clock is
asked again after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .clock import boottime_s

STEP_S_MAX = 5.0


class Timer:
    """Calls `wake` on the event loop when its time has come."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._at_s: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        """Wake at this time on the boot clock; at once if it has passed."""
        self._at_s = at_s
        self._schedule()

    def cancel(self) -> None:
        """Don't wake."""
        self._at_s = None
        if self._handle is not None:
            self._handle.cancel()

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._at_s is not None:
            wait_s = max(0.0, min(STEP_S_MAX, self._at_s - boottime_s()))
            self._handle = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        if self._at_s is None:
            return
        if boottime_s() < self._at_s:
            self._schedule()
            return
        self._at_s = None
        self._wake()

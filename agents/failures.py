"""When a failed replica is tried again: 1, 2, 4 … 300 s with jitter, forgotten after a healthy minute. Pure.

Five failures within ten minutes make a crash loop: the replica is reported as failed, so that the control plane can
act, and is still tried every five minutes, so that a node which is cut off heals by itself.
"""

from __future__ import annotations

from collections import deque
from random import Random

BACKOFF_S_MAX = 300.0
LOOP_COUNT = 5
LOOP_WINDOW_S = 600.0
HEALTHY_S = 60.0
JITTER = 0.1


class Failures:
    """The failures of one specification of one replica."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._recent: deque[float] = deque(maxlen=LOOP_COUNT)
        self._attempts = 0
        self.count = 0
        self.is_loop = False
        self.not_before_s = 0.0
        self.message = ""

    def add(self, now_s: float, message: str, healthy_s: float, *, refused: bool = False) -> None:
        """Count one; `healthy_s` is how long it had been ready before, `refused` that only a change here would help."""
        if healthy_s >= HEALTHY_S:
            self._recent.clear()
            self._attempts, self.is_loop = 0, False
        delay_s = BACKOFF_S_MAX if refused else min(BACKOFF_S_MAX, 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        self.count += 1
        self._recent.append(now_s)
        self.is_loop |= refused or (len(self._recent) == LOOP_COUNT and now_s - self._recent[0] <= LOOP_WINDOW_S)
        self.not_before_s = now_s + delay_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
        self.message = message

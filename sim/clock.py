"""A machine's clocks, none of which is the truth: a monotonic one with a rate of its own and a wall clock that jumps.

Agents and control planes are given `monotonic_s` (CLOCK_BOOTTIME: counts from boot, runs on while suspended) and, for
what people read, `wall_s`. `true_s` is how a deadline on the machine's clock finds its place on the kernel's agenda.
"""

from __future__ import annotations

WALL_ORIGIN_S = 1_767_225_600.0
"""2026-01-01T00:00:00Z, the wall clock at virtual time 0 on a machine whose clock is right."""


class Clock:
    """The clocks of one machine. `rate` is how many of its seconds pass in a true one."""

    def __init__(self, rate: float = 1.0, boot_age_s: float = 0.0) -> None:
        """`boot_age_s` is what the monotonic clock shows at virtual time 0."""
        self.rate = rate
        self.wall_offset_s = 0.0
        self._true_anchor_s = 0.0
        self._anchor_s = boot_age_s

    def monotonic_s(self, now_s: float) -> float:
        """The machine's monotonic clock at virtual time `now_s`."""
        return self._anchor_s + (now_s - self._true_anchor_s) * self.rate

    def true_s(self, monotonic_s: float) -> float:
        """The virtual time at which the monotonic clock shows `monotonic_s`."""
        return self._true_anchor_s + (monotonic_s - self._anchor_s) / self.rate

    def wall_s(self, now_s: float) -> float:
        """Seconds since 1970 as this machine believes."""
        return WALL_ORIGIN_S + now_s + self.wall_offset_s

    def set_rate(self, rate: float, now_s: float) -> None:
        """Run faster or slower from now on."""
        self._anchor_s, self._true_anchor_s, self.rate = self.monotonic_s(now_s), now_s, rate

    def reboot(self, now_s: float) -> None:
        """The monotonic clock starts again at 0; the wall clock keeps its error."""
        self._anchor_s, self._true_anchor_s = 0.0, now_s

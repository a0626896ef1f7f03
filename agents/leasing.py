"""The lease core's driver: heartbeats out, leases in, and the file that guards of single instances read.

`agent.py` makes one. Nothing here waits: a full disk or a slow mechanism never delays a heartbeat.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import assert_never

import psutil

from ..descriptions.errors import ShoalError
from ..descriptions.messages.codec import encode
from ..descriptions.messages.joining import JoinReply
from ..descriptions.messages.lease import Heartbeat
from . import lease as leases
from .clock import boottime_s
from .files import read_capped, write_whole
from .reconcile import Reconciler
from .reconcile_events import Event, FenceSeen, LeaseChanged
from .timer import Timer

logger = logging.getLogger(__name__)


@dataclass
class Leasing:
    """One node's heartbeats and lease."""

    reply: JoinReply
    boot_id: str
    lease_file: Path
    reconciler: Reconciler
    rng: Random
    new_id: Callable[[], str]
    post: Callable[[Event], None]
    """To the reconcile core."""
    send: Callable[[bytes], object]
    """Publish a heartbeat."""
    waiting: Callable[[], int]
    """Events in the outbox."""
    use_load_level: Callable[[int], None]
    ignored: int = 0
    """Leases that granted nothing."""
    core: leases.LeaseKeeper = field(init=False)
    _timer: Timer = field(init=False)

    def __post_init__(self) -> None:
        """Take over what an earlier run of the agent was granted in this boot."""
        told = read_capped(self.lease_file, 64) or b""
        until_s = float(told) if told.replace(b".", b"", 1).isdigit() else 0.0
        self.core = leases.LeaseKeeper(self.reply.heartbeat_s, self.reply.lease_s, self.rng, until_s)
        self._timer = Timer(lambda: self.handle(leases.Woken(self.new_id())))

    def handle(self, event: leases.Event) -> None:
        """Give an event to the core and carry its effects out."""
        for effect in self.core.handle(event, boottime_s()):
            match effect:
                case leases.SendHeartbeat():
                    self._beat(effect)
                case leases.LeaseHeld():
                    self.post(LeaseChanged(self.new_id(), effect.held))
                case leases.LeaseUntil():
                    if self._has_single_instances():
                        self.write_file()
                case leases.UseLoadLevel():
                    self.use_load_level(effect.level)
                case leases.SawFence():
                    self.post(FenceSeen(self.new_id(), effect.fence))
                case leases.Ignored():
                    self.ignored += 1
                    logger.debug("lease ignored: %s", effect.reason)
                case leases.WakeAt():
                    self._timer.set(effect.at_s)
                case _:
                    assert_never(effect)

    def _has_single_instances(self) -> bool:
        desired = self.reconciler.desired
        spec = desired.spec if desired is not None else None
        return spec is not None and any(one.single_instance for one in spec.replicas)

    def write_file(self) -> None:
        """For guards, which end single instances even when this process cannot; need not survive a reboot."""
        with contextlib.suppress(ShoalError):
            write_whole(self.lease_file, f"{self.core.until_s:.3f}".encode(), durable=False)

    def _beat(self, effect: leases.SendHeartbeat) -> None:
        desired = self.reconciler.desired
        beat = Heartbeat(
            self.reply.node_uid,
            effect.session,
            self.boot_id,
            effect.seq,
            desired.generation if desired else 0,
            desired.epoch if desired else 0,
            desired.digest if desired else "",
            psutil.cpu_percent() / 100,
            self.waiting(),
            *self.reconciler.seen,
        )
        with contextlib.suppress(ShoalError):  # not connected: no answer, so no lease
            self.send(encode(beat))

    def close(self) -> None:
        """No more heartbeats."""
        self._timer.cancel()

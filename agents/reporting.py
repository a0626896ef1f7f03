"""Publishes the node's latest report: at once when something has changed, then at most a few times a second.

`run.py` makes one. The report is a whole picture, so one that was lost is made good by the next; it is published anew
on every connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from ..descriptions.errors import ProtocolError, ShoalError, TransportError
from ..descriptions.mechanism import Options, Status
from ..descriptions.messages.codec import encode
from ..descriptions.messages.reported import Inventory, MechanismReport, NodeCondition, Reported
from ..mechanisms.mechanism import Mechanism
from .reconcile import Reconciler
from .runners import Runners

logger = logging.getLogger(__name__)

GAP_S = 0.2
"""Between two reports."""
LOOK_S = 15.0
"""Between two looks at conditions and mechanisms."""
STATUS_BYTES_MAX = 16 * 1024


@dataclass
class Reporter:
    """One node's reports."""

    node: str
    boot_id: str
    incarnation: int
    reconciler: Reconciler
    runners: Runners
    inventory: Inventory
    gateway: Callable[[], str]
    conditions: Callable[[], tuple[NodeCondition, ...]]
    send: Callable[[bytes], object]
    """Publish a report, retained."""
    seq: int = 0
    _mechanisms: tuple[MechanismReport, ...] = ()
    _told: tuple[object, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_forced: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin to report and to look around."""
        self._tasks = [
            asyncio.create_task(self._run(), name="reporting"),
            asyncio.create_task(self._look_around(), name="looking-around"),
        ]

    def changed(self, *, anew: bool = False) -> None:
        """Something may have changed; `anew` publishes in any case (a new connection)."""
        self._is_forced |= anew
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._publish()
            await asyncio.sleep(GAP_S)

    def _publish(self) -> None:
        report = self.latest()
        told = (report.epoch, report.observed_generation, report.digest, report.replicas, report.conditions,
                report.mechanisms, report.gateway)  # fmt: skip
        if told == self._told and not self._is_forced:
            return
        self.seq += 1
        try:
            self.send(encode(msgspec.structs.replace(report, seq=self.seq)))
        except (TransportError, ProtocolError) as error:
            logger.debug("report=%d not sent, the next connection brings it: %s", self.seq, error)
            return
        self._told, self._is_forced = told, False

    def latest(self) -> Reported:
        """The node as it is."""
        desired = self.reconciler.desired
        return Reported(
            self.node,
            self.boot_id,
            self.incarnation,
            self.seq,
            desired.epoch if desired else 0,
            desired.generation if desired else 0,
            desired.digest if desired else "",
            self.reconciler.reports(),
            self.conditions(),
            self._mechanisms,
            self.inventory,
            self.gateway(),
        )

    async def _look_around(self) -> None:
        while True:
            await self.look_at_mechanisms()
            self.changed()
            await asyncio.sleep(LOOK_S)

    async def look_at_mechanisms(self) -> None:
        """Ask every mechanism what it offers and what is set."""
        found = [await self._ask(name) for name in sorted(self.runners.mechanisms)]
        if tuple(found) != self._mechanisms:
            self._mechanisms = tuple(found)
            self.changed()

    async def _ask(self, name: str) -> MechanismReport:
        def ask(one: Mechanism) -> tuple[Options, Status]:
            return one.options(), one.status()

        try:
            options, status = await self.runners.call(name, ask)
            verbs = tuple(option.verb for option in options.verbs)
            return MechanismReport(name, verbs, _capped(encode(options)), _capped(encode(status)))
        except ShoalError as error:
            return MechanismReport(name, options=encode(Options(reason=str(error)[:1024])).decode())

    async def close(self) -> None:
        """Stop reporting."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _capped(encoded: bytes) -> str:
    return encoded.decode() if len(encoded) <= STATUS_BYTES_MAX else "{}"

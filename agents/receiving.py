"""The node's OTLP/HTTP receiver, at an address that components keep while the agent restarts.

`agent.py` opens it before anything is started, because components find its URL in their environment; any free port is
remembered in the runtime folder and taken again by the next run. Without it the node works all the same.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..descriptions.errors import ShoalError
from ..telemetry.receiver import OtlpReceiver, Received
from .clock import boottime_s
from .config import ReceiverOptions
from .files import read_capped, write_whole

logger = logging.getLogger(__name__)

PORT_FILE = "otlp-port"


@dataclass
class Receiving:
    """Takes what application code pushes."""

    options: ReceiverOptions
    folder: Path
    is_here: Callable[[str], bool]
    """Whether a replica, or a component named `application.component`, is this node's."""
    received: Received = field(init=False)
    _receiver: OtlpReceiver | None = None

    def __post_init__(self) -> None:
        """What comes in is held here until the sampler asks for it."""
        self.received = Received(boottime_s, self.is_here)

    @property
    def url(self) -> str:
        """Empty when it is off or could not listen."""
        return self._receiver.url if self._receiver is not None else ""

    async def open(self) -> str:
        """Listen, at the port of the run before if it is free; why it does not, or nothing."""
        problem = ""
        for port in self._ports() if self.options.enabled else ():
            receiver = OtlpReceiver(self.received, port=port, clock=boottime_s)
            try:
                await receiver.__aenter__()
            except OSError as error:
                problem = f"port {port}: {error.strerror or error}"
                continue
            self._receiver = receiver
            with contextlib.suppress(ShoalError):
                port_text = receiver.url.rpartition(":")[2]
                write_whole(self.folder / PORT_FILE, port_text.encode(), durable=False)
            return ""
        return problem

    def _ports(self) -> tuple[int, ...]:
        told = (read_capped(self.folder / PORT_FILE, 16) or b"").strip()
        before = int(told) if told.isdigit() and int(told) < 65536 else 0
        wanted = self.options.port
        return (wanted,) if wanted or not before else (before, 0)

    async def close(self) -> None:
        """Stop listening."""
        if self._receiver is not None:
            await self._receiver.__aexit__(None, None, None)
            self._receiver = None

"""The embedded broker of a control plane that was given none: started, taken over after a crash, started again.

A control plane that is killed leaves its broker running, so agents don't notice; the next one finds it by its folder
and takes it over. In production the broker is a server of its own and nothing here runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from ..descriptions.errors import TransportError
from ..telemetry.broker_process import EmbeddedBroker
from ..telemetry.credentials import CONTROL_PLANE, BrokerCredentials

logger = logging.getLogger(__name__)

LOOK_S = 1.0
STOP_S = 5.0


class OwnBroker:
    """Use it with `async with`; `watch` keeps it running."""

    def __init__(self, folder: Path, credentials: BrokerCredentials, port: int) -> None:
        self._folder = folder
        self._broker = EmbeddedBroker(folder, credentials, port=port)
        self._adopted: psutil.Process | None = None

    @property
    def url(self) -> str:
        """`mqtt://127.0.0.1:port`."""
        return self._broker.url

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop)

    async def watch(self) -> None:
        """Start it again on the same port whenever it has ended."""
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._is_running():
                logger.warning("the embedded broker has ended: starting it again on port %d", self._broker.port)
                with contextlib.suppress(TransportError):
                    await asyncio.to_thread(self._broker.start)
                self._adopted = None

    def _start(self) -> None:
        if not self._adopt():
            self._broker.start()
        (self._folder / "pid").write_text(str(self._adopted.pid if self._adopted else self._broker.pid))

    def _adopt(self) -> bool:
        """Take over the broker that an earlier control plane left behind."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._folder / "pid").read_text()))
            if str(self._folder / "credentials.json") not in process.cmdline():
                return False
            self._broker.port = int((self._folder / "ready").read_text())
            if self._broker.can_log_in(CONTROL_PLANE):
                logger.info("taking over the embedded broker that runs at %s", self.url)
                self._adopted = process
                return True
            process.kill()
            process.wait(STOP_S)
        return False

    def _is_running(self) -> bool:
        if self._adopted is not None:
            return self._adopted.is_running() and self._adopted.status() != psutil.STATUS_ZOMBIE
        return self._broker.process is not None and self._broker.process.poll() is None

    def _stop(self) -> None:
        if self._adopted is not None:
            with contextlib.suppress(psutil.Error):
                self._adopted.terminate()
                self._adopted.wait(STOP_S)
        self._broker.stop()

"""Exchanges that take a task to answer: what the task raises becomes a 500, so that no client waits for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial

from .exchange import Exchange

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class AnswerTasks:
    """Running tasks, each answering one exchange."""

    loop: asyncio.AbstractEventLoop
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, exchange: Exchange, answering: Coroutine[None, None, None], name: str) -> None:
        """Run it."""
        task = self.loop.create_task(answering, name=name)
        self._running.add(task)
        task.add_done_callback(partial(self._done, exchange))

    async def close(self, drain_s: float) -> None:
        """Wait for what runs, then give it up."""
        tasks = list(self._running)
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            exchange.refuse(503, "the gateway is shutting down", retry_after_s=1.0)
        elif (error := task.exception()) is not None:
            logger.error("task=%s failed", task.get_name(), exc_info=error)
            exchange.refuse(500, "the gateway made a mistake; its log says which")

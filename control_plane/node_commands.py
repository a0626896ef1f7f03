"""One-shot verbs on nodes (logs, restart, measure): a command out on `down/cmd`, its result in from `up/cmdres`.

The same id always gets the same result, so a command that is sent twice is done once. Used by `logs.py` and
`services.py`; the link's messages come through `driver.py`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from ..descriptions.errors import RefusedError, TransportError
from ..descriptions.messages.lease import Command
from ..descriptions.messages.reported import CommandResult
from .wire import Wire

DEADLINE_S = 10.0
WAITING_MAX = 1000
"""Commands without an answer at one time."""
SLACK_S = 2.0


@dataclass
class NodeCommands:
    """Commands on their way."""

    wire: Wire
    fence: Callable[[], int]
    _waiting: dict[str, tuple[str, asyncio.Future[CommandResult]]] = field(default_factory=dict)
    """Command id → the node that was asked, and who waits."""

    async def ask(
        self, uid: str, verb: str, arguments: Mapping[str, msgspec.Raw], *, deadline_s: float = DEADLINE_S
    ) -> CommandResult:
        """Ask a node to do something and wait for its answer.

        Raises `TransportError` when it can't be sent or nobody answers in time, `RefusedError` when too many wait.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise RefusedError(f"{WAITING_MAX} commands wait for an answer already")
        command = Command(uuid.uuid4().hex, verb, self.fence(), deadline_s, dict(arguments))
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._waiting[command.id] = (uid, future)
        try:
            self.wire.command(uid, command)
            async with asyncio.timeout(deadline_s + SLACK_S):
                return await future
        except TimeoutError:
            raise TransportError(f"no answer to {verb!r} within {deadline_s + SLACK_S:g} s") from None
        finally:
            del self._waiting[command.id]

    def answered(self, uid: str, result: CommandResult) -> None:
        """A result came; one that nobody waits for, or of another node, is dropped."""
        asked, future = self._waiting.get(result.id, ("", None))
        if future is not None and asked == uid and not future.done():
            future.set_result(result)

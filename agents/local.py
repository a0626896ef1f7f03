"""The agent's own small socket: `shoal agent status` and `shoal agent drain` ask it, on the node alone.

One JSON line in, one out, over a Unix socket in the runtime folder that only this user (and root) can open. `agent.py`
answers; the client half is used by `cli.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from ..descriptions.errors import ProtocolError, RefusedError, TransportError
from ..descriptions.messages.codec import Message, decode, encode
from ..descriptions.messages.reported import Reported

logger = logging.getLogger(__name__)

FILE = "agent.sock"
LINE_MAX = 1024 * 1024
ASK_S = 10.0


class LocalRequest(Message, frozen=True):
    """What the command line asks."""

    verb: Literal["status", "drain", "undrain"]


class LocalReply(Message, frozen=True, omit_defaults=False):
    """How the agent is."""

    node: str
    slice: str
    version: str
    pid: int
    connected: bool
    draining: bool
    idle: bool
    """Nothing runs."""
    waiting: int
    """Events that the control plane has not acknowledged."""
    commits: int
    """Transactions of the agent's database since it started."""
    report: Reported


Answer = Callable[[LocalRequest], Awaitable[LocalReply]]


class LocalServer:
    """Answers on the socket."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self._path = folder / FILE
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; an old socket of a killed agent is replaced (the state folder's lock says there is no other)."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_MAX)
        finally:
            os.umask(before)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                request = decode(LocalRequest, await reader.readline())
                writer.write(encode(await self._answer(request)) + b"\n")
                await writer.drain()
        except (ProtocolError, OSError, TimeoutError, ValueError) as error:
            logger.warning("local request refused: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)


def ask_agent(folder: Path, request: LocalRequest) -> LocalReply:
    """Ask the agent whose runtime folder this is. Blocking; `RefusedError` when none runs."""
    path = folder / FILE
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ASK_S)
            connection.connect(str(path))
            connection.sendall(encode(request) + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(LINE_MAX)
    except (FileNotFoundError, ConnectionRefusedError):
        raise RefusedError(f"no agent runs here ({path}); is it another user's, or another stateDir?") from None
    except OSError as error:
        raise TransportError(f"{path}: {error}") from error
    return decode(LocalReply, line, LINE_MAX)

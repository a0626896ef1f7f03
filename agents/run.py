"""Runs one node's agent from its configuration to its end: state folder, identity, mechanisms, then `Agent`.

`cli.py` calls `run_agent`. A node that has joined before starts from its own disk; only one that has not asks the
network first. SIGTERM and SIGINT end the agent and leave everything that it started running.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import signal
from pathlib import Path
from random import Random

from .. import __version__
from ..descriptions.errors import RefusedError
from ..mechanisms.registry import make_mechanisms
from ..telemetry.logs import RecentLogs
from .agent import Agent
from .config import AgentOptions
from .disk import Disk
from .enrol import enrol
from .files import private_folder
from .identity import Identity, load_identity
from .inventory import take_inventory
from .local import LocalReply, LocalRequest, LocalServer

logger = logging.getLogger(__name__)

LOCK_FILE = "agent.lock"


async def run_agent(options: AgentOptions, own_log: RecentLogs, *, stop_replicas: bool = False) -> None:
    """Run until SIGTERM or SIGINT. `stop_replicas` ends what runs on the node as well, when the agent is told to end.

    Raises `RefusedError` when another agent has the state folder or the join token is not accepted, `DiskBrokenError`
    when the disk failed: then start again.
    """
    os.umask(0o077)  # state and logs are nobody else's
    mechanisms = make_mechanisms(options.mechanisms)
    private_folder(options.state)
    private_folder(options.runtime)
    lock = _lock(options.state / LOCK_FILE)
    stop = _stop_signals()
    disk = Disk(options.state, options.outbox.reserve)
    rng = Random()
    try:
        identity = load_identity(options.state) or await _enrol_until(stop, options, rng)
        if identity is None:
            return
        agent = Agent(options, identity, disk, mechanisms, own_log, rng)
        logger.info("shoal agent %s, %s, run %d", __version__, identity, disk.incarnation)
        server = LocalServer(options.runtime, lambda request: _answer(agent, request))
        await server.start()
        _settle_memory()
        try:
            await agent.run(stop, stop_replicas=stop_replicas)
        finally:
            await server.close()
    finally:
        disk.close()
        os.close(lock)


def _settle_memory() -> None:
    """What is here now lives as long as the process: don't look at it again, and give back what importing took."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _lock(path: Path) -> int:
    """Hold the state folder for the life of this process."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RefusedError(f"another agent has {path.parent}") from None
    return lock


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _enrol_until(stop: asyncio.Event, options: AgentOptions, rng: Random) -> Identity | None:
    """The identity, or None when told to stop before there is one."""
    inventory = await asyncio.to_thread(take_inventory, options.state, options.inventory)
    joining = asyncio.create_task(enrol(options, inventory, rng), name="enrol")
    stopping = asyncio.create_task(stop.wait(), name="stopping")
    try:
        await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
        return joining.result() if joining.done() else None
    finally:
        for task in (joining, stopping):
            task.cancel()
        await asyncio.gather(joining, stopping, return_exceptions=True)


async def _answer(agent: Agent, request: LocalRequest) -> LocalReply:
    if request.verb != "status":
        await agent.drain(wanted=request.verb == "drain")
    reply = agent.identity.reply
    return LocalReply(
        node=reply.node_name,
        slice=reply.slice,
        version=__version__,
        pid=os.getpid(),
        connected=agent.wire.is_up,
        draining=agent.is_draining,
        idle=agent.reconciler.is_idle,
        waiting=agent.spool.core.waiting,
        commits=agent.disk.database.commits,
        report=agent.reporter.latest(),
    )

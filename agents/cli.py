"""`shoal agent …`: run the agent, ask it, make it a service. argparse alone, so that a small node loads nothing more.

The root `__main__.py` calls `main`. Running is what happens without a command.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..descriptions.errors import DescriptionError, RefusedError, ShoalError
from .config import SYSTEM_CONFIG, AgentOptions, load_config

DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 4
DRAIN_S = 60.0
LOOK_S = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 usage, 4 refused."""
    arguments = _parser().parse_args(argv)
    if getattr(arguments, "service", None):
        from .service import run_service_command

        return run_service_command(arguments)
    try:
        options = load_config(arguments.config, os.environ)
        if arguments.command == "status":
            return _status(options, arguments.output)
        if arguments.command == "drain":
            return _drain(options, arguments)
        return _run(options, stop_replicas=arguments.stop_replicas)
    except DescriptionError as error:
        for one in error.all:
            print(f"shoal agent: {one}", file=sys.stderr)
        return USAGE
    except RefusedError as error:
        print(f"shoal agent: {error}", file=sys.stderr)
        return REFUSED
    except ShoalError as error:
        print(f"shoal agent: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shoal agent",
        description="One node's agent. Without a command it runs until SIGTERM; what it started goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shoal {__version__}")
    parser.add_argument("--config", type=Path, help=f"configuration file ({SYSTEM_CONFIG} if there is one)")
    parser.add_argument("--stop-replicas", action="store_true", help="end what runs on the node with the agent")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run the agent (the default)")
    status = commands.add_parser("status", help="tell what the agent on this machine runs")
    status.add_argument("-o", "--output", choices=("human", "json"), default="human")
    drain = commands.add_parser("drain", help="stop everything on this node, in-flight requests finished")
    drain.add_argument("--undo", action="store_true", help="run again what is wanted here")
    drain.add_argument("--timeout", type=float, default=DRAIN_S, metavar="SECONDS", help="how long to wait for it")
    from .service import add_service_commands

    add_service_commands(commands)
    return parser


def _run(options: AgentOptions, *, stop_replicas: bool) -> int:
    import logging

    from ..telemetry.logs import RecentLogs, set_up_logging
    from .run import run_agent

    set_up_logging(options.log_level, options.log_format)
    own_log = RecentLogs()
    logging.getLogger().addHandler(own_log)
    gc.set_threshold(10_000, 50, 50)  # few objects are made at rest, so looking rarely costs nothing
    asyncio.run(run_agent(options, own_log, stop_replicas=stop_replicas))
    return DONE


def _status(options: AgentOptions, output: str) -> int:
    from ..descriptions.messages.codec import encode
    from .local import LocalRequest, ask_agent

    reply = ask_agent(options.runtime, LocalRequest("status"))
    if output == "json":
        print(encode(reply).decode())
        return DONE
    link = "connected" if reply.connected else "not connected"
    drained = ", drained" if reply.draining else ""
    print(f"{reply.node} of slice {reply.slice}: agent {reply.version}, pid {reply.pid}, {link}{drained}")
    report = reply.report
    print(f"desired state: epoch {report.epoch}, generation {report.observed_generation}; {reply.waiting} events wait")
    for replica in report.replicas:
        told = f": {replica.message}" if replica.message else ""
        print(f"  {replica.phase:9} {replica.id} revision {replica.revision}, pid {replica.pid}{told}")
    for condition in report.conditions:
        print(f"  {condition.type}={condition.status} {condition.reason} {condition.message}".rstrip())
    return DONE


def _drain(options: AgentOptions, arguments: argparse.Namespace) -> int:
    from .local import LocalRequest, ask_agent

    reply = ask_agent(options.runtime, LocalRequest("undrain" if arguments.undo else "drain"))
    deadline_s = time.monotonic() + arguments.timeout
    while not (arguments.undo or reply.idle):
        if time.monotonic() >= deadline_s:
            print(f"shoal agent: {len(reply.report.replicas)} replicas run still", file=sys.stderr)
            return FAILED
        time.sleep(LOOK_S)
        reply = ask_agent(options.runtime, LocalRequest("status"))
    print("takes replicas again" if arguments.undo else "nothing runs here any more")
    return DONE

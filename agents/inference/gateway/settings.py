"""The gateway's command line to its settings; `docs/inference.md` repeats the flags."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ....descriptions.errors import RefusedError
from ..plugins import BUILT_IN

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one gateway takes before it refuses; each refusal has a status of its own."""

    body_bytes_max: int = 64 * MIB
    """413 above it, also for a compressed body once it is unpacked."""
    buffered_bytes_max: int = 256 * MIB
    """All bodies being received or waiting together; 503 above it."""
    in_flight_max: int = 1024
    """Requests being handled; 503 above it."""
    connections_max: int = 1024
    """Open client connections; more are closed at once."""
    head_bytes_max: int = 16 * 1024
    """Request line and headers together; 431 above it."""
    head_s_max: float = 10.0
    """Until the head is there, from the first byte (or the connection) on; 408 above it."""
    body_s_max: float = 60.0
    """Until the body is there; 408 above it."""
    idle_s_max: float = 75.0
    """A kept-alive connection without a request is closed."""
    write_s_max: float = 60.0
    """A client that doesn't read its answer is cut off."""
    queue_s_max: float = 10.0
    """Longest wait for a worker that is starting again or busy; then 503."""


@dataclass(frozen=True)
class Settings:
    """Everything that the command line decides."""

    dir: Path
    """Holds gateway.json, gateway.lock, the sockets and `logs/`."""
    host: str
    port: int
    node: str = ""
    """This node's uid: routes that point back to it are skipped."""
    token_file: Path | None = None
    predictors: tuple[Path, ...] = ()
    plugins: tuple[str, ...] = tuple(BUILT_IN)
    hops_max: int = 2
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    limits: Limits = Limits()


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Read the flags; `SystemExit(2)` for wrong ones, `RefusedError` for an unsafe combination."""
    arguments = _parser().parse_args(argv)
    host, port = arguments.http
    settings = Settings(
        dir=arguments.dir.resolve(),
        host=host,
        port=port,
        node=arguments.node,
        token_file=arguments.token_file,
        predictors=tuple(folder.resolve() for folder in arguments.predictors),
        plugins=tuple(arguments.plugin or BUILT_IN),
        hops_max=arguments.hops_max,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        limits=Limits(
            body_bytes_max=arguments.body_max_mib * MIB,
            buffered_bytes_max=max(256, 2 * arguments.body_max_mib) * MIB,
            in_flight_max=arguments.in_flight_max,
            connections_max=arguments.connections_max,
            queue_s_max=arguments.queue_s_max,
        ),
    )
    if not is_loopback(host) and settings.token_file is None and not arguments.insecure:
        raise RefusedError(f"{host} can be reached from other machines: give --token-file, or --insecure to go without")
    return settings


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shoal-gateway", description="A node's inference gateway.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--dir", type=Path, required=True, help="folder of gateway.json, lock, sockets and logs; one gateway each")
    add("--http", type=_address, default=("127.0.0.1", 8080), metavar="HOST:PORT", help="port 0 takes any free one")
    add("--node", default="", help="uid of this node")
    add(
        "--token-file",
        type=Path,
        help="bearer tokens that clients need, one a line, mode 0600; read again when changed",
    )
    add("--insecure", action="store_true", help="allow an address beyond loopback without tokens")
    add("--predictors", type=Path, action="append", default=[], metavar="DIR", help="allow Python predictors from here")
    add("--plugin", action="append", metavar="NAME", help=f"enable only these plugins (default: {', '.join(BUILT_IN)})")
    add("--hops-max", type=_positive, default=2, help="nodes that may forward one request")
    add("--body-max-mib", type=_positive, default=64)
    add("--in-flight-max", type=_positive, default=1024)
    add("--connections-max", type=_positive, default=1024)
    add("--queue-s-max", type=_seconds, default=10.0)
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add("--log-format", choices=("text", "json"), default="text")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, above 0 and at most 3600")
    return seconds


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)

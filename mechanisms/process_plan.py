"""Turns what a description says of a process into what may be executed here: program, environment, ports, limits.

`process.py` makes a `Plan` for each start and hands it to `launcher.py`. Everything a description says is checked
against what the node's operator allowed; the shell is never involved.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterable, Mapping
from math import ceil
from pathlib import Path

import msgspec

from ..descriptions.errors import RefusedError, TransportError
from ..descriptions.messages.desired import ProcessTask, ReplicaSpec
from .runner import Host

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NICE_UNDER_ONE_CORE = 5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Plan(msgspec.Struct, frozen=True):
    """What the launcher does; JSON on its standard input."""

    argv: tuple[str, ...]
    env: dict[str, str]
    folder: str
    open_files: int
    memory_bytes: int
    cores: tuple[int, ...]
    """Cores to run on; empty for all."""
    nice: int
    cgroup: str
    """Folder of the group; empty where there is none."""
    lease: str
    """File with the end of the lease, for single instances; empty for all others."""


def resolve_program(command: str, allowed: Iterable[str]) -> str:
    """The path to execute; `RefusedError` when the operator did not allow it.

    Allowed are names (`python3`, found in the system's folders), absolute paths, and folders of programs (`/opt/app/`),
    whose programs descriptions may call by name too: so the same description fits nodes that keep them elsewhere.
    """
    names = tuple(allowed)
    if Path(command).is_absolute():
        is_named = command in names or any(
            one.endswith("/") and str(Path(command).parent) + "/" == one for one in names
        )
        if not is_named or os.path.normpath(command) != command:
            raise RefusedError(_not_allowed(command, names))
        path: str | None = command
    elif "/" in command:
        raise RefusedError(_not_allowed(command, names))
    elif command in names:
        path = shutil.which(command, path=SEARCH_PATH)
    else:
        folders = (one + command for one in names if one.endswith("/"))
        path = next((one for one in folders if Path(one).is_file()), None)
        if path is None:
            raise RefusedError(_not_allowed(command, names))
    if path is None or not os.access(path, os.X_OK) or not Path(path).is_file():
        raise RefusedError(f"the program {command!r} is allowed and not there")
    return path


def _not_allowed(command: str, allowed: tuple[str, ...]) -> str:
    listed = ", ".join(allowed) or "no program"
    return f"the program {command[:255]!r} is not allowed here: agent.yaml, mechanisms.process.programs has {listed}"


def choose_ports(task: ProcessTask, before: Mapping[str, int], taken: set[int]) -> dict[str, int]:
    """Fixed ports as they are, free ones for the rest, preferably those of `before`; never one of `taken`."""
    ports: dict[str, int] = {}
    for port in task.ports:
        wanted = port.port or before.get(port.name, 0)
        ports[port.name] = port.port or _free_port(wanted, taken | set(ports.values()))
    return ports


def _free_port(wanted: int, taken: set[int]) -> int:
    for number in (wanted, *[0] * 16):
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", number))
                found = int(probe.getsockname()[1])
        except OSError:
            continue
        if found not in taken:
            return found
    raise TransportError("no free TCP port")


def environment(
    spec: ReplicaSpec, task: ProcessTask, host: Host, ports: Mapping[str, int], folder: Path
) -> dict[str, str]:
    """A small, clean environment; the description adds to it and cannot change how programs are found and linked."""
    component = f"{spec.application}.{spec.component}"
    own = {
        "PATH": SEARCH_PATH,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "SHOAL_NODE": host.node,
        "SHOAL_SLICE": host.slice,
        "SHOAL_APPLICATION": spec.application,
        "SHOAL_COMPONENT": spec.component,
        "SHOAL_REPLICA": spec.id,
        "SHOAL_GATEWAY": host.gateway_url(),
        "OTEL_SERVICE_NAME": component,
        "OTEL_RESOURCE_ATTRIBUTES": f"shoal.replica={spec.id},shoal.node={host.node},shoal.slice={host.slice}",
    } | {f"SHOAL_PORT_{name.upper().replace('-', '_')}": str(port) for name, port in ports.items()}
    if otlp := host.otlp_url():
        own |= {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    for name, value in task.env.items():
        if not _NAME.fullmatch(name) or name.startswith(("LD_", "DYLD_", "SHOAL_")) or name == "PATH" or "\0" in value:
            raise RefusedError(f"the description must not set the variable {name[:64]!r}")
    return own | task.env


def usable_cores() -> tuple[int, ...]:
    """The cores that the agent itself may use; none where the system doesn't tell."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    return tuple(sorted(affinity(0))) if affinity else ()


def cores_for(replica: str, cpu: float, available: Iterable[int]) -> tuple[int, ...]:
    """Which cores stand in for a CPU limit where there are no cgroups; different replicas begin at different ones."""
    cores = sorted(available)
    count = ceil(cpu)
    if not cpu or count >= len(cores):
        return ()
    first = zlib.crc32(replica.encode()) % len(cores)
    return tuple(sorted(cores[(first + step) % len(cores)] for step in range(count)))

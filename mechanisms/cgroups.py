"""Limits on groups of processes by cgroup v2, where the agent may make groups: root, or systemd's `Delegate=yes`.

`process.py` asks for one group a replica and falls back to limits on single processes when there is none to be had.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

PERIOD_US = 100_000
AGENT = "agent"
REPLICAS = "replicas"


@dataclass(frozen=True)
class Cgroups:
    """The folder under which replicas get their groups."""

    folder: Path

    def create(self, name: str, cpu: float, memory_bytes: int) -> Path | None:
        """A group with these limits, 0 being none; None when the kernel refuses."""
        path = self.folder / name.replace("/", "_")
        try:
            path.mkdir(exist_ok=True)
            set_limits(path, cpu, memory_bytes)
        except OSError as error:
            logger.warning("cgroup=%s not used: %s", name, error)
            return None
        return path

    def remove(self, name: str) -> None:
        """Remove an empty group; one that still holds processes stays."""
        with contextlib.suppress(OSError):
            (self.folder / name.replace("/", "_")).rmdir()


def set_limits(path: Path, cpu: float, memory_bytes: int) -> None:
    """Write `cpu.max` and `memory.max`; swap would only hide that memory is short."""
    quota = str(max(1000, int(cpu * PERIOD_US))) if cpu else "max"
    (path / "cpu.max").write_text(f"{quota} {PERIOD_US}", encoding="ascii")
    (path / "memory.max").write_text(str(memory_bytes) if memory_bytes else "max", encoding="ascii")
    swap = path / "memory.swap.max"
    if memory_bytes and swap.exists():
        swap.write_text("0", encoding="ascii")


def open_cgroups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Cgroups | None:
    """Take the agent's own delegated group apart into `agent` and `replicas`; None where that is not allowed.

    A group with controllers for its children may hold no processes itself, so the agent moves one level down.
    """
    try:
        entries = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
        path = next(path for number, controllers, path in entries if number == "0" and not controllers)
        base = root / path.strip("/")
        if base.name == AGENT:
            base = base.parent  # an earlier run moved this process already
        if not {"cpu", "memory"} <= set((base / "cgroup.controllers").read_text(encoding="ascii").split()):
            return None
        (base / AGENT).mkdir(exist_ok=True)
        for pid in (base / "cgroup.procs").read_text(encoding="ascii").split():
            (base / AGENT / "cgroup.procs").write_text(pid, encoding="ascii")
        (base / REPLICAS).mkdir(exist_ok=True)
        for folder in (base, base / REPLICAS):
            (folder / "cgroup.subtree_control").write_text("+cpu +memory", encoding="ascii")
    except (OSError, StopIteration, ValueError) as error:
        logger.info("no cgroups (%s): replicas get rlimits and CPU affinity, uid=%d", error, os.geteuid())
        return None
    return Cgroups(base / REPLICAS)

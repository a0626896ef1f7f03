"""A process's memory as PSS: its own pages, and its share of those that it shares."""

from __future__ import annotations

from pathlib import Path


def pss_mib(pid: int) -> float:
    """Proportional set size in MiB; 0 when the process is gone. Costs the kernel a walk over its pages: some 0.5 ms."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0.0

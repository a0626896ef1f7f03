"""Becomes a replica's program: takes the plan from standard input, sets limits on itself, then executes the program.

A script of its own, run as `python -I -S launcher.py`, that imports nothing of ours: limits need no code between fork
and exec of the agent, and the program starts only after the agent has written down its pid, because the plan comes
after that (no plan, no program). Secrets in the environment travel in the plan, never in arguments.

With a lease in the plan the launcher stays as the program's parent and guard: when the lease runs out on CLOCK_BOOTTIME
it ends the program, even if the agent is dead or stopped; and the kernel ends the program if the guard dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

PLAN_MAX = 1024 * 1024
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL when the lease has run out."""
LOOK_S = 0.2
BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts suspend as well, where the system has it (Linux)."""
PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127


def main() -> None:
    """Take the plan; never returns."""
    data = sys.stdin.buffer.read(PLAN_MAX + 1)
    if not data or len(data) > PLAN_MAX:
        os._exit(CANNOT_RUN)  # the agent died before it could write down what it started
    plan = json.loads(data)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        os.chdir(plan["folder"])
        limit(plan)
        if plan["lease"]:
            guard(plan)
        execute(plan)
    except OSError as error:
        sys.stderr.write(f"shoal: {plan['argv'][0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(CANNOT_RUN)


def limit(plan: dict[str, Any]) -> None:
    """Open files always; CPU and memory by the cgroup where there is one, else as near as a process gets by itself."""
    files = min(plan["open_files"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if plan["cgroup"]:
        Path(plan["cgroup"], "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    elif plan["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (plan["memory_bytes"], plan["memory_bytes"]))
    if plan["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, plan["cores"])
    if plan["nice"]:
        os.nice(plan["nice"])
    with contextlib.suppress(OSError):
        # Under memory pressure a replica goes before the agent and the gateway.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def execute(plan: dict[str, Any]) -> None:
    """Become the program; its search path is the plan's, resolved already."""
    os.execve(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606 - to run a program is what it is for


def guard(plan: dict[str, Any]) -> None:
    """Run the program as a child for as long as the lease lasts; ends with its exit code."""
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            execute(plan)
        finally:
            os._exit(CANNOT_RUN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # the group gets it; the child decides when to end
    lease = Path(plan["lease"])
    kill_at_s = 0.0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        now_s = time.clock_gettime(BOOT_CLOCK)
        if kill_at_s:
            if now_s >= kill_at_s:
                os.kill(child, signal.SIGKILL)
        elif now_s >= lease_until_s(lease):
            kill_at_s = now_s + GRACE_S
            os.kill(child, signal.SIGTERM)
        time.sleep(LOOK_S)


def lease_until_s(path: Path) -> float:
    """When the lease ends, on CLOCK_BOOTTIME; 0 when that cannot be read: no lease, no program."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    main()

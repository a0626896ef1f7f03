"""Ends a single-instance replica of the gateway when its lease runs out, even if the agent is dead or stopped.

A script of its own, run as `python -I -S serving_guard.py LEASE ADMIN_SOCKET REPLICA`, beside each single-instance
replica that the gateway serves. It ends when the replica or the gateway has gone; `serving_session.py` starts another
where one is missing.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

LOOK_S = 0.2
BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts suspend as well, where the system has it (Linux)."""
APPEAR_S = 30.0
"""The replica is served soon after its guard has started, or never."""
DRAIN_S = 1.0
ANSWER_S = 5.0


def main(lease: Path, admin: str, replica: str) -> None:
    """Watch until there is nothing left to guard."""
    appears_by_s = time.monotonic() + APPEAR_S
    looked_s = 0.0
    while True:
        if time.clock_gettime(BOOT_CLOCK) >= lease_until_s(lease):
            ask(admin, "DELETE", f"/admin/replicas/{replica}?drain_s={DRAIN_S:g}")
        if time.monotonic() - looked_s >= 1.0:
            looked_s = time.monotonic()
            if ask(admin, "GET", f"/admin/replicas/{replica}") != 200:
                if looked_s >= appears_by_s:
                    return
            else:
                appears_by_s = 0.0
        time.sleep(LOOK_S)


def ask(admin: str, method: str, target: str) -> int:
    """The status of the answer; 0 when nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(admin)
            head = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode("ascii"))
            return int(connection.recv(64).split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def lease_until_s(path: Path) -> float:
    """When the lease ends, on CLOCK_BOOTTIME; 0 when that cannot be read."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

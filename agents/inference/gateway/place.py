"""The gateway's folder: who holds it, where its sockets are, and the file by which an agent finds it.

`gateway.lock` is held by flock for the life of the process, so a stale `gateway.json` never means a second gateway.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ....descriptions.errors import RefusedError
from ....descriptions.messages.gateway import GatewayFile

SOCKET_PATH_BYTES_MAX = 107
"""sockaddr_un holds 108 bytes with the final NUL."""


@dataclass(frozen=True)
class Place:
    """Paths in `--dir`."""

    dir: Path

    @property
    def file(self) -> Path:
        return self.dir / "gateway.json"

    @property
    def admin(self) -> Path:
        return self.dir / "admin.sock"

    @property
    def inference(self) -> Path:
        return self.dir / "inference.sock"

    @property
    def logs(self) -> Path:
        return self.dir / "logs"

    def take(self) -> int:
        """Make the folder and lock it; the descriptor holds the lock. `RefusedError` when another gateway has it."""
        if len(os.fsencode(self.inference)) > SOCKET_PATH_BYTES_MAX:
            raise RefusedError(
                f"{self.inference} is too long for a Unix socket (at most {SOCKET_PATH_BYTES_MAX} bytes)"
            )
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True, mode=0o700)
        lock = os.open(self.dir / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RefusedError(f"another gateway holds {self.dir}") from None
        for socket_path in (self.admin, self.inference):
            socket_path.unlink(missing_ok=True)  # of a gateway that was killed
        return lock

    def publish(self, contents: GatewayFile) -> None:
        """Write `gateway.json` at once or not at all."""
        draft = self.file.with_name("gateway.json.new")
        draft.write_bytes(msgspec.json.encode(contents))
        draft.chmod(0o600)
        draft.replace(self.file)

    def leave(self) -> None:
        """Remove what points to this process."""
        for path in (self.file, self.admin, self.inference):
            path.unlink(missing_ok=True)


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of a process (field 22 of `/proc/<pid>/stat`); `OSError` when it is gone."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])

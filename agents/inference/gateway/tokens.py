"""Bearer tokens from a file: compared in constant time, read again when the file changes."""

from __future__ import annotations

import hashlib
import hmac
import stat
import time
from pathlib import Path

from ....descriptions.errors import RefusedError

FILE_BYTES_MAX = 64 * 1024
LOOK_S = 1.0
"""Least time between two looks at the file."""


class TokenFile:
    """Accepted tokens, one a line; empty lines and those that start with `#` don't count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests = _read(path)
        self._changed_ns = path.stat().st_mtime_ns
        self._looked_s = time.monotonic()

    def accepts(self, authorization: bytes | None) -> bool:
        """Whether a header `Authorization: Bearer …` carries one of the tokens."""
        self._look()
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = hashlib.sha256(token.strip()).digest()
        return any([hmac.compare_digest(digest, known) for known in self._digests])  # noqa: C419  # look at every one

    def _look(self) -> None:
        """An unreadable or unsafe file leaves the tokens that were read before."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._digests, self._changed_ns = _read(self._path), changed_ns
        except (OSError, RefusedError):
            return


def _read(path: Path) -> list[bytes]:
    status = path.stat()
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RefusedError(f"{path} can be read by others; its mode must be 0600")
    if status.st_size > FILE_BYTES_MAX:
        raise RefusedError(f"{path} has {status.st_size} bytes, at most {FILE_BYTES_MAX} are read")
    lines = [line.strip() for line in path.read_bytes().splitlines()]
    tokens = [line for line in lines if line and not line.startswith(b"#")]
    if not tokens:
        raise RefusedError(f"{path} holds no token")
    return [hashlib.sha256(token).digest() for token in tokens]

"""One file over HTTP(S), with ranges: what was fetched stays, so that a broken download goes on where it stopped.

Blocking, called in a thread; stops when told. The bytes have their name only when the digest is right and they are on
disk. `cache.py` decides where they go, `origin.py` whether the URL may be fetched at all.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...descriptions.errors import ProtocolError, RefusedError, TransportError
from .origin import Address, Origins

CHUNK = 256 * 1024
TIMEOUT_S = 20.0
"""For each wait on the socket."""
SPEED_WINDOW_S = 30.0
SPEED_MIN = 1024
"""Bytes a second over the window; a slower source is given up and tried again later, from where it was."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Wanted:
    """What to fetch."""

    url: str
    sha256: str
    size: int
    """Bytes; 0 when unknown, then `size_max` bounds it."""
    size_max: int

    def __post_init__(self) -> None:
        """Refuse what could never be right."""
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise RefusedError("an artifact without a SHA-256 is not fetched")
        if self.size > self.size_max:
            raise RefusedError(f"{self.size} bytes, over the limit of {self.size_max}")

    @property
    def limit(self) -> int:
        """No more bytes than this are taken."""
        return self.size or self.size_max


def fetch(
    wanted: Wanted,
    partial: Path,
    origins: Origins,
    stop: threading.Event,
    progress: Callable[[int], None],
) -> None:
    """Complete `partial` and check it; on return it is whole and on disk.

    `progress` is told the bytes that are there. Raises `TransportError` for what may work later (the part stays),
    `ProtocolError` for wrong bytes (the part is removed), `RefusedError` for a URL that is not fetched.
    """
    have = partial.stat().st_size if partial.exists() else 0
    if have > wanted.limit:
        partial.unlink()
        have = 0
    if not (wanted.size and have == wanted.size):
        _download(wanted, partial, origins, have, stop, progress)
    check(partial, wanted, stop)


def _download(
    wanted: Wanted,
    partial: Path,
    origins: Origins,
    have: int,
    stop: threading.Event,
    progress: Callable[[int], None],
) -> None:
    address = origins.address(wanted.url)
    connection = origins.connect(address, TIMEOUT_S)
    try:
        headers = origins.authorization(address) | ({"Range": f"bytes={have}-"} if have else {})
        response = _ask(connection, address, headers)
        start = _start_of(response, have, wanted)
        with partial.open("r+b" if start else "wb") as target:
            target.seek(start)
            for count in _chunks(response, target, wanted.limit - start, stop):
                progress(start + count)
            target.flush()
            os.fsync(target.fileno())
    except (OSError, http.client.HTTPException) as error:
        told = str(error) or type(error).__name__
        raise TransportError(f"{address.host}:{address.port}: {told}") from error
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, address: Address, headers: dict[str, str]) -> http.client.HTTPResponse:
    plain = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "shoal-agent"}
    connection.request("GET", address.target, headers=plain | headers)
    return connection.getresponse()


def _start_of(response: http.client.HTTPResponse, have: int, wanted: Wanted) -> int:
    """Where the answer's bytes belong in the file; raises for every answer that has none."""
    if response.status == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            raise TransportError("the source answers another range than was asked for")
        start = have
    elif response.status == 200:
        start = 0  # it has no ranges: from the beginning
    elif 300 <= response.status < 400:
        raise RefusedError("the source redirects; name the final URL")
    else:
        raise TransportError(f"the source answers {response.status} {response.reason}")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) > wanted.limit:
        raise RefusedError(f"the source has {start + int(length)} bytes, expected at most {wanted.limit}")
    return start


def _chunks(response: http.client.HTTPResponse, target: BinaryIO, left: int, stop: threading.Event) -> Iterator[int]:
    """Write the body and tell after each chunk how much it was; the target is cut behind it."""
    done, window_start_s, window_bytes = 0, time.monotonic(), 0
    while data := response.read1(min(CHUNK, left - done + 1)):
        done += len(data)
        if done > left:
            raise RefusedError("the source sends more bytes than it should")
        target.write(data)
        yield done
        if stop.is_set():
            raise TransportError("stopped")
        window_bytes += len(data)
        now_s = time.monotonic()
        if now_s - window_start_s >= SPEED_WINDOW_S:
            if window_bytes < SPEED_MIN * SPEED_WINDOW_S:
                raise TransportError(f"too slow: {window_bytes} bytes in {SPEED_WINDOW_S:.0f} s")
            window_start_s, window_bytes = now_s, 0
    target.truncate()


def check(path: Path, wanted: Wanted, stop: threading.Event | None = None) -> None:
    """Hash the file; wrong bytes are removed and raise `ProtocolError`, missing ones `TransportError`."""
    size = path.stat().st_size
    if wanted.size and size < wanted.size:
        raise TransportError(f"the source ended after {size} of {wanted.size} bytes")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(1024 * 1024):
            digest.update(data)
            if stop is not None and stop.is_set():
                raise TransportError("stopped")
    if digest.hexdigest() != wanted.sha256:
        path.unlink()
        raise ProtocolError(f"the bytes have SHA-256 {digest.hexdigest()}, expected {wanted.sha256}")

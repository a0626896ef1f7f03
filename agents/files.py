"""Small files that are whole or absent: written new, synced, renamed, and their folder synced; secrets with mode 0600.

Used for the identity, the slots of the desired document and what guards read. Reads are capped.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from ..descriptions.errors import TransportError


class DiskFullError(TransportError):
    """There is no room; there may be again."""


class DiskBrokenError(TransportError):
    """Reading or writing itself failed: what was believed to be on disk may not be. Nothing is tried twice."""


def disk_error(path: Path, error: OSError) -> TransportError:
    """The class that says what may be done about it."""
    told = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(told)
    return DiskBrokenError(told) if error.errno == errno.EIO else TransportError(told)


def write_whole(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file by `data`; a crash at any moment leaves the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def sync_folder(path: Path) -> None:
    """Make renames within the folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_capped(path: Path, size_max: int) -> bytes | None:
    """The content; None when there is no such file. Raises `TransportError` when it is larger or cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(size_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror or error}") from error
    if len(data) > size_max:
        raise TransportError(f"{path}: over the limit of {size_max} bytes")
    return data


def private_folder(path: Path) -> Path:
    """Make the folder with mode 0700; refuse one that another user owns."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.geteuid():
            raise TransportError(f"{path} belongs to another user")
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror or error}") from error
    return path

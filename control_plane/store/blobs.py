"""Model contents on disk, by digest: `blobs/<first two>/<sha256>`, each complete and checked, or not there at all.

The API writes uploads here and serves ranges from here; objects refer to contents by digest only. Blocking calls: the
API runs them in threads. Bytes are appended to a part file, and only when their SHA-256 is known to be right are they
synced and renamed into place (write, fsync, rename, fsync of the folder).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ...descriptions.errors import RefusedError
from .errors import StoreError, StoreFailure

BLOB_BYTES_MAX = 4 * 1024**3
TOTAL_BYTES_MAX = 256 * 1024**3
PART_AGE_S_MAX = 86_400.0
"""An upload that nobody continued for this long is thrown away at the next start."""

READ_BYTES = 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """Complete contents."""

    sha256: str
    size: int
    path: Path


class DigestError(RefusedError):
    """The bytes are not those that were announced; nothing was kept."""


class BlobTooLargeError(RefusedError):
    """The contents, or all contents together, would be over the cap."""


class UploadBusyError(RefusedError):
    """Somebody else is uploading the same contents now, or the offset isn't where the upload stands."""

    def __init__(self, message: str, offset: int | None) -> None:
        super().__init__(message)
        self.offset = offset
        """Where a continuation has to start; None while the other upload runs."""


class BlobStore:
    """The folder of contents. One process owns it, the one that holds the database."""

    def __init__(
        self, folder: Path, *, blob_bytes_max: int = BLOB_BYTES_MAX, total_bytes_max: int = TOTAL_BYTES_MAX
    ) -> None:
        self._folder = folder
        self._parts = folder / "parts"
        self.blob_bytes_max = blob_bytes_max
        self.total_bytes_max = total_bytes_max
        self._parts.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._drop_stale_parts()
        self.total_bytes = sum(blob.size for blob in self.all())

    def get(self, sha256: str) -> Blob | None:
        """Complete contents by digest, or None. A string that is no digest is simply not there."""
        if not _DIGEST.fullmatch(sha256):
            return None
        path = self._path(sha256)
        try:
            return Blob(sha256, path.stat().st_size, path)
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Blob]:
        """Every complete content."""
        for path in sorted(self._folder.glob("[0-9a-f][0-9a-f]/*")):
            if _DIGEST.fullmatch(path.name):
                yield Blob(path.name, path.stat().st_size, path)

    def received(self, sha256: str) -> int:
        """How many bytes of an unfinished upload are here; 0 when none was begun."""
        part = self._part(sha256)
        return part.stat().st_size if part.exists() else 0

    def upload(self, sha256: str | None, *, offset: int = 0) -> Upload:
        """Begin an upload, or continue one at `offset`; only an announced digest can be continued later.

        Raises `UploadBusyError` if another upload of it is running or stands at another offset.
        """
        if sha256 is not None and not _DIGEST.fullmatch(sha256):
            raise DigestError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
        part = self._part(sha256 or f"unnamed-{secrets.token_hex(16)}")
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.fdopen(os.open(part, flags, 0o600), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Upload(self, file, part, sha256, offset)
        except BlockingIOError as error:
            file.close()
            told = "the same contents are being uploaded by somebody else: wait, then ask how far it is"
            raise UploadBusyError(told, None) from error
        except BaseException:
            file.close()
            raise

    def delete(self, sha256: str) -> bool:
        """Remove contents; False if they were not there. Readers that have the file open finish undisturbed."""
        blob = self.get(sha256)
        if blob is None:
            return False
        blob.path.unlink()
        self.total_bytes -= blob.size
        return True

    def sweep(self, wanted: Collection[str], *, older_than_s: float, now_s: float | None = None) -> list[Blob]:
        """Remove contents that nothing refers to and that have been here for a while; returns what went."""
        limit_s = (time.time() if now_s is None else now_s) - older_than_s
        doomed = [blob for blob in self.all() if blob.sha256 not in wanted and blob.path.stat().st_mtime < limit_s]
        return [blob for blob in doomed if self.delete(blob.sha256)]

    def admit(self, size: int) -> None:
        """Raises `BlobTooLargeError` if an upload of this size cannot be kept."""
        if size > self.blob_bytes_max:
            raise BlobTooLargeError(f"over {self.blob_bytes_max} bytes, the cap for one model's contents")
        if self.total_bytes + size > self.total_bytes_max:
            raise BlobTooLargeError(f"all contents together may take {self.total_bytes_max} bytes")

    def place(self, part: Path, sha256: str, size: int) -> Blob:
        """Rename a synced part file to its digest and sync the folders; for `Upload.finish`."""
        path = self._path(sha256)
        is_new = not path.exists()
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._folder)
        part.rename(path)
        _sync_folder(path.parent)
        self.total_bytes += size if is_new else 0
        return Blob(sha256, size, path)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _part(self, name: str) -> Path:
        return self._parts / f"{name}.part"

    def _drop_stale_parts(self) -> None:
        for part in self._parts.glob("*.part"):
            is_stale = time.time() - part.stat().st_mtime > PART_AGE_S_MAX
            if is_stale or part.name.startswith("unnamed-"):
                part.unlink()


class Upload:
    """Contents on their way in. Use it with `with`, which keeps what came if `finish` isn't reached."""

    def __init__(self, store: BlobStore, file: BinaryIO, part: Path, sha256: str | None, offset: int) -> None:
        """For `BlobStore.upload`, which holds the lock on `file`."""
        self._store = store
        self._file = file
        self._part = part
        self._expected = sha256
        self._hash = hashlib.sha256()
        self.size = self._resume(offset)
        """Bytes received so far, those of earlier tries included."""

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon(keep=True)

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises `BlobTooLargeError`, or `StoreError` (full)."""
        self._store.admit(self.size + len(chunk))
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _disk_error(error, self._part) from error
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Blob:
        """Check the digest, sync, and put the contents in place. Raises `DigestError` and drops wrong bytes."""
        found = self._hash.hexdigest()
        if self._expected is not None and found != self._expected:
            self.abandon(keep=False)
            raise DigestError(f"received {self.size} bytes with SHA-256 {found}, not the announced {self._expected}")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            blob = self._store.place(self._part, found, self.size)
        except OSError as error:
            raise _disk_error(error, self._part) from error
        finally:
            self._file.close()
        return blob

    def abandon(self, *, keep: bool) -> None:
        """Stop. What came so far is kept for a continuation if asked for and if the digest was announced.

        Nothing happens after `finish`.
        """
        if self._file.closed:
            return
        if not (keep and self._expected):
            self._part.unlink(missing_ok=True)
        self._file.close()

    def _resume(self, offset: int) -> int:
        size = os.fstat(self._file.fileno()).st_size
        if offset == 0 and size:
            self._file.truncate(0)
            size = 0
        if offset != size:
            raise UploadBusyError(f"{size} bytes are here already: continue at offset {size}, or begin at 0", size)
        while chunk := self._file.read(READ_BYTES):
            self._hash.update(chunk)
        return size


def _disk_error(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(StoreFailure.FULL, f"no room to write {path.parent}: free space; nothing was lost")
    return StoreError(StoreFailure.IO, f"{path.parent}: {error.strerror}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Contents on disk: whole and right, or not there; uploads that can be continued; caps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shoal.control_plane.store.blobs import Blob, BlobStore, BlobTooLargeError, DigestError, UploadBusyError

BYTES = b"weights" * 1000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def stored(blobs: BlobStore, data: bytes = BYTES, name: str | None = None) -> Blob:
    with blobs.upload(name) as upload:
        upload.write(data)
        return upload.finish()


@pytest.mark.parametrize("announced", [True, False])
def test_contents_are_found_by_their_digest(folder: Path, announced: bool) -> None:
    blobs = BlobStore(folder)
    blob = stored(blobs, name=sha256(BYTES) if announced else None)
    assert (blob.sha256, blob.size) == (sha256(BYTES), len(BYTES))
    assert blob.path.read_bytes() == BYTES
    assert BlobStore(folder).get(blob.sha256) == blob
    assert list(blobs.all()) == [blob]
    assert list((folder / "parts").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "/" * 64, "0" * 64])
def test_what_is_no_digest_is_not_there(folder: Path, name: str) -> None:
    assert BlobStore(folder).get(name) is None


def test_wrong_bytes_are_refused_and_dropped(folder: Path) -> None:
    blobs = BlobStore(folder)
    upload = blobs.upload(sha256(b"right"))
    upload.write(b"wrong")
    with pytest.raises(DigestError, match=sha256(b"wrong")):
        upload.finish()
    assert list(blobs.all()) == []
    assert blobs.received(sha256(b"right")) == 0


def test_a_broken_upload_goes_on_where_it_stopped(folder: Path) -> None:
    name = sha256(BYTES)
    with BlobStore(folder).upload(name) as first:
        first.write(BYTES[:3000])
    blobs = BlobStore(folder)
    assert blobs.received(name) == 3000
    with pytest.raises(UploadBusyError) as caught:
        blobs.upload(name, offset=2000)
    assert caught.value.offset == 3000
    second = blobs.upload(name, offset=3000)
    second.write(BYTES[3000:])
    assert second.finish().path.read_bytes() == BYTES


def test_an_upload_begins_again_at_zero(folder: Path) -> None:
    blobs = BlobStore(folder)
    with blobs.upload(sha256(BYTES)) as first:
        first.write(b"rubbish")
    assert stored(blobs, name=sha256(BYTES)).size == len(BYTES)


def test_an_upload_without_a_digest_leaves_nothing(folder: Path) -> None:
    blobs = BlobStore(folder)
    with blobs.upload(None) as upload:
        upload.write(BYTES)
    assert list((folder / "parts").iterdir()) == []


def test_two_uploads_of_the_same_do_not_mix(folder: Path) -> None:
    blobs = BlobStore(folder)
    first = blobs.upload(sha256(BYTES))
    with pytest.raises(UploadBusyError):
        blobs.upload(sha256(BYTES))
    first.write(BYTES)
    assert first.finish().size == len(BYTES)


def test_the_same_contents_count_once(folder: Path) -> None:
    blobs = BlobStore(folder)
    stored(blobs)
    stored(blobs)
    assert blobs.total_bytes == len(BYTES)
    assert blobs.delete(sha256(BYTES))
    assert not blobs.delete(sha256(BYTES))
    assert blobs.total_bytes == 0


def test_caps_hold_for_one_and_for_all(folder: Path) -> None:
    blobs = BlobStore(folder, blob_bytes_max=100, total_bytes_max=150)
    with blobs.upload(None) as upload:
        upload.write(b"x" * 100)
        with pytest.raises(BlobTooLargeError, match="cap for one"):
            upload.write(b"x")
    stored(blobs, b"a" * 80)
    with pytest.raises(BlobTooLargeError, match="together"):
        stored(blobs, b"b" * 80)


def test_stale_parts_go_at_the_next_start(folder: Path) -> None:
    blobs = BlobStore(folder)
    for data in (b"stale", b"fresh"):
        with blobs.upload(sha256(data)) as upload:
            upload.write(data[:2])
    os.utime(folder / "parts" / f"{sha256(b'stale')}.part", (0, 0))
    again = BlobStore(folder)
    assert (again.received(sha256(b"stale")), again.received(sha256(b"fresh"))) == (0, 2)


def test_a_sweep_spares_what_is_wanted_or_new(folder: Path) -> None:
    blobs = BlobStore(folder)
    wanted, unwanted, new = (stored(blobs, data) for data in (b"wanted", b"unwanted", b"new"))
    for blob in (wanted, unwanted):
        os.utime(blob.path, (0, 0))
    assert blobs.sweep({wanted.sha256}, older_than_s=3600) == [unwanted]
    assert {blob.sha256 for blob in blobs.all()} == {wanted.sha256, new.sha256}


def test_a_link_in_the_way_is_not_followed(folder: Path, tmp_path: Path) -> None:
    blobs = BlobStore(folder)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder / "parts" / f"{sha256(BYTES)}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        blobs.upload(sha256(BYTES))
    assert victim.read_bytes() == b"precious"

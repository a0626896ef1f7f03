"""Contents go when nothing refers to them, and not before."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from shoal.control_plane import contents
from shoal.control_plane.component_state import REVISION_KIND, Revision
from shoal.control_plane.contents import contents_swept, sweep
from shoal.control_plane.documents import to_document
from shoal.control_plane.store.store import Store
from shoal.descriptions.kinds import Model
from shoal.descriptions.load import kind_of
from shoal.descriptions.messages.desired import Artifact, InferenceTask, ReplicaSpec


def stored(store: Store, data: bytes, *, is_old: bool = True) -> str:
    with store.blobs.upload(None) as upload:
        upload.write(data)
        blob = upload.finish()
    if is_old:
        os.utime(blob.path, (0, 0))
    return blob.sha256


def model(sha256: str) -> Model:
    plain = {"apiVersion": "shoal.dev/v1", "kind": "Model", "metadata": {"name": "m"}}
    made = kind_of(plain | {"spec": {"format": "onnx", "source": {"file": "m.onnx", "sha256": sha256}}})
    assert isinstance(made, Model)
    return made


def revision(sha256: str) -> Revision:
    task = InferenceTask(model="m", version="1", format="onnx", artifact=Artifact(url="/x", sha256=sha256, size=1))
    return Revision("a", "c", 1, ReplicaSpec(id="", application="a", component="c", revision=1, task=task))


def test_what_rows_or_nodes_refer_to_stays(tmp_path: Path) -> None:
    async def run() -> None:
        async with await Store.open(f"sqlite:///{tmp_path}/shoal.db") as store:
            names = {name: stored(store, name.encode()) for name in ("described", "running", "large", "replaced")}
            names["new"] = stored(store, b"new", is_old=False)
            document = to_document(model(names["described"]))
            running = msgspec.json.encode(revision(names["running"]))
            await store.write(lambda tx: (tx.put("Model", "m", document), tx.put(REVISION_KIND, "a.c.1", running)))
            assert await sweep(store, [names["large"]]) == 1
            kept = {blob.sha256 for blob in store.blobs.all()}
            assert kept == {names[name] for name in ("described", "running", "large", "new")}

    asyncio.run(run())


def test_sweeping_goes_on_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "EVERY_S", 0.01)

    async def run() -> None:
        async with await Store.open(f"sqlite:///{tmp_path}/shoal.db") as store, contents_swept(store, list):
            for data in (b"one", b"two"):
                sha256 = stored(store, data)
                async with asyncio.timeout(10):
                    while store.blobs.get(sha256) is not None:
                        await asyncio.sleep(0.005)

    asyncio.run(run())

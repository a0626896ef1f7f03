"""The store against a dict: whatever the order of operations and restarts, both hold the same (Hypothesis)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.control_plane.store.database import Database
from shoal.control_plane.store.errors import ConflictError
from shoal.control_plane.store.records import Operation, Put, StoredObject
from shoal.control_plane.store.transaction import Transaction
from shoal.control_plane.store.writer import Committed

NAMES = st.sampled_from(["a", "b", "c", "a.b", "Ü", "x" * 253])
KINDS = st.sampled_from(["Node", "Model"])
DOCS = st.sampled_from([b"", b"{}", b"[1]", b"\x00\xff"])
VERSIONS = st.one_of(st.none(), st.integers(0, 30))

Key = tuple[str, str]


class StoreMachine(RuleBasedStateMachine):
    """Applies the same to both and compares what each says."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="shoal-store-")
        self.model: dict[Key, tuple[bytes, int, int]] = {}
        self.replica: dict[Key, bytes] = {}
        self.head = 0
        self.uids: set[str] = set()
        self._open()

    def _open(self) -> None:
        path = Path(self.folder.name) / "shoal.db"
        self.database = Database(f"sqlite:///{path}", committed=self._committed)

    def _committed(self, commit: Committed) -> None:
        for change in commit.changes:
            key = (change.object.kind, change.object.name)
            if change.operation is Operation.PUT:
                self.replica[key] = change.object.doc
            else:
                del self.replica[key]

    @rule(kind=KINDS, name=NAMES, doc=DOCS, expected=VERSIONS, grow=st.booleans())
    def put(self, kind: str, name: str, doc: bytes, expected: int | None, grow: bool) -> None:
        before = self.model.get((kind, name))
        current = before[1] if before else 0
        written = self._try(lambda tx: tx.put(kind, name, doc, expected_version=expected, new_generation=grow))
        if expected not in (None, current):
            assert written is None
            return
        assert written is not None
        self._adopt(written, before, grow=grow)

    def _adopt(self, written: StoredObject, before: tuple[bytes, int, int] | None, *, grow: bool) -> None:
        is_same = before is not None and before[0] == written.doc and not grow
        if is_same:
            assert before is not None
            assert written.resource_version == before[1]
            return
        assert written.resource_version > self.head
        assert written.generation == (before[2] + grow if before else 1)
        if before is None:
            assert written.uid not in self.uids
            self.uids.add(written.uid)
        self.head = written.resource_version
        self.model[(written.kind, written.name)] = (written.doc, written.resource_version, written.generation)

    @rule(kind=KINDS, names=st.lists(NAMES, min_size=1, max_size=4, unique=True), doc=DOCS)
    def put_many(self, kind: str, names: list[str], doc: bytes) -> None:
        written = self.database.write(lambda tx: tx.put_many([Put(kind, name, doc) for name in names])).result()
        for row in written:
            self._adopt(row, self.model.get((kind, row.name)), grow=False)

    @rule(kind=KINDS, name=NAMES, expected=VERSIONS)
    def delete(self, kind: str, name: str, expected: int | None) -> None:
        before = self.model.get((kind, name))
        deleted = self._try(lambda tx: tx.delete(kind, name, expected_version=expected))
        if before is None or expected not in (None, before[1]):
            assert deleted is None
            return
        assert deleted is not None
        assert deleted.doc == before[0]
        del self.model[(kind, name)]
        self.head = self.database.read(lambda tx: tx.version).result()

    @rule()
    def restart(self) -> None:
        self.database.close()
        self._open()

    @rule(kind=KINDS, name=NAMES)
    def fail(self, kind: str, name: str) -> None:
        def failing(tx: Transaction) -> None:
            tx.put(kind, name, b"never")
            raise RuntimeError

        try:
            self.database.write(failing).result()
        except RuntimeError:
            return
        raise AssertionError("a failing job succeeded")

    @invariant()
    def both_hold_the_same(self) -> None:
        rows = self.database.read(lambda tx: [*tx.all("Node"), *tx.all("Model")]).result()
        assert {(row.kind, row.name): (row.doc, row.resource_version, row.generation) for row in rows} == self.model
        assert self.replica == {key: value[0] for key, value in self.model.items()}

    def _try(self, fn: Callable[[Transaction], StoredObject]) -> StoredObject | None:
        try:
            return self.database.write(fn).result()
        except ConflictError:
            return None

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

"""The control plane's database as the cores rely on it: one writer, whole transactions in order, a fence, a counter.

What was acknowledged is kept whatever happens; what was on its way when the control plane died may have been kept or
not, but never something later without what came before. An operator may put back an older copy (`restore`): the one
way to lose acknowledged writes, and it is noticed. Rows are the values of `control_plane/rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from ..control_plane.component_state import DesiredMark
from ..control_plane.effects import BumpEpoch, Commit, Delete, DesiredDraft, Put, PutStatus, StoreStream, Timer, Write
from ..control_plane.inputs import Row, RowValue
from ..control_plane.placement import Placement
from ..control_plane.rows import kind_of, name_of
from ..control_plane.store.records import Leader
from ..descriptions.kinds import Kind, Node
from ..descriptions.kinds.meta import Frozen
from ..descriptions.kinds.node import NodeStatus
from ..descriptions.messages.reported import NodeEvent
from .kernel import Kernel
from .observed import (
    EventApplied,
    Fact,
    NodeOverbooked,
    PhaseFact,
    ReplicaEvicted,
    RowsCommitted,
    StoreOpened,
    WriteAcknowledged,
)
from .process import Life

COMMIT_S = (0.001, 0.01)
"""How long a transaction takes to be on disk."""

RowKey = tuple[str, str]
"""Kind and name."""

ControlLife = Life[Timer | str]
"""Of a control plane: the core's timers, and `adaptation`."""


class LostLeadershipError(Exception):
    """Another control plane has taken over: this one must not write."""


@dataclass(frozen=True)
class Stored:
    """A committed row."""

    value: RowValue
    version: int


@dataclass
class Contents:
    """All that is on the disk; a shallow copy is a backup."""

    rows: dict[RowKey, Stored] = field(default_factory=dict)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    """Node uid and stream → last event stored."""
    leader: Leader = field(default_factory=Leader)
    version: int = 0
    generation: int = 0
    """Newest one given to a document; one counter for all nodes."""

    def copy(self) -> Contents:
        """As it is now; rows are immutable."""
        return Contents(dict(self.rows), dict(self.positions), self.leader, self.version, self.generation)


@dataclass(frozen=True)
class CommitResult:
    """What the driver reports as `Committed`."""

    version: int
    generations: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Job:
    life: ControlLife
    apply: Callable[[], None]
    answer: Callable[[], None]
    failed: Callable[[], None]


@dataclass(frozen=True)
class _Written:
    """The writer has finished the oldest job."""

    job: _Job


class Store:
    """The database of one slice, shared by the control planes that take turns at it."""

    name = "store"

    def __init__(self, kernel: Kernel, note: Callable[[Fact], None]) -> None:
        self._kernel = kernel
        self._note = note
        self.contents = Contents()
        self.backups: list[Contents] = []
        self.fence_max = 0
        self._jobs: list[_Job] = []
        self.commits = 0
        self.capacity: dict[str, tuple[str, int, int]] = {}
        """Node uid → name, thousandths of a core, bytes of memory."""

    # Opening.

    def lead(self, holder: str) -> Leader:
        """Take the leadership: a higher fence, so that whoever led before cannot write any more."""
        old = self.contents.leader
        fence = old.fence + 1
        self.fence_max = max(self.fence_max, fence)
        self.contents.leader = replace(old, holder=holder, fence=fence)
        versions = {key: stored.version for key, stored in self.contents.rows.items()}
        self._note(StoreOpened(versions, dict(self.contents.positions)))
        return self.contents.leader

    def rows(self) -> tuple[Row, ...]:
        """Everything, sorted by kind and name."""
        return tuple(Row(*key, stored.value, stored.version) for key, stored in sorted(self.contents.rows.items()))

    def positions(self) -> tuple[tuple[str, str, int], ...]:
        """Node uid, stream and last stored seq."""
        return tuple((*key, seq) for key, seq in sorted(self.contents.positions.items()))

    # Writing.

    def submit(
        self, life: ControlLife, apply: Callable[[], None], answer: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        """Queue a transaction; `answer` is called in the control plane's life once it is on disk, `failed` if it leads
        no more."""
        low_s, high_s = COMMIT_S
        job = _Job(life, apply, answer, failed)
        self._jobs.append(job)
        self._kernel.after(low_s + (high_s - low_s) * self._kernel.random.random(), self, _Written(job))

    def crash(self, life: ControlLife) -> None:
        """The control plane died: of what it had queued, some first transactions made it to the disk."""
        mine = [job for job in self._jobs if job.life is life]
        self._jobs = [job for job in self._jobs if job.life is not life]
        for job in mine[: self._kernel.random.randrange(len(mine) + 1)]:
            try:
                job.apply()
            except LostLeadershipError:
                return

    def handle(self, event: object) -> None:
        """A transaction is due: all those queued before it go first."""
        if not isinstance(event, _Written) or event.job not in self._jobs:
            return
        place = self._jobs.index(event.job)
        due, self._jobs = self._jobs[: place + 1], self._jobs[place + 1 :]
        for job in due:
            try:
                job.apply()
            except LostLeadershipError:
                job.life.after(0.0, job.failed)
            else:
                job.life.after(0.0, job.answer)

    def check_fence(self, fence: int) -> None:
        """As each transaction of a leader does."""
        if fence != self.contents.leader.fence:
            raise LostLeadershipError(f"fence {fence} is not {self.contents.leader.fence}")

    def commit(self, fence: int, holder: str, commit: Commit) -> CommitResult:
        """One transaction of the core, under its fence."""
        self.check_fence(fence)
        contents = self.contents
        contents.version += 1
        self.commits += 1
        for write in commit.writes:
            self._write(write)
        self._check_capacity(commit)
        generations = tuple(self._draft(draft) for draft in commit.desired)
        for uid in commit.forget_streams:
            contents.rows.pop(("Desired", uid), None)
            for key in [key for key in contents.positions if key[0] == uid]:
                del contents.positions[key]
        self._note(RowsCommitted(holder, fence, self.fence_max, contents.version))
        return CommitResult(contents.version, generations)

    def _write(self, write: Write) -> None:
        rows, version = self.contents.rows, self.contents.version
        match write:
            case Put(value=value):
                key = (kind_of(value), name_of(value))
                if isinstance(value, Placement) and key not in rows and value.cause == "replace":
                    self._note_eviction(value)
                rows[key] = Stored(value, version)
            case Delete(kind=kind, name=name):
                rows.pop((kind, name), None)
            case PutStatus(kind=kind, name=name, status=status):
                found = rows.get((kind, name))
                if found is not None:
                    if isinstance(status, NodeStatus):
                        self._note_phase(name, found.value, status.phase)
                    assert isinstance(found.value, Frozen), "only kinds that people write have a status"
                    changed = cast("RowValue", found.value.model_copy(update={"status": status}))
                    rows[kind, name] = Stored(changed, version)

    def _note_phase(self, name: str, before: RowValue, phase: str) -> None:
        if isinstance(before, Node) and (before.status is None or before.status.phase != phase):
            self._note(PhaseFact(name, phase))

    def _check_capacity(self, commit: Commit) -> None:
        placed = [one.value for one in commit.writes if isinstance(one, Put) and isinstance(one.value, Placement)]
        for uid in sorted({one.node_uid for one in placed} & self.capacity.keys()):
            values = (row.value for (kind, _), row in self.contents.rows.items() if kind == "Placement")
            held = [one.reserved for one in values if isinstance(one, Placement) and one.node_uid == uid]
            name, cpu_millis, memory = self.capacity[uid]
            used = sum(one.cpu_millis for one in held if one), sum(one.memory_bytes for one in held if one)
            for resource, reserved, capacity in (("cpu", used[0], cpu_millis), ("memory", used[1], memory)):
                if reserved > capacity:
                    self._note(NodeOverbooked(name, resource, reserved, capacity))

    def _note_eviction(self, placement: Placement) -> None:
        replaced = self.contents.rows.get(("Placement", placement.replaces))
        old = replaced.value if replaced is not None else None
        if isinstance(old, Placement):
            self._note(ReplicaEvicted(old.node_name, old.id))

    def _draft(self, draft: DesiredDraft) -> tuple[str, int]:
        contents = self.contents
        contents.generation += 1
        mark = DesiredMark(draft.node_uid, contents.generation, draft.digest)
        contents.rows["Desired", draft.node_uid] = Stored(mark, contents.version)
        return draft.node_uid, contents.generation

    def store_stream(self, fence: int, effect: StoreStream, node_name: str) -> int:
        """Append events if the stream is where the core believes; its position afterwards."""
        self.check_fence(fence)
        key = (effect.node, effect.stream)
        position = self.contents.positions.get(key, 0)
        if position != effect.after:
            return position
        self.contents.positions[key] = effect.upto
        for event in effect.events:
            self._note(EventApplied(node_name, effect.stream, event.seq, body_of(event)))
        return effect.upto

    def bump_epoch(self, fence: int, effect: BumpEpoch) -> int:
        """The database was restored: an epoch and generations beyond all that nodes have told of."""
        self.check_fence(fence)
        contents = self.contents
        contents.leader = replace(contents.leader, epoch=max(contents.leader.epoch, effect.epoch_min) + 1)
        contents.generation = max(contents.generation, effect.generation_min)
        return contents.leader.epoch

    def apply(self, fence: int, kinds: tuple[Kind, ...], deletes: tuple[RowKey, ...]) -> tuple[Row, ...]:
        """What people write over the API, in one transaction; returns the rows for the core."""
        self.check_fence(fence)
        contents = self.contents
        contents.version += 1
        written: list[Row] = []
        for kind in kinds:
            key: RowKey = (kind.kind, kind.metadata.name)
            found = contents.rows.get(key)
            stored = _merged(kind, found.value if found is not None else None, contents.version)
            contents.rows[key] = Stored(stored, contents.version)
            written.append(Row(*key, stored, contents.version))
        gone = [key for key in deletes if contents.rows.pop(key, None) is not None]
        return (*written, *(Row(*key, None, contents.version) for key in gone))

    def acknowledge(self, rows: tuple[Row, ...]) -> None:
        """People were told that these are on disk."""
        for row in rows:
            self._note(WriteAcknowledged(row.kind, row.name, row.version, is_delete=row.value is None))

    # Backups.

    def back_up(self) -> None:
        """Keep a copy."""
        self.backups.append(self.contents.copy())

    def restore(self) -> bool:
        """Put the newest backup back, while no control plane runs; False when there is none."""
        if not self.backups:
            return False
        lost = self.contents
        self.contents = self.backups[-1].copy()
        # The fence comes from outside of the backup: a restored database must not let an old leader write.
        self.contents.leader = replace(self.contents.leader, fence=lost.leader.fence)
        versions = {key: stored.version for key, stored in self.contents.rows.items()}
        self._note(StoreOpened(versions, dict(self.contents.positions), restored=True))
        for (kind, name), stored in sorted(self.contents.rows.items()):
            if kind == "Node" and isinstance(stored.value, Node) and stored.value.status is not None:
                self._note(PhaseFact(name, stored.value.status.phase))
        return True


def body_of(event: NodeEvent) -> str:
    """What an event says, to compare it with what the node wrote."""
    return f"{event.type} {event.reason} {event.message} {event.replica}"


def _merged(kind: Kind, before: RowValue | None, version: int) -> Kind:
    """What is stored of a description: its own spec, the status that is there, and the versions of the store."""
    generation = 1
    status: object = kind.status
    if isinstance(before, type(kind)):
        status = before.status if before.status is not None else status
        generation = (before.metadata.generation or 1) + (before.spec != kind.spec)
    metadata = kind.metadata.model_copy(update={"resource_version": version, "generation": generation})
    merged: Kind = kind.model_copy(update={"metadata": metadata, "status": status})
    return merged

"""Carries `Commit`, `StoreStream` and `BumpEpoch` to the database and reports what came of them, in order.

Commits that wait while another one is on its way to the disk share the next transaction. The documents of the core's
own writes never come back as changes of others: their versions are kept until the watch has seen them. A commit that
fails is not tried again: the core has gone on as if it had succeeded, so `driver.py` starts it anew from the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds import Rollout
from .component_state import DESIRED_KIND, ComponentState, DesiredMark, Revision
from .documents import to_document, with_status
from .effects import BumpEpoch, Commit, Delete, Put, PutStatus, StoreStream, Write
from .inputs import Committed, EpochBumped, Event, StreamStored
from .placement import Placement
from .planner.snapshot import Decision
from .rows import kind_of, name_of
from .store.errors import ConflictError
from .store.records import DecisionEntry, EventEntry, Severity
from .store.records import Put as StorePut
from .store.store import Store
from .store.transaction import Transaction

Job = Commit | StoreStream | BumpEpoch
JOBS_PER_COMMIT_MAX = 64
WAITING_MAX = 2000
"""Jobs in the queue beyond which nothing more is read from the link: the disk has to catch up."""
QUEUE_MAX = 20_000


@dataclass
class Committer:
    """The queue to the database."""

    store: Store
    report: Callable[[Event], None]
    new_id: Callable[[str], str]
    name_of_node: Callable[[str], str]
    own_versions: set[int] = field(default_factory=set)
    """Of rows that the watch will show and that the core wrote itself."""
    commits: int = 0
    jobs: int = 0
    _shorter: asyncio.Event = field(default_factory=asyncio.Event)
    _queue: asyncio.Queue[Job] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))

    def submit(self, job: Job) -> None:
        """Queue it; raises `asyncio.QueueFull` when the disk is hopelessly behind."""
        self._queue.put_nowait(job)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    async def room(self) -> None:
        """Return when the queue is short enough to read on."""
        while self.waiting > WAITING_MAX:
            self._shorter.clear()
            await self._shorter.wait()

    async def run(self) -> None:
        """Commit what is queued, for ever. Raises `StoreError` or `FencedError` when a commit fails."""
        while True:
            jobs = [await self._queue.get()]
            while len(jobs) < JOBS_PER_COMMIT_MAX and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
            events = await self.store.write(lambda tx, jobs=jobs: self._write(tx, jobs))  # type: ignore[misc]
            self.commits += 1
            self.jobs += len(jobs)
            self._shorter.set()
            for event in events:
                self.report(event)

    def _write(self, tx: Transaction, jobs: Sequence[Job]) -> list[Event]:
        """Do all of them; commits that follow each other write each row once, as the last of them has it."""
        events: list[Event] = []
        commits: list[Commit] = []
        for job in jobs:
            if isinstance(job, Commit):
                commits.append(job)
                continue
            events += self._commit(tx, commits)
            commits.clear()
            events.append(self._stream(tx, job) if isinstance(job, StoreStream) else self._bump(tx, job))
        return [*events, *self._commit(tx, commits)]

    def _commit(self, tx: Transaction, commits: Sequence[Commit]) -> list[Event]:
        if not commits:
            return []
        writes = {_row_of(write): write for commit in commits for write in commit.writes}
        puts = [StorePut(*row, document_of(write.value)) for row, write in writes.items() if isinstance(write, Put)]
        puts += self._statuses(tx, [write for write in writes.values() if isinstance(write, PutStatus)])
        generations = [tuple((draft.node_uid, tx.next_generation()) for draft in one.desired) for one in commits]
        puts += _marks(commits, generations)
        self.own_versions.update(row.resource_version for row in tx.put_many(puts))
        self._delete(tx, commits, [row for row, write in writes.items() if isinstance(write, Delete)])
        tx.append_decisions(_decision(decision) for commit in commits for decision in commit.decisions)
        return [
            Committed(self.new_id("committed"), commit.commit, tx.version, given)
            for commit, given in zip(commits, generations, strict=True)
        ]

    def _statuses(self, tx: Transaction, writes: Sequence[PutStatus]) -> Iterator[StorePut]:
        for kind in sorted({write.kind for write in writes}):
            rows = tx.get_many(kind, [write.name for write in writes if write.kind == kind])
            for write in writes:
                if write.kind == kind and write.name in rows:
                    yield StorePut(kind, write.name, with_status(rows[write.name], write.status))

    def _delete(self, tx: Transaction, commits: Sequence[Commit], deleted: Sequence[tuple[str, str]]) -> None:
        for kind in sorted({kind for kind, _ in deleted}):
            tx.delete_many(kind, [name for one, name in deleted if one == kind])
        gone = [uid for commit in commits for uid in commit.forget_streams]
        for uid in gone:
            tx.forget_streams(uid)
        tx.delete_many(DESIRED_KIND, gone)

    def _bump(self, tx: Transaction, job: BumpEpoch) -> EpochBumped:
        tx.raise_generation(job.generation_min)
        return EpochBumped(self.new_id("epoch"), tx.bump_epoch().epoch)

    def _stream(self, tx: Transaction, job: StoreStream) -> StreamStored:
        try:
            tx.advance_stream(job.node, job.stream, after=job.after, to=job.upto)
        except ConflictError:
            position = tx.stream_position(job.node, job.stream)
            return StreamStored(self.new_id("stream"), job.node, job.stream, position)
        name = self.name_of_node(job.node)
        tx.append_events(
            EventEntry(
                reason=event.reason[:253] or "NodeEvent",
                message=event.message,
                kind="Node",
                name=name,
                severity=Severity.INFO if event.severity == "info" else Severity.WARNING,
                application=event.replica.partition(".")[0],
                node=name,
                detail=msgspec.json.encode({"time": event.time, "type": event.type, "replica": event.replica}),
            )
            for event in job.events
        )
        return StreamStored(self.new_id("stream"), job.node, job.stream, job.upto)


def _row_of(write: Write) -> tuple[str, str]:
    return (kind_of(write.value), name_of(write.value)) if isinstance(write, Put) else (write.kind, write.name)


def _marks(commits: Sequence[Commit], generations: Sequence[tuple[tuple[str, int], ...]]) -> list[StorePut]:
    """The newest document of each node."""
    marks: dict[str, DesiredMark] = {}
    for commit, given in zip(commits, generations, strict=True):
        for draft, (uid, generation) in zip(commit.desired, given, strict=True):
            marks[uid] = DesiredMark(uid, generation, draft.digest)
    return [StorePut(DESIRED_KIND, uid, msgspec.json.encode(mark)) for uid, mark in marks.items()]


def document_of(value: Placement | Revision | ComponentState | Rollout) -> bytes:
    """The document of a row that the core alone writes."""
    return to_document(value) if isinstance(value, Rollout) else msgspec.json.encode(value)


def _decision(decision: Decision) -> DecisionEntry:
    need, placed = decision.need, len(decision.assignments)
    outcome = "placed" if not decision.unplaced else "partial" if placed else "unplaced"
    return DecisionEntry(decision.id, need.application, need.component, outcome, decision.record)

"""Writes a decided need down: the Decision for the plan core, its record for replay, its sentence for people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..placement import Reservation
from .record import Choice, DecisionRecord, encode_record
from .snapshot import Assignment, Decision, Need
from .summary import summary_of
from .table import Table

if TYPE_CHECKING:
    from .round import Trial


@dataclass(frozen=True)
class Written:
    """Where and when a decision is made."""

    table: Table
    inputs: bytes
    proposal: str
    position: int
    seed: int

    def id_of(self, need: Need) -> str:
        """The same decision of the same proposal has the same id."""
        told = f"{self.proposal}/{self.position}/{need.key}".encode()
        return hashlib.blake2b(told, digest_size=8).hexdigest()


def write(written: Written, trial: Trial) -> Decision:
    """A decision over described things."""
    need, request = trial.question.need, trial.question.request
    unplaced = need.count - len(trial.choices)
    nodes = len(written.table.nodes)
    record = DecisionRecord(
        version=written.table.snapshot.version,
        inputs=written.inputs,
        proposal=written.proposal,
        position=written.position,
        seed=written.seed,
        need=need,
        policies=tuple(trial.panel.records),
        scoring=trial.scoring.names,
        nodes=nodes,
        feasible=trial.feasible,
        counts=trial.counts,
        choices=tuple(_with_accelerators(trial) if request.accelerators else trial.choices),
        reserved=Reservation(request.cpu_millis, request.memory_bytes, request.disk_bytes),
        top=trial.top,
        unplaced=unplaced,
    )
    chosen = [choice.node for choice in trial.choices]
    summary = summary_of(need, chosen, unplaced, trial.counts, nodes)
    assignments = _assignments(written.table, trial)
    return Decision(written.id_of(need), need, assignments, unplaced, summary, encode_record(record))


def write_undescribed(written: Written, need: Need) -> Decision:
    """A need for something that no description in the snapshot mentions."""
    counts = {"description": len(written.table.nodes)}
    record = DecisionRecord(
        version=written.table.snapshot.version,
        inputs=written.inputs,
        proposal=written.proposal,
        position=written.position,
        seed=written.seed,
        need=need,
        policies=(),
        scoring=(),
        nodes=len(written.table.nodes),
        feasible=0,
        counts=counts,
        choices=(),
        reserved=Reservation(),
        top=(),
        unplaced=need.count,
    )
    summary = f"{need.key} is not described in version {written.table.snapshot.version}"
    return Decision(written.id_of(need), need, (), need.count, summary, encode_record(record))


def _assignments(table: Table, trial: Trial) -> tuple[Assignment, ...]:
    replaces = trial.question.need.replaces
    names, rows = table.nodes.names, table.rows
    return tuple(
        [
            Assignment(rows[row].state.uid, names[row], replaces[at] if at < len(replaces) else "", held)
            for at, (row, held) in enumerate(zip(trial.rows, trial.reserved, strict=True))
        ]
    )


def _with_accelerators(trial: Trial) -> list[Choice]:
    return [
        msgspec.structs.replace(choice, accelerators=held.accelerators)
        for choice, held in zip(trial.choices, trial.reserved, strict=True)
    ]

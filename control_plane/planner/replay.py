"""Decides again what a record says was decided, over the same snapshot, and gives the same record bit for bit.

For `sim`, for audits, and for tests. The records of the same proposal that came before are part of what a decision
saw.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...descriptions.errors import RefusedError
from .policies import Policies
from .record import DecisionRecord, decode_record
from .round import Round
from .snapshot import Snapshot
from .table import Table


def replay(
    record: DecisionRecord, snapshot: Snapshot, policies: Policies, before: Sequence[DecisionRecord] = ()
) -> DecisionRecord:
    """Decide again; equal to `record` where the policies are still the same code.

    `before` are the earlier records of the same proposal. `RefusedError` where they are not all there, or the
    snapshot is another one. Policies that failed then are not asked now.
    """
    earlier = sorted(before, key=lambda one: one.position)
    if [one.position for one in earlier] != list(range(record.position)):
        raise RefusedError(f"replaying position {record.position} of {record.proposal} needs every record before it")
    broken = {policy.name: policy.fault for policy in record.policies if policy.fault}
    current = Round(Table(snapshot), policies, record.seed, broken, record.position)
    if current.inputs != record.inputs or snapshot.version != record.version:
        raise RefusedError(f"the decision was made over version {record.version}, with other nodes or placements")
    for one in earlier:
        _apply(one, current.table)
    return decode_record(current.decide(record.need).record)


def _apply(record: DecisionRecord, table: Table) -> None:
    for replica_id in record.need.replaces:
        table.retire(replica_id)
    for choice in record.choices:
        row, held = table.nodes.row_of[choice.node], record.reservation(choice)
        table.ledger.take_held(row, held)
        table.place(record.need.application, record.need.component, row, held)

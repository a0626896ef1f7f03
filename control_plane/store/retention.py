"""Keeps append-only tables under their caps: the oldest rows go, a bounded batch per commit, and are counted.

Runs in the writer thread, inside the group's transaction, so pruning costs no fsync of its own. Row counts are kept
in memory and read again after a failed commit.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, Table, delete, func, select, update

from .records import LogSize, Retention, RetentionLimits
from .schema import audit, counters, decisions, events, idempotency, tombstones

AGE_CHECK_EVERY_MS = 60_000
SLACK_ROWS = 100
"""A table may run this far over its cap before rows go, so that not every commit prunes."""

_TABLES: tuple[Table, ...] = (events, decisions, audit, tombstones, idempotency)


class Pruner:
    """Row counts of the capped tables, and what to do when one is over."""

    def __init__(self, limits: RetentionLimits) -> None:
        self._limits = limits
        self._rows: Counter[str] = Counter()
        self._pruned: Counter[str] = Counter()
        self._age_checked_ms = 0

    def load(self, connection: Connection) -> None:
        """Count what is there: at start, and after a commit that failed."""
        row = connection.execute(select(counters)).one()._mapping
        for table in _TABLES:
            self._rows[table.name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
            self._pruned[table.name] = row.get(f"{table.name}_pruned", 0)

    def sizes(self) -> dict[str, LogSize]:
        """Rows kept and removed by table."""
        return {table.name: LogSize(self._rows[table.name], self._pruned[table.name]) for table in _TABLES}

    def prune(self, connection: Connection, appended: Counter[str], now_ms: int) -> None:
        """Count this group's new rows, then remove what is over a cap; by age once a minute."""
        self._rows.update(appended)
        by_age = abs(now_ms - self._age_checked_ms) >= AGE_CHECK_EVERY_MS
        if by_age:
            self._age_checked_ms = now_ms
        for table in _TABLES:
            limits: Retention = getattr(self._limits, table.name)
            excess = self._rows[table.name] - limits.rows_max
            if by_age or excess > SLACK_ROWS:
                oldest_kept_ms = now_ms - int(limits.age_s_max * 1000) if by_age else None
                self._prune_table(connection, table, excess, oldest_kept_ms)

    def _prune_table(self, connection: Connection, table: Table, excess: int, oldest_kept_ms: int | None) -> None:
        oldest = select(table.c.version, table.c.at_ms).order_by(table.c.version).limit(self._limits.batch_rows)
        doomed = [
            row.version
            for place, row in enumerate(connection.execute(oldest))
            if place < excess or (oldest_kept_ms is not None and row.at_ms < oldest_kept_ms)
        ]
        if not doomed:
            return
        removed = connection.execute(delete(table).where(table.c.version <= doomed[-1])).rowcount
        self._rows[table.name] -= removed
        self._note(connection, table, removed, doomed[-1])

    def _note(self, connection: Connection, table: Table, removed: int, last_version: int) -> None:
        column = f"{table.name}_pruned"
        if column in counters.c:
            self._pruned[table.name] += removed
            connection.execute(update(counters).values({column: counters.c[column] + removed}))
        if f"{table.name}_compacted" in counters.c:
            connection.execute(update(counters).values({f"{table.name}_compacted": last_version}))

"""Telemetry batches to windows: the newest samples of every series of every node, for policies and the API.

The control plane's driver calls `ingest` with each payload of `up/tel/*` and asks through `window_query`. Memory is
bounded, every drop is counted by reason. The clock is the control plane's time of receipt: a node's own time only
tells how its samples lie to each other and how long a batch was under way, so a wrong clock moves nothing.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..descriptions.errors import ProtocolError
from ..descriptions.messages.telemetry import HistogramPoint, SeriesDefinition, TelemetryBatch, decode_batch
from .metrics import Series
from .window_columns import Columns
from .window_sessions import Session

SESSIONS_PER_NODE = 4
"""An agent run has one for each of its two topics; those of the run before may have batches under way."""
VALUE_MAX = 1e18
COUNT_MAX = 2**32 - 1
HISTOGRAMS_MAX = 2000
HISTOGRAM_DEPTH = 60


T = TypeVar("T")


@dataclass
class WindowCounters:
    """All that was taken in and all that was not, since start."""

    batches: int = 0
    samples: int = 0
    histograms: int = 0
    malformed: int = 0
    """Payloads that were no batch."""
    duplicates: int = 0
    """Batches that came again (QoS 1)."""
    lost_batches: int = 0
    """Numbers that were skipped and have not come since."""
    unknown_series: int = 0
    """Samples of series whose definition was lost."""
    not_finite: int = 0
    out_of_range: int = 0
    late: int = 0
    """Samples older than the newest of their series."""
    stale: int = 0
    """Samples older than the window when they arrived."""
    series_refused: int = 0
    """Definitions beyond the limits."""


@dataclass
class HistogramRing:
    """A histogram's totals over time."""

    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=HISTOGRAM_DEPTH))
    sums: deque[float] = field(default_factory=lambda: deque(maxlen=HISTOGRAM_DEPTH))
    counts: deque[npt.NDArray[np.uint32]] = field(default_factory=lambda: deque(maxlen=HISTOGRAM_DEPTH))


class Windows:
    """The newest samples of all series. Safe to read from another thread while `ingest` runs."""

    def __init__(self, window_s: float = 300.0, *, depth: int = 120, series_max: int = 50_000) -> None:
        self.window_s = window_s
        self.columns = Columns(series_max, depth)
        self.lock = threading.RLock()
        self.slots: dict[str, dict[str, dict[Series, int]]] = {}
        """Metric name → node → series → slot."""
        self.histograms: dict[str, dict[str, dict[Series, HistogramRing]]] = {}
        """Metric name → node → series → ring."""
        self._sessions: dict[str, dict[str, Session]] = {}
        self._low = np.zeros(0)
        self._high = np.zeros(0)
        self._histogram_count = 0
        self._counters = WindowCounters()
        self._undefined: set[str] = set()

    @property
    def counters(self) -> WindowCounters:
        """A copy of the counters."""
        return replace(self._counters)

    @property
    def series_count(self) -> int:
        """Series that are kept now, histograms included."""
        plain = sum(len(found) for nodes in self.slots.values() for found in nodes.values())
        return plain + self._histogram_count

    def take_undefined(self) -> frozenset[str]:
        """Nodes that sent samples of undefined series since the last call: ask them to define all again."""
        undefined, self._undefined = frozenset(self._undefined), set()
        return undefined

    def ingest(self, node: str, payload: bytes, now_s: float) -> int:
        """Take a batch in; how many samples were kept. `ProtocolError` for what is no batch, counted as well."""
        try:
            batch = decode_batch(payload)
        except ProtocolError:
            self._counters.malformed += 1
            raise
        with self.lock:
            session = self._session(node, batch.session)
            before = session.highest_seq
            if session.is_repeated(batch.seq):
                self._counters.duplicates += 1
                return 0
            self._count_lost(before, batch.seq)
            self._counters.batches += 1
            for definition in batch.definitions:
                self._define(node, session, definition)
            return self._ingest_columns(node, session, batch, now_s)

    def _session(self, node: str, name: str) -> Session:
        sessions = self._sessions.setdefault(node, {})
        session = sessions.pop(name, None) or Session()
        if len(sessions) >= SESSIONS_PER_NODE:
            del sessions[next(iter(sessions))]  # the one that was silent for longest
        sessions[name] = session
        return session

    def _count_lost(self, before: int, seq: int) -> None:
        if before >= 0:
            self._counters.lost_batches += seq - before - 1 if seq > before else -1

    def _define(self, node: str, session: Session, definition: SeriesDefinition) -> None:
        series = Series(
            definition.name,
            definition.kind,
            definition.unit,
            tuple(sorted(definition.attributes.items())),
            definition.bounds,
        )
        if series.kind == "histogram":
            self._define_histogram(node, session, definition.id, series)
            return
        known = self.slots.setdefault(series.name, {}).setdefault(node, {})
        slot = known.get(series)
        if slot is None:
            slot = self.columns.take()
            if slot is None:
                self._counters.series_refused += 1
                return
            known[series] = slot
            self._set_range(slot, series)
        session.point(definition.id, slot)

    def _define_histogram(self, node: str, session: Session, series_id: int, series: Series) -> None:
        known = self.histograms.setdefault(series.name, {}).setdefault(node, {})
        if series not in known:
            if self._histogram_count >= HISTOGRAMS_MAX:
                self._counters.series_refused += 1
                return
            known[series] = HistogramRing()
            self._histogram_count += 1
        session.histogram_of[series_id] = series

    def _set_range(self, slot: int, series: Series) -> None:
        if slot >= len(self._low):
            room = len(self.columns.last_s) - len(self._low)
            self._low = np.concatenate((self._low, np.zeros(room)))
            self._high = np.concatenate((self._high, np.zeros(room)))
        self._low[slot], self._high[slot] = value_range(series)

    def _ingest_columns(self, node: str, session: Session, batch: TelemetryBatch, now_s: float) -> int:
        ids = np.frombuffer(batch.series, "<u2")
        offsets_ms = np.frombuffer(batch.offsets_ms, "<u4")
        values = np.frombuffer(batch.values, "<f8")
        ends_ms = [int(offsets_ms.max())] if len(offsets_ms) else []
        ends_ms += [point.offset_ms for point in batch.histograms]
        if not ends_ms:
            return 0
        base_s = batch.base_ms / 1000 + session.to_local((batch.base_ms + max(ends_ms)) / 1000, now_s)
        kept = self._ingest_samples(node, session, ids, base_s + offsets_ms / 1000, values, now_s) if len(ids) else 0
        for point in batch.histograms:
            kept += self._ingest_histogram(node, session, point, base_s + point.offset_ms / 1000, now_s)
        return kept

    def _ingest_samples(
        self,
        node: str,
        session: Session,
        ids: npt.NDArray[np.uint16],
        times_s: npt.NDArray[np.float64],
        values: npt.NDArray[np.float64],
        now_s: float,
    ) -> int:
        counters = self._counters
        slots = session.slots(ids)
        known = slots >= 0
        if not known.all():
            self._undefined.add(node)
            counters.unknown_series += int(np.count_nonzero(~known))
            slots, times_s, values = slots[known], times_s[known], values[known]
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            within = finite & (values >= self._low[slots]) & (values <= self._high[slots])
        good = within & (times_s >= now_s - self.window_s)
        counters.not_finite += int(np.count_nonzero(~finite))
        counters.out_of_range += int(np.count_nonzero(finite & ~within))
        counters.stale += int(np.count_nonzero(within & ~good))
        late = self.columns.append(slots[good], times_s[good], values[good])
        counters.late += late
        kept = int(np.count_nonzero(good)) - late
        counters.samples += kept
        return kept

    def _ingest_histogram(
        self, node: str, session: Session, point: HistogramPoint, time_s: float, now_s: float
    ) -> bool:
        series = session.histogram_of.get(point.series)
        ring = None if series is None else self.histograms.get(series.name, {}).get(node, {}).get(series)
        if series is None or ring is None:
            self._counters.unknown_series += 1
            self._undefined.add(node)
        elif len(point.counts) != len(series.bounds) + 1 or not math.isfinite(point.sum):
            self._counters.out_of_range += 1
        elif time_s < now_s - self.window_s:
            self._counters.stale += 1
        elif ring.times_s and time_s <= ring.times_s[-1]:
            self._counters.late += 1
        else:
            ring.times_s.append(time_s)
            ring.sums.append(point.sum)
            ring.counts.append(np.minimum(point.counts, COUNT_MAX).astype(np.uint32))
            self._counters.histograms += 1
            return True
        return False

    def expire(self, now_s: float) -> int:
        """Free the series without a sample for two windows; how many. Call it now and then."""
        limit_s = now_s - 2 * self.window_s
        with self.lock:
            gone = [
                (name, node, series)
                for name, nodes in self.slots.items()
                for node, found in nodes.items()
                for series, slot in found.items()
                if self.columns.last_s[slot] < limit_s
            ]
            old = [
                (name, node, series)
                for name, nodes in self.histograms.items()
                for node, found in nodes.items()
                for series, ring in found.items()
                if not ring.times_s or ring.times_s[-1] < limit_s
            ]
            for name, node, series in gone:
                self._free(name, node, series)
            for name, node, series in old:
                self._free_histogram(name, node, series)
            return len(gone) + len(old)

    def forget(self, node: str) -> None:
        """Free everything of a node that was removed."""
        with self.lock:
            for name in [name for name, nodes in self.slots.items() if node in nodes]:
                for series in list(self.slots[name][node]):
                    self._free(name, node, series)
            for name in [name for name, nodes in self.histograms.items() if node in nodes]:
                for series in list(self.histograms[name][node]):
                    self._free_histogram(name, node, series)
            self._sessions.pop(node, None)
            self._undefined.discard(node)

    def _free(self, name: str, node: str, series: Series) -> None:
        slot = self.slots[name][node].pop(series)
        _prune(self.slots, name, node)
        self.columns.release(slot)
        for session in self._sessions.get(node, {}).values():
            session.forget(slot)

    def _free_histogram(self, name: str, node: str, series: Series) -> None:
        del self.histograms[name][node][series]
        _prune(self.histograms, name, node)
        self._histogram_count -= 1


def value_range(series: Series) -> tuple[float, float]:
    """The values that make sense: utilisations from 0 to 1 (a bit over, for rounding), no negative counters."""
    if series.name.endswith(".utilization") and series.unit == "1":
        # A process on several cores may be over 1 in some conventions; ours and OpenTelemetry's divide by the cores.
        return 0.0, 1.05
    return (0.0 if series.kind == "counter" else -VALUE_MAX), VALUE_MAX


def _prune(index: dict[str, dict[str, dict[Series, T]]], name: str, node: str) -> None:
    if not index[name][node]:
        del index[name][node]
    if not index[name]:
        del index[name]

"""`shoal bench telemetry`: how much the windows take in, from encoded batches to readable statistics, on one core.

`run` measures; the CLI adds machine and commit and prints. `profile` gives the table for `docs/benchmarks.md`.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import time
from dataclasses import dataclass, field

from .encoding import BatchEncoder
from .metrics import AnySample, Sample, series
from .window_query import Query, query
from .windows import Windows

NODES = 100
SERIES = 40
"""Of one node: a host with a few components."""
TICKS = 60
SAMPLES_PER_S_MIN = 100_000


@dataclass(frozen=True)
class Figure:
    """One measured number and the bar that it must reach."""

    name: str
    value: float
    unit: str
    reach: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """Batches as the link receives them: (node, time of receipt, payload), and how many samples they hold."""

    batches: list[tuple[str, float, bytes]]
    samples: int


def make_load(samples_per_batch: int, nodes: int = NODES) -> Load:
    """Batches of `nodes` hosts over `TICKS` seconds, in order of receipt."""
    kinds = [
        series(f"system.bench.{number % 8}", "counter" if number % 2 else "gauge", "1", {"device": str(number)})
        for number in range(SERIES)
    ]
    per_series = max(1, samples_per_batch // SERIES)
    encoders = [BatchEncoder(f"session-{node}") for node in range(nodes)]
    batches = []
    for tick in range(TICKS):
        for node, encoder in enumerate(encoders):
            samples: list[AnySample] = [
                Sample(kind, tick + step / per_series, tick * 10.0 + step + node)
                for step in range(per_series)
                for kind in kinds[:samples_per_batch]
            ]
            batches += [(f"node-{node}", tick + 1.0, payload) for payload in encoder.encode(samples)]
    return Load(batches, TICKS * nodes * per_series * min(SERIES, samples_per_batch))


def ingest(load: Load) -> Windows:
    """All batches into new windows."""
    windows = Windows()
    for node, now_s, payload in load.batches:
        windows.ingest(node, payload, now_s)
    kept = windows.counters.samples
    if kept != load.samples:
        raise RuntimeError(f"{kept} samples kept of {load.samples}: {windows.counters}")
    return windows


def run(rounds: int = 3) -> list[Figure]:
    """Samples a second for batches of three sizes, and what a question costs; the best of `rounds`."""
    found = []
    windows = Windows()
    for size in (10, 40, 400):
        load = make_load(size)
        rates = []
        for _ in range(rounds):
            began_s = time.perf_counter()
            windows = ingest(load)
            rates.append(load.samples / (time.perf_counter() - began_s))
        reach: dict[str, float] = {">=": SAMPLES_PER_S_MIN} if size >= SERIES else {}
        found.append(Figure(f"ingest.batch-of-{size}", round(max(rates)), "samples/s", reach))
    found.append(Figure("windows.memory", round(windows.columns.bytes / 2**20, 1), "MiB"))
    question = Query("system.bench.0", "p95", 60.0, by="node")
    began_s = time.perf_counter()
    rows = query(windows, question, TICKS)
    found.append(Figure("query.p95-by-node", round((time.perf_counter() - began_s) * 1e6 / len(rows), 1), "us/row"))
    return found


def profile(samples_per_batch: int = 40, lines: int = 15) -> str:
    """Where the time goes, by time within each function."""
    load = make_load(samples_per_batch)
    profiler = cProfile.Profile()
    profiler.runcall(ingest, load)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(lines)
    return text.getvalue()

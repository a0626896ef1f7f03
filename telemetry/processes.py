"""What components' processes and the agent itself take: a producer for the reader.

The agent tells `watch` which pids belong to which replica. A pid that was reused is told by its start time and gives
nothing. Utilisation is of all cores together, as OpenTelemetry has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .metrics import AnySample, Sample, Series, series

PROCESSES_MAX = 256
SMAPS_BYTES_MAX = 8192

CPU, MEMORY, PSS = "process.cpu.utilization", "process.memory.usage", "shoal.process.memory.pss"
THREADS, FILES, CPU_TIME = "process.thread.count", "process.unix.file_descriptor.count", "process.cpu.time"


@dataclass(frozen=True)
class Watched:
    """A process to measure, and whose it is (`shoal.application`, `shoal.component`, `shoal.replica`, …)."""

    pid: int
    attributes: Mapping[str, str]


@dataclass
class _Process:
    """A watched process and what was seen of it last."""

    handle: psutil.Process
    attributes: Mapping[str, str]
    cpu_s: float = -1.0
    at_s: float = 0.0
    series: dict[str, Series] = field(default_factory=dict)

    def sample(self, name: str, kind: str, unit: str, now_s: float, value: float) -> Sample:
        if name not in self.series:
            self.series[name] = series(name, "counter" if kind == "counter" else "gauge", unit, self.attributes)
        return Sample(self.series[name], now_s, value)


class ProcessMetrics:
    """Producer of `process.*` for the processes it watches."""

    def __init__(self) -> None:
        self._processes: dict[int, _Process] = {}
        self._cores = psutil.cpu_count() or 1

    def watch(self, watched: Iterable[Watched]) -> None:
        """Measure exactly these from now on; processes that were watched before keep their history."""
        wanted = {each.pid: each.attributes for each in list(watched)[:PROCESSES_MAX]}
        for pid in self._processes.keys() - wanted.keys():
            del self._processes[pid]
        for pid, attributes in wanted.items():
            known = self._processes.get(pid)
            if known is not None and known.attributes == attributes and known.handle.is_running():
                continue
            try:
                self._processes[pid] = _Process(psutil.Process(pid), attributes)
            except psutil.Error:
                self._processes.pop(pid, None)

    def produce(self, now_s: float, is_due: Callable[[str], bool]) -> Iterator[AnySample]:
        """Samples of every process that still runs."""
        due = {name for name in (CPU, CPU_TIME, MEMORY, PSS, THREADS, FILES) if is_due(name)}
        if not due:
            return
        for pid, process in list(self._processes.items()):
            try:
                if not process.handle.is_running():
                    raise psutil.NoSuchProcess(pid)
                yield from self._measure(process, due, now_s)
            except (psutil.Error, OSError):
                del self._processes[pid]

    def _measure(self, process: _Process, due: set[str], now_s: float) -> Iterator[Sample]:
        with process.handle.oneshot():
            if due & {CPU, CPU_TIME}:
                yield from self._measure_cpu(process, due, now_s)
            if MEMORY in due:
                yield process.sample(MEMORY, "gauge", "By", now_s, float(process.handle.memory_info().rss))
            if THREADS in due:
                yield process.sample(THREADS, "gauge", "{thread}", now_s, float(process.handle.num_threads()))
            if FILES in due:
                yield process.sample(FILES, "gauge", "{file_descriptor}", now_s, float(process.handle.num_fds()))
        if PSS in due and (pss_bytes := _pss_bytes(process.handle.pid)) is not None:
            yield process.sample(PSS, "gauge", "By", now_s, float(pss_bytes))

    def _measure_cpu(self, process: _Process, due: set[str], now_s: float) -> Iterator[Sample]:
        times = process.handle.cpu_times()
        cpu_s = float(times.user + times.system)
        if CPU_TIME in due:
            yield process.sample(CPU_TIME, "counter", "s", now_s, cpu_s)
        if CPU not in due:
            return
        elapsed_s = now_s - process.at_s
        if process.cpu_s >= 0 and elapsed_s > 0:
            used = max(0.0, cpu_s - process.cpu_s) / (elapsed_s * self._cores)
            yield process.sample(CPU, "gauge", "1", now_s, min(1.0, used))
        process.cpu_s, process.at_s = cpu_s, now_s


def _pss_bytes(pid: int) -> int | None:
    """Proportional set size; None where the kernel doesn't tell (not Linux, or another user's process)."""
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open(encoding="ascii") as file:
            lines = file.read(SMAPS_BYTES_MAX).splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)

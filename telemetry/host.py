"""Host metrics by psutil, as observable instruments with OpenTelemetry's names.

The agent calls `observe_host(reader, folder)` at its start. A value that this machine cannot give is left out, never
made up. `processes.py` measures what runs on the host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from .reader import Observed, RateReader

NOTHING: Mapping[str, str] = {}
INTERFACES_MAX = 8
VIRTUAL_INTERFACES = ("lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "ifb")
SENSORS_MAX = 16


class _CpuMeter:
    """Utilisation between two calls, all cores together, 0 to 1."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def read(self) -> Observed:
        """None at first use within one clock tick."""
        now, before = psutil.cpu_times(), self._before
        total = sum(now) - sum(before)
        idle = now.idle - before.idle + getattr(now, "iowait", 0.0) - getattr(before, "iowait", 0.0)
        if total <= 0:
            return []
        self._before = now
        return [(min(1.0, max(0.0, 1.0 - idle / total)), NOTHING)]


def observe_host(reader: RateReader, data_folder: Path) -> None:
    """Make the host's instruments. `data_folder` says which file system besides `/` matters."""
    _observe_cpu(reader)
    _observe_memory(reader)
    _observe_disk(reader, data_folder)
    _observe_network(reader)
    if hasattr(psutil, "sensors_temperatures"):
        reader.observe("gauge", "hw.temperature", "Cel", _temperatures)
    reader.observe("gauge", "system.uptime", "s", lambda: [(_uptime_s(), NOTHING)])


def _observe_cpu(reader: RateReader) -> None:
    reader.observe("gauge", "system.cpu.utilization", "1", _CpuMeter().read)
    for minutes, index in (("1m", 0), ("5m", 1), ("15m", 2)):
        reader.observe("gauge", f"system.cpu.load_average.{minutes}", "{thread}", _load(index))
    if hasattr(psutil, "cpu_freq"):
        reader.observe("gauge", "system.cpu.frequency", "Hz", _frequency)


def _observe_memory(reader: RateReader) -> None:
    reader.observe(
        "gauge", "system.memory.usage", "By", lambda: [(float(_used_bytes()), {"system.memory.state": "used"})]
    )
    reader.observe("gauge", "system.memory.limit", "By", lambda: [(float(psutil.virtual_memory().total), NOTHING)])
    reader.observe(
        "gauge", "system.memory.utilization", "1", lambda: [(psutil.virtual_memory().percent / 100, NOTHING)]
    )
    reader.observe("gauge", "system.paging.utilization", "1", lambda: [(psutil.swap_memory().percent / 100, NOTHING)])


def _observe_disk(reader: RateReader, data_folder: Path) -> None:
    places = sorted({"/", _mount_point(data_folder)})
    reader.observe("gauge", "system.filesystem.utilization", "1", lambda: _filesystems(places, _share))
    reader.observe("gauge", "system.filesystem.usage", "By", lambda: _filesystems(places, _used))
    reader.observe("gauge", "system.filesystem.limit", "By", lambda: _filesystems(places, _total))
    reader.observe("counter", "system.disk.io", "By", _disk_io)


def _observe_network(reader: RateReader) -> None:
    reader.observe("counter", "system.network.io", "By", lambda: _network("bytes_sent", "bytes_recv"))
    reader.observe("counter", "system.network.packet.dropped", "{packet}", lambda: _network("dropout", "dropin"))
    reader.observe("counter", "system.network.errors", "{error}", lambda: _network("errout", "errin"))


def _load(index: int) -> Callable[[], Observed]:
    return lambda: [(os.getloadavg()[index], NOTHING)]


def _frequency() -> Observed:
    frequency: Any = psutil.cpu_freq()  # None on machines that don't tell, whatever its stub says
    return [(frequency.current * 1e6, NOTHING)] if frequency else []


def _used_bytes() -> int:
    memory = psutil.virtual_memory()
    return memory.total - memory.available


def _uptime_s() -> float:
    # From the boot clock: the wall clock of a node without RTC says nothing.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _temperatures() -> Observed:
    readings = [
        (sensor.current, {"hw.id": f"{chip}.{sensor.label or index}"})
        for chip, sensors in sorted(psutil.sensors_temperatures().items())
        for index, sensor in enumerate(sensors)
        if -60.0 < sensor.current < 200.0  # sensors that aren't connected say something else
    ]
    return readings[:SENSORS_MAX]


def _mount_point(folder: Path) -> str:
    place = folder.resolve()
    while not place.is_mount() and place != place.parent:
        place = place.parent
    return str(place)


def _filesystems(places: list[str], value: Callable[[str], float]) -> Iterator[tuple[float, Mapping[str, str]]]:
    for place in places:
        try:
            yield value(place), {"system.filesystem.mountpoint": place}
        except OSError:
            continue  # unmounted meanwhile


def _share(place: str) -> float:
    return float(psutil.disk_usage(place).percent) / 100


def _used(place: str) -> float:
    return float(psutil.disk_usage(place).used)


def _total(place: str) -> float:
    return float(psutil.disk_usage(place).total)


def _disk_io() -> Observed:
    io = psutil.disk_io_counters()
    if io is None:
        return []
    read, written = {"disk.io.direction": "read"}, {"disk.io.direction": "write"}
    return [(float(io.read_bytes), read), (float(io.write_bytes), written)]


def _network(transmit: str, receive: str) -> Iterator[tuple[float, Mapping[str, str]]]:
    """One direction's counter each, of the physical interfaces."""
    counters = psutil.net_io_counters(pernic=True)
    names = sorted(name for name in counters if not name.startswith(VIRTUAL_INTERFACES))
    for name in names[:INTERFACES_MAX]:
        for attribute, direction in ((transmit, "transmit"), (receive, "receive")):
            told = {"network.interface.name": name, "network.io.direction": direction}
            yield float(getattr(counters[name], attribute)), told

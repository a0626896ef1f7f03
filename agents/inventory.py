"""What this machine is: architecture, cores, memory, disk, model, accelerators and sensors, into an `Inventory`.

psutil and the operating system's own files tell; what the operator described in `agent.yaml` takes their place. Called
at the start by `run.py`. `root` is `/` but in tests, which bring folders copied from real machines.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import psutil

from ..descriptions.messages.reported import DeviceReport, Inventory
from .accelerators import find_accelerators
from .config import DeviceOptions, InventoryOptions
from .hardware_files import read_text

MODEL_FILES = ("proc/device-tree/model", "sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name")


def take_inventory(state_dir: Path, described: InventoryOptions, root: Path = Path("/")) -> Inventory:
    """Look at the machine; `state_dir` is where disk space counts."""
    return Inventory(
        architecture=described.architecture or platform.machine(),
        model=described.model or machine_model(root),
        cpu=described.cpu or float(usable_cores()),
        frequency_hz=described.frequency or frequency_hz(root),
        memory_bytes=described.memory or psutil.virtual_memory().total,
        disk_bytes=described.disk or shutil.disk_usage(state_dir).total,
        os=operating_system(root),
        python=platform.python_version(),
        hostname=platform.node(),
        accelerators=_devices(described.accelerators, find_accelerators(root)),
        sensors=_devices(described.sensors, find_cameras(root)),
    )


def usable_cores() -> int:
    """Cores that this process may use, which containers and `taskset` may have reduced."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    return len(affinity(0)) if affinity else psutil.cpu_count() or 1


def machine_model(root: Path) -> str:
    """`Raspberry Pi 4 Model B Rev 1.4`, `NVIDIA Jetson Orin Nano Developer Kit`, or what the firmware says."""
    return next((text for name in MODEL_FILES if (text := read_text(root / name))), "")


def frequency_hz(root: Path) -> float:
    """Highest frequency of the first core; 0 when unknown, as in virtual machines."""
    kilohertz = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if kilohertz.isdigit():
        return float(kilohertz) * 1000
    megahertz = [
        line.partition(":")[2].strip()
        for line in read_text(root / "proc/cpuinfo", 256 * 1024).splitlines()
        if line.startswith("cpu MHz")
    ]
    try:
        return max((float(one) * 1e6 for one in megahertz), default=0.0)
    except ValueError:
        return 0.0


def operating_system(root: Path) -> str:
    """`Debian GNU/Linux 12 (bookworm)`, and the kernel."""
    for line in read_text(root / "etc/os-release", 16 * 1024).splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return f"{value.strip().strip(chr(34))}, {platform.system()} {platform.release()}"
    return f"{platform.system()} {platform.release()}"


def find_cameras(root: Path) -> tuple[DeviceReport, ...]:
    """Video4Linux devices that capture; the further nodes of one camera (`index` over 0: metadata) don't count."""
    models: dict[str, int] = {}
    for device in sorted((root / "dev").glob("video*")):
        described = root / "sys/class/video4linux" / device.name
        if read_text(described / "index") in ("", "0"):
            model = read_text(described / "name")[:63] or "unknown"
            models[model] = models.get(model, 0) + 1
    return tuple(DeviceReport("camera", model, count) for model, count in sorted(models.items()))


def _devices(described: tuple[DeviceOptions, ...] | None, found: tuple[DeviceReport, ...]) -> tuple[DeviceReport, ...]:
    if described is None:
        return found
    return tuple(DeviceReport(one.type, one.model, one.count, one.memory) for one in described)

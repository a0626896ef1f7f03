"""Accelerators that the kernel's files show: NVIDIA cards and Jetsons, AMD cards, Coral and Hailo, NPUs.

No library of a vendor is loaded: `nvidia-smi` is asked, with a deadline, only where NVIDIA's driver is loaded. Jetsons
are known by their device tree: their GPU has no PCI address, and newer ones have no NVML (k8s-device-plugin 1963).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..descriptions.messages.reported import DeviceReport
from .hardware_files import read_text

ASK_S = 10.0
AMD = "0x1002"
CORAL_USB = {("1a6e", "089a"), ("18d1", "9302")}
"""The Coral USB accelerator before and after its firmware is loaded."""
NPU_DRIVERS = {"intel_vpu": "Intel NPU", "amdxdna": "AMD XDNA", "rocket": "Rockchip NPU", "habanalabs": "Habana Gaudi"}


def find_accelerators(root: Path) -> tuple[DeviceReport, ...]:
    """All that were found, equal ones counted, sorted by type and model."""
    counts: dict[tuple[str, str, int], int] = {}
    for one in _all(root):
        key = (one.type, one.model[:63], one.memory_bytes)
        counts[key] = counts.get(key, 0) + 1
    return tuple(DeviceReport(kind, model, count, memory) for (kind, model, memory), count in sorted(counts.items()))


def _all(root: Path) -> Iterator[DeviceReport]:
    yield from _nvidia_cards(root)
    yield from _jetson(root)
    yield from _amd_cards(root)
    yield from _coral_and_hailo(root)
    yield from _npus(root)


def _nvidia_cards(root: Path) -> Iterator[DeviceReport]:
    cards = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    memory = _nvidia_memory() if cards and root == Path("/") else {}
    for card in cards:
        fields = dict(line.split(":", 1) for line in read_text(card).splitlines() if ":" in line)
        model = fields.get("Model", "NVIDIA GPU").strip()
        yield DeviceReport("gpu", model, 1, memory.get(model.removeprefix("NVIDIA ").lower(), 0))


def _nvidia_memory() -> dict[str, int]:
    """Memory in bytes by lower-case model; empty when the tool is missing or silent."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, timeout=ASK_S, check=True, text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = (line.rsplit(",", 1) for line in answer.splitlines() if "," in line)
    return {
        name.strip().removeprefix("NVIDIA ").lower(): int(mebibytes) << 20
        for name, mebibytes in rows
        if mebibytes.strip().isdigit()
    }


def _jetson(root: Path) -> Iterator[DeviceReport]:
    """The GPU of a Tegra shares the memory of the machine."""
    compatible = read_text(root / "proc/device-tree/compatible").split()
    if any(word.startswith("nvidia,tegra") for word in compatible):
        model = read_text(root / "proc/device-tree/model").removesuffix("Developer Kit").strip() or "NVIDIA Tegra"
        yield DeviceReport("gpu", model, 1, _shared_memory(root))


def _shared_memory(root: Path) -> int:
    for line in read_text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:") and line.split()[1].isdigit():
            return int(line.split()[1]) * 1024
    return psutil.virtual_memory().total


def _amd_cards(root: Path) -> Iterator[DeviceReport]:
    for device in sorted((root / "sys/class/drm").glob("card*/device")):
        if "-" in device.parent.name or read_text(device / "vendor") != AMD:
            continue  # card0-HDMI-A-1 is a connector
        memory = read_text(device / "mem_info_vram_total")
        model = read_text(device / "product_name") or "AMD GPU"
        yield DeviceReport("gpu", model, 1, int(memory) if memory.isdigit() else 0)


def _coral_and_hailo(root: Path) -> Iterator[DeviceReport]:
    for _ in sorted((root / "dev").glob("apex_[0-9]*")):
        yield DeviceReport("tpu", "Coral PCIe")
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        if (read_text(device / "idVendor"), read_text(device / "idProduct")) in CORAL_USB:
            yield DeviceReport("tpu", "Coral USB")
    for device in sorted((root / "dev").glob("hailo[0-9]*")):
        yield DeviceReport(
            "npu", read_text(root / "sys/class/hailo_chardev" / device.name / "board_location") or "Hailo"
        )


def _npus(root: Path) -> Iterator[DeviceReport]:
    for device in sorted((root / "sys/class/accel").glob("accel[0-9]*")):
        driver = device / "device/driver"
        name = driver.resolve().name if driver.exists() else ""
        yield DeviceReport("npu", NPU_DRIVERS.get(name, name or "unknown"))

"""Machines that are not here: what the agent finds in folders with the files of a Pi, a Jetson, a PC with cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.agents.accelerators import find_accelerators
from shoal.agents.config import DeviceOptions, InventoryOptions
from shoal.agents.inventory import (
    find_cameras,
    frequency_hz,
    machine_model,
    operating_system,
    take_inventory,
    usable_cores,
)
from shoal.descriptions.messages.reported import DeviceReport

Files = dict[str, bytes]

RASPBERRY_PI: Files = {
    "proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/compatible": b"raspberrypi,4-model-b\0brcm,bcm2711\0",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": b"1800000\n",
    "etc/os-release": b'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "dev/video0": b"",
    "sys/class/video4linux/video0/name": b"unicam\n",
    "sys/class/video4linux/video0/index": b"0\n",
    "dev/video1": b"",
    "sys/class/video4linux/video1/name": b"unicam\n",
    "sys/class/video4linux/video1/index": b"1\n",
    "dev/apex_0": b"",
    "sys/bus/usb/devices/1-1.2/idVendor": b"18d1\n",
    "sys/bus/usb/devices/1-1.2/idProduct": b"9302\n",
    "sys/bus/usb/devices/usb1/idVendor": b"1d6b\n",
    "sys/bus/usb/devices/usb1/idProduct": b"0002\n",
}
JETSON: Files = {
    "proc/device-tree/model": b"NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/meminfo": b"MemTotal:        7802364 kB\nMemFree:  1 kB\n",
}
CARDS: Files = {
    "sys/class/dmi/id/product_name": b"PowerEdge R750\n",
    "proc/cpuinfo": b"processor\t: 0\ncpu MHz\t\t: 2596.138\nprocessor\t: 1\ncpu MHz\t\t: 3100.5\n",
    "proc/driver/nvidia/gpus/0000:3b:00.0/information": b"Model: \t\t NVIDIA A2\nIRQ:   \t\t 120\n",
    "proc/driver/nvidia/gpus/0000:af:00.0/information": b"Model: \t\t NVIDIA A2\n",
    "sys/class/drm/card1/device/vendor": b"0x1002\n",
    "sys/class/drm/card1/device/mem_info_vram_total": b"17163091968\n",
    "sys/class/drm/card1/device/product_name": b"AMD Instinct\n",
    "sys/class/drm/card1-DP-1/device/vendor": b"0x1002\n",
    "sys/class/drm/card0/device/vendor": b"0x102b\n",
    "dev/hailo0": b"",
    "sys/class/hailo_chardev/hailo0/board_location": b"Hailo-8L\n",
    "sys/class/accel/accel0/device/uevent": b"DRIVER=intel_vpu\n",
}


def machine(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_raspberry_pi(tmp_path: Path) -> None:
    root = machine(tmp_path, RASPBERRY_PI)
    assert machine_model(root) == "Raspberry Pi 4 Model B Rev 1.4"
    assert frequency_hz(root) == 1.8e9
    assert operating_system(root).startswith("Debian GNU/Linux 12 (bookworm), ")
    assert find_cameras(root) == (DeviceReport("camera", "unicam", 1),)  # video1 is the same one's metadata
    assert find_accelerators(root) == (DeviceReport("tpu", "Coral PCIe"), DeviceReport("tpu", "Coral USB"))


def test_a_jetson_is_known_by_its_device_tree(tmp_path: Path) -> None:
    root = machine(tmp_path, JETSON)
    assert find_accelerators(root) == (DeviceReport("gpu", "NVIDIA Jetson Orin Nano", 1, 7802364 * 1024),)


def test_cards_of_a_server(tmp_path: Path) -> None:
    root = machine(tmp_path, CARDS)
    (root / "drivers/intel_vpu").mkdir(parents=True)
    (root / "sys/class/accel/accel0/device/driver").symlink_to(root / "drivers/intel_vpu")
    assert machine_model(root) == "PowerEdge R750"
    assert frequency_hz(root) == 3.1005e9
    assert find_accelerators(root) == (
        DeviceReport("gpu", "AMD Instinct", 1, 17163091968),
        DeviceReport("gpu", "NVIDIA A2", 2),
        DeviceReport("npu", "Hailo-8L"),
        DeviceReport("npu", "Intel NPU"),
    )


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/cpuinfo": b"cpu MHz : fast\n"},
        {"proc/driver/nvidia/gpus/x/information": b"\xff\xfe no colon here"},
        {"sys/class/drm/card0/device/vendor": b"0x1002", "sys/class/drm/card0/device/mem_info_vram_total": b"much"},
        {"sys/bus/usb/devices/1-1/idVendor": b""},
    ],
)
def test_what_cannot_be_read_is_not_known_and_nothing_fails(tmp_path: Path, files: Files) -> None:
    root = machine(tmp_path, files)
    assert frequency_hz(root) == 0.0
    find_accelerators(root)
    assert find_cameras(root) == ()


def test_this_machine_has_cores_memory_and_disk(tmp_path: Path) -> None:
    found = take_inventory(tmp_path, InventoryOptions())
    assert found.cpu == usable_cores() >= 1
    assert found.memory_bytes > 0
    assert found.disk_bytes > 0
    assert found.architecture
    assert found.python


def test_what_is_described_takes_the_place_of_what_is_found(tmp_path: Path) -> None:
    described = InventoryOptions(
        architecture="aarch64", model="Toaster", cpu=0.5, frequency=1e9, memory=1 << 20, disk=1 << 30,
        accelerators=(DeviceOptions("gpu", "Imaginary", 2, 1 << 20),), sensors=(DeviceOptions("camera"),),
    )  # fmt: skip
    found = take_inventory(tmp_path, described, machine(tmp_path, RASPBERRY_PI))
    assert (found.architecture, found.model, found.cpu) == ("aarch64", "Toaster", 0.5)
    assert (found.frequency_hz, found.memory_bytes, found.disk_bytes) == (1e9, 1 << 20, 1 << 30)
    assert found.accelerators == (DeviceReport("gpu", "Imaginary", 2, 1 << 20),)
    assert found.sensors == (DeviceReport("camera", "", 1),)


def test_an_empty_list_hides_what_is_there(tmp_path: Path) -> None:
    root = machine(tmp_path, RASPBERRY_PI)
    assert take_inventory(tmp_path, InventoryOptions(sensors=()), root).sensors == ()

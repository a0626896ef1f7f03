"""The wheel is the product: built from what git tracks, installed alone, it runs the demo from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def run(*argv: str, cwd: Path, timeout_s: float = 600) -> str:
    """Standard output of a command that must succeed."""
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files so that the checkout stays clean."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, tracked):
        source, target = ROOT / name, copy / name
        if name.startswith(".dev/") or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy), cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("wheel")
def test_the_demo_runs_from_the_wheel_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    install = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*install, "--require-hashes", "-r", str(ROOT / "requirements" / "run.txt"), cwd=tmp_path)
    run(*install, "--no-deps", str(wheel), cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    told = json.loads(run(str(python.parent / "shoal"), "demo", "--once", "-o", "json", cwd=elsewhere))
    assert told["inference"]["answered"] == told["inference"]["total"] > 0
    assert told["inference"]["correct"] / told["inference"]["total"] > 0.9
    assert {one["component"] for one in told["placements"]} == {"classifier", "prefilter"}
    assert told["failover"]["replaced_s"] >= told["failover"]["detected_s"] > 0
    assert list(elsewhere.iterdir()) == []


@pytest.mark.xdist_group("wheel")
def test_core_and_inference_come_from_wheels_alone_on_aarch64(wheel: Path, tmp_path: Path) -> None:
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    abis = [argument for abi in ("cp311", "abi3", "none") for argument in ("--abi", abi)]
    report = run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"),
        *("--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", *platforms, *abis),
        *("--target", str(tmp_path / "target"), f"{wheel}[inference]"),
        cwd=tmp_path,
    )
    resolved = {one["metadata"]["name"].lower() for one in json.loads(report)["install"]}
    assert {"shoal", "onnxruntime", "numpy", "msgspec", "psutil", "cryptography"} <= resolved


def test_the_wheel_holds_what_the_product_needs_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in names if name.startswith(("shoal/tests/", "tests/"))]
    wanted = {"shoal/py.typed", "shoal/examples/01-digits/digits.onnx", "shoal/examples/01-digits/application.yaml",
              "shoal/examples/01-digits/system.yaml", "shoal/examples/01-digits/prefilter.py"}  # fmt: skip
    assert wanted <= names
    assert len([name for name in names if name.startswith("shoal/examples/01-digits/images/")]) == 100

"""Measures the figures that `docs/benchmarks.md` keeps: `shoal bench NAME` prints values, machine and commit.

Each room has a `bench.py` that measures its own hot path; this module only finds it, says where it ran and prints.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import psutil
import typer
from rich.console import Console
from rich.table import Table

BENCHES = {
    "placement": "control_plane.planner.bench",
    "agent": "agents.bench",
    "control": "control_plane.bench",
    "telemetry": "telemetry.bench",
    "sim": "sim.bench",
}
"""Name to module with a `run() -> list[Figure]`."""


class Figure(msgspec.Struct, frozen=True):
    """One measured value with the bar it should reach, such as `{">=": 20000}`."""

    name: str
    value: float
    unit: str
    reach: dict[str, float] = {}

    @property
    def reached(self) -> bool:
        """Whether the value stands to every bar as it should."""
        compare = {">=": self.value.__ge__, "<=": self.value.__le__, "<": self.value.__lt__, ">": self.value.__gt__}
        return all(compare[relation](bar) is True for relation, bar in self.reach.items())


class Report(msgspec.Struct, frozen=True):
    """What one bench found."""

    bench: str
    machine: str
    commit: str
    figures: tuple[Figure, ...]


def run(name: str) -> Report:
    """Measure; `KeyError` when there is no such bench."""
    module = import_module(f"..{BENCHES[name]}", __package__)
    figures = msgspec.convert([msgspec.to_builtins(one) for one in module.run()], tuple[Figure, ...])
    return Report(name, machine(), commit(), figures)


def machine() -> str:
    """Processor, cores, memory and Python, without names of hosts."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() in {"model name", "Model"}), model)
    memory_gib = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{model}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {system}"


def commit() -> str:
    """Short hash of the checkout, `+` when it has changes, `unknown` outside of one."""
    root = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"],  # noqa: S607
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"{', '.join(BENCHES)}, or all.")],
    output: Annotated[
        Literal["human", "json"], typer.Option("--output", "-o", help="Table for people, or json.")
    ] = "human",
) -> None:
    """Measure a hot path and say what it should reach; the figures are kept in docs/benchmarks.md."""
    if name not in {*BENCHES, "all"}:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(BENCHES)}, all")
    reports = []
    for one in BENCHES if name == "all" else (name,):
        if output == "human":
            Console(stderr=True).print(f"[dim]measuring {one}…[/]")
        reports.append(run(one))
        if output == "human":
            _print(reports[-1])
    if output == "json":
        told = reports if name == "all" else reports[0]
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n")


def _print(report: Report) -> None:
    drawn = Table(title=f"{report.bench} · {report.machine} · {report.commit}", title_justify="left", box=None)
    for title in ("FIGURE", "VALUE", "UNIT", "SHOULD REACH"):
        drawn.add_column(title, justify="right" if title == "VALUE" else "left")
    for one in report.figures:
        bars = " ".join(f"{relation} {bar:,g}" for relation, bar in one.reach.items())
        style = "" if not one.reach else "green" if one.reached else "red"
        drawn.add_row(one.name, f"{one.value:,.4g}", one.unit, f"[{style}]{bars}[/]" if style else "")
    Console().print(drawn)

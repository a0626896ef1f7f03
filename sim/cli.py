"""`shoal sim`: run a scenario under virtual time, look for seeds that break something, list what is checked.

Loaded by the root's `__main__` for this room alone. Exit codes: 0 done, 1 an invariant did not hold (or a replay
differs), 2 usage or a scenario that cannot be read.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..control_plane.commands.output import Format, Output, emit, errors
from ..descriptions.errors import DescriptionError, ShoalError
from . import recording
from .invariants import CHECKS
from .report import show, show_checks
from .run import Simulated, simulate, violation_of
from .scenario import LoadedScenario, load_scenario

app = typer.Typer(no_args_is_help=True, help="Run a scenario under virtual time.", add_completion=False)

Scenario = Annotated[Path, typer.Argument(help="The scenario's YAML file.", show_default=False)]
FAILED, USAGE = 1, 2


@app.command()
def run(
    scenario: Scenario,
    seed: Annotated[int, typer.Option(help="Decides everything that chance does.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the run (PNG).")] = None,
    record: Annotated[Path | None, typer.Option(help="Write down the run, to hold another against it.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Run with a recording's seed and say where it differs.")] = None,
    output: Output = Format.HUMAN,
) -> None:
    """Run a scenario and say what came of it."""
    loaded = _load(scenario)
    try:
        kept = recording.read(replay) if replay is not None else None
        simulated = _simulate(loaded, kept.seed if kept is not None else seed)
        if plot is not None:
            from .plot import draw

            draw(simulated, plot)
        if record is not None:
            recording.write(record, simulated.recording)
    except (ShoalError, OSError) as error:
        _fail(str(error), FAILED)
    if output is Format.HUMAN:
        show(simulated.result, plot)
    else:
        emit(simulated.result, output)
    if kept is not None and (told := recording.difference(kept, simulated.recording)):
        _fail(told, FAILED)
    if simulated.result.violation:
        raise typer.Exit(FAILED)


@app.command()
def hunt(
    scenario: Scenario,
    seeds: Annotated[str, typer.Option(help="FIRST..LAST")] = "1..20",
    every: Annotated[bool, typer.Option(help="Go on after the first seed that breaks an invariant.")] = False,
) -> None:
    """Run many seeds and stop at the first that breaks an invariant, with its story."""
    loaded = _load(scenario)
    first, last = _range(seeds)
    begun_s, broken = time.perf_counter(), 0
    with _progress() as progress:
        task = progress.add_task("seeds", total=last - first + 1)
        for seed in range(first, last + 1):
            violation = violation_of(loaded, seed)
            progress.advance(task)
            if violation is not None:
                broken += 1
                progress.console.print(str(violation), highlight=False, markup=False)
                if not every:
                    break
    told = f"{broken} of {last - first + 1} seeds broke an invariant ({time.perf_counter() - begun_s:.0f} s)"
    sys.stdout.write(told + "\n")
    if broken:
        raise typer.Exit(FAILED)


@app.command()
def invariants(output: Output = Format.HUMAN) -> None:
    """List what is checked after every step."""
    if output is Format.HUMAN:
        show_checks()
    else:
        emit([{"name": check.name, "title": check.title} for check in CHECKS], output)


def _load(path: Path) -> LoadedScenario:
    try:
        return load_scenario(path)
    except DescriptionError as error:
        _fail("\n".join(str(one) for one in error.all), USAGE)
    except OSError as error:
        _fail(f"{path}: {error.strerror or error}", USAGE)


def _simulate(loaded: LoadedScenario, seed: int) -> Simulated:
    if not errors.is_terminal:
        return simulate(loaded, seed)
    with _progress() as progress:
        task = progress.add_task(loaded.scenario.name, total=1.0)
        return simulate(loaded, seed, lambda share: progress.update(task, completed=share))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn(),
        console=errors, transient=True,
    )  # fmt: skip


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not first.isdecimal() or (dots and not last.isdecimal()):
        _fail(f"{text!r} is no range of seeds; write 1..20", USAGE)
    return int(first), int(last or first)


def _fail(told: str, code: int) -> NoReturn:
    errors.print(told, style="red", markup=False)
    raise typer.Exit(code)

"""Shows the demo's story: `PeopleTeller` with colours and progress for people, `SilentTeller` for programs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.columns import Columns
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ...api.answers import MetricAnswer, PlacementAnswer
from ...planner.explanation import Explanation
from ..explain import print_why
from ..objects import print_placements
from ..output import console, errors, table

if TYPE_CHECKING:
    from .story import Image

SHADES = " .:-=+*#%@"


class Teller(Protocol):
    """What the story says on its way."""

    def chapter(self, title: str) -> None:
        """A new part begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So much of it is done."""

    def note(self, text: str) -> None:
        """One line."""

    def placements(self, placements: Sequence[PlacementAnswer]) -> None:
        """Where replicas are."""

    def scored(self, who: str, correct: int, total: int) -> None:
        """How well one replica reads."""

    def shown(self, images: Sequence[Image], digits: Sequence[int | None]) -> None:
        """A few images with what the model read."""

    def telemetry(self, answers: Sequence[MetricAnswer]) -> None:
        """What was measured."""

    def explanation(self, title: str, told: Explanation) -> None:
        """Why, or why not."""

    def failed(self, reason: str, logs: dict[str, str]) -> None:
        """A step failed."""

    def stay(self, url: str, token_file: Path, summary: dict[str, Any]) -> None:
        """All went well; what to try now."""

    def ended(self) -> None:
        """Everything was stopped."""


class SilentTeller:
    """Says nothing, but why a step failed."""

    def chapter(self, title: str) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def placements(self, placements: Sequence[PlacementAnswer]) -> None:
        """Nothing."""

    def scored(self, who: str, correct: int, total: int) -> None:
        """Nothing."""

    def shown(self, images: Sequence[Image], digits: Sequence[int | None]) -> None:
        """Nothing."""

    def telemetry(self, answers: Sequence[MetricAnswer]) -> None:
        """Nothing."""

    def explanation(self, title: str, told: Explanation) -> None:
        """Nothing."""

    def failed(self, reason: str, logs: dict[str, str]) -> None:
        """On standard error."""
        for name, text in logs.items():
            errors.print(f"[bold]── {name}[/]\n{escape(text)}", soft_wrap=True)
        errors.print(f"[red]failed:[/] {escape(reason)}", soft_wrap=True)

    def stay(self, url: str, token_file: Path, summary: dict[str, Any]) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Nothing."""


class PeopleTeller(SilentTeller):
    """Chapters, progress bars, tables."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._chapters = 0

    def chapter(self, title: str) -> None:
        """A numbered heading."""
        self._chapters += 1
        console.print(f"\n[bold cyan]{self._chapters}. {escape(title)}[/]")

    def progress(self, what: str, done: int, total: int) -> None:
        """One bar that stays when it is full."""
        if self._bars is None:
            columns = (
                TextColumn("   {task.description}"),
                BarColumn(30),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            )
            self._bars = Progress(*columns, TimeElapsedColumn(), console=console)
            self._bars.start()
            self._task = self._bars.add_task(what, total=total)
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total)
        if done >= total:
            self._stop()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None

    def note(self, text: str) -> None:
        """An indented line."""
        console.print(f"   {escape(text)}")

    def placements(self, placements: Sequence[PlacementAnswer]) -> None:
        """As `shoal get placements` shows them."""
        print_placements(sorted(placements, key=lambda one: one.id))

    def scored(self, who: str, correct: int, total: int) -> None:
        """Accuracy of one replica."""
        console.print(f"   {escape(who)}: [green]{correct}[/] of {total} right ({correct / total:.1%})")

    def shown(self, images: Sequence[Image], digits: Sequence[int | None]) -> None:
        """Drawn in characters."""
        drawn = []
        for image, digit in zip(images, digits, strict=True):
            rows = [
                "".join(SHADES[min(9, int(image.cells[row * 8 + column] * 9 / 16))] * 2 for column in range(8))
                for row in range(8)
            ]
            style = "green" if digit == image.label else "red"
            drawn.append(Panel(Text("\n".join(rows)), title=f"[{style}]reads {digit}[/]", width=20))
        console.print(Columns(drawn, padding=(0, 1)))

    def telemetry(self, answers: Sequence[MetricAnswer]) -> None:
        """One row a value."""
        rows = [
            (one.metric, one.component or one.node, f"{one.value:,.4g} {one.unit}", one.samples, f"{one.age_s:.1f} s")
            for answer in answers
            for one in answer.values
        ]
        table("", ["METRIC", "OF", "VALUE", "SAMPLES", "AGE"], rows, empty="nothing was measured")

    def explanation(self, title: str, told: Explanation) -> None:
        """As `shoal why` prints it."""
        self.chapter(title)
        print_why(told)

    def failed(self, reason: str, logs: dict[str, str]) -> None:
        """The bar goes first."""
        self._stop()
        super().failed(reason, logs)

    def stay(self, url: str, token_file: Path, summary: dict[str, Any]) -> None:
        """Commands and pages to try while it is up."""
        token = shlex.quote(str(token_file))
        prefix = f"shoal --url {url} --token-file {token}"
        console.print(
            Panel(
                f"[bold]It stays up until Ctrl-C. In another terminal:[/]\n\n"
                f"export SHOAL_URL={url} SHOAL_TOKEN_FILE={token}\n"
                "shoal get nodes                    shoal get placements\n"
                "shoal why digits/classifier        shoal top\n"
                "shoal watch events                 shoal logs digits/prefilter -f\n"
                "shoal drain edge-2                 shoal describe application digits\n\n"
                f"API and its documentation: {url}/docs\n"
                f"Metrics for Prometheus:    {url}/metrics  [dim](bearer token needed)[/]\n"
                + "".join(
                    f"A model to ask:            {gateway}/v2/models/digits\n"
                    for gateway in summary.get("gateways", ())
                ),
                title="the mesh is up",
                subtitle=f"[dim]or without the export: {escape(prefix)} get nodes[/]",
            )
        )

    def ended(self) -> None:
        """The last line."""
        console.print("every process of the demo was stopped; nothing is left behind")

"""`shoal demo`: a whole slice on this machine, as separate processes, and its story told step by step.

`continuum.py` starts and ends the processes, `story.py` goes through the steps and measures, `telling.py` shows them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from ..output import Format, Output, emit
from ..session import FAILED, guarded
from .continuum import Continuum
from .story import StepError, Story
from .telling import PeopleTeller, SilentTeller, Teller


@guarded
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the last step instead of waiting for Ctrl-C.")
    ] = False,
    output: Output = Format.HUMAN,
) -> None:
    """Start a broker, a control plane and four agents, place a model, ask it, kill a node, and watch it recover."""
    teller: Teller = PeopleTeller() if output is Format.HUMAN else SilentTeller()
    with tempfile.TemporaryDirectory(prefix="shoal-demo-", ignore_cleanup_errors=True) as folder:
        with Continuum(Path(folder)) as continuum:
            story = Story(continuum, teller)
            try:
                summary = story.tell()
            except StepError as error:
                teller.failed(str(error), continuum.logs())
                raise typer.Exit(FAILED) from None
            if output is not Format.HUMAN:
                emit(summary, output)
            if not once:
                teller.stay(continuum.url, continuum.token_file, summary)
                _wait_for_interrupt()
        teller.ended()


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return

"""Gives telemetry and logs out to an OTLP collector for as long as the control plane runs, where one is configured.

`run.py` enters it; `telemetry/otlp.py` does the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..telemetry.logs import RecentLogs
from ..telemetry.otlp import OtlpExporter, OtlpOptions
from ..telemetry.windows import Windows
from .config import ControlPlaneOptions


@asynccontextmanager
async def exporting(
    options: ControlPlaneOptions, windows: Windows, clock: Callable[[], float]
) -> AsyncIterator[OtlpExporter | None]:
    """Export while the block lasts; None when nothing is configured. `clock` is that of the windows."""
    export = options.export
    if not (export.metrics or export.logs):
        yield None
        return
    logs = RecentLogs()
    to = OtlpOptions(export.metrics, export.logs, interval_s=export.interval_s, slice=options.slice)
    exporter = OtlpExporter(to, windows, logs, clock=clock)
    logging.getLogger().addHandler(logs)
    task = asyncio.create_task(exporter.run(), name="otlp")
    try:
        yield exporter
    finally:
        logging.getLogger().removeHandler(logs)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

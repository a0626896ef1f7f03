"""Tells authors whether their mechanism keeps the contract: `assert_mechanism(MyMechanism(…))` in a test, or `shoal
mechanism test FILE`.

The file runs in a process of its own (`check_child.py`), so that one that hangs or ends its process takes nothing
along; every step has a deadline and the one that overran is named. The checks themselves are in `trial.py`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from ..descriptions.errors import PluginError
from .mechanism import Mechanism

STEP_S = 10.0
"""For one check; the agent gives a call longer, but a mechanism that takes seconds holds up all others."""
ALL_S = 120.0
LINES_BYTES_MAX = 1024 * 1024
LAST_BYTES = 4096
SHOWN = 500
CHILD = f"{__package__}.check_child"


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """One check of one mechanism."""

    check: str
    """`setSpeed: undo restores`."""
    passed: bool
    message: str = ""
    """Why not; or what could not be checked."""


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """All checks of a mechanism file."""

    mechanism: str
    """Name of the class; of the file when it defines none."""
    findings: tuple[Finding, ...]
    passed: bool
    """Whether nothing is wrong."""

    def lines(self) -> list[str]:
        """For people, one a check and one for the verdict."""
        told = [f"{'ok  ' if one.passed else 'FAIL'} {one.check}: {one.message}".rstrip(": ") for one in self.findings]
        failed = sum(not one.passed for one in self.findings)
        return [*told, f"{self.mechanism}: " + ("keeps the contract" if not failed else f"{failed} checks failed")]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the child says: the plugin's name, a check that begins, or what came of it."""

    plugin: str = ""
    begins: str = ""
    finding: Finding | None = None
    ends: bool = False
    """All checks were made."""


@dataclass
class _Heard:
    plugin: str = ""
    current: str = "loads"
    findings: list[Finding] = field(default_factory=list)
    is_complete: bool = False

    def take(self, line: Line) -> None:
        self.plugin = line.plugin or self.plugin
        self.current = line.begins or self.current
        self.is_complete |= line.ends
        if line.finding is not None:
            self.findings.append(line.finding)


def run_file(path: Path, *, step_s: float = STEP_S, all_s: float = ALL_S) -> Report:
    """Check the mechanism in a file; whatever the plugin does, this gives a report."""
    heard = _Heard()
    with tempfile.TemporaryDirectory(prefix="shoal-check-") as folder, tempfile.TemporaryFile() as said:
        argv = [sys.executable, "-m", CHILD, str(path.absolute()), folder]
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
        try:
            failure = _listen(child, heard, step_s, time.monotonic() + all_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        last = _last_line(said)
    if failure:
        heard.findings.append(Finding(heard.current, False, f"{failure}: {last}" if last else failure))
    findings = tuple(heard.findings)
    return Report(heard.plugin or path.stem, findings, bool(findings) and all(one.passed for one in findings))


def assert_mechanism(mechanism: Mechanism) -> None:
    """Raise `AssertionError` with everything that is wrong with it; in this process, so a hanging one hangs."""
    from .trial import Examiner, try_mechanism

    said: list[Line] = []
    try_mechanism(Examiner(said.append), mechanism)
    findings = [one.finding for one in said if one.finding is not None]
    wrong = [f"{one.check}: {one.message}" for one in findings if not one.passed]
    assert not wrong, "; ".join(wrong)


def _listen(child: subprocess.Popen[bytes], heard: _Heard, step_s: float, end_s: float) -> str:
    """Hear the child out; what stopped it early, or empty."""
    try:
        for line in _lines(child, step_s, end_s):
            heard.take(msgspec.json.decode(line, type=Line))
            if heard.is_complete:
                return ""
    except TimeoutError as overrun:
        return str(overrun)
    except (msgspec.DecodeError, PluginError) as error:
        return f"the checking process was disturbed: {error}"
    try:
        code = child.wait(step_s)
    except subprocess.TimeoutExpired:
        return "it closed the files of its process"
    return f"it ended its process with code {code}"


def _lines(child: subprocess.Popen[bytes], step_s: float, end_s: float) -> Iterator[bytes]:
    """Whole lines until the end; `TimeoutError` when the next one takes longer than a step."""
    assert child.stdout is not None
    descriptor, kept, total = child.stdout.fileno(), b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            wait_s = min(step_s, end_s - time.monotonic())
            if wait_s <= 0 or not selector.select(wait_s):
                raise TimeoutError(f"hangs: no answer within {step_s:g} s" if wait_s > 0 else "takes too long in all")
            data = os.read(descriptor, 65536)
            if not data:
                return
            total += len(data)
            if total > LINES_BYTES_MAX:
                raise PluginError("check", "too much output")
            *whole, kept = (kept + data).split(b"\n")
            yield from whole


def _last_line(said: IO[bytes]) -> str:
    """The end of what it wrote to standard error: what ended it, most of the time."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_BYTES))
    return said.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:SHOWN]

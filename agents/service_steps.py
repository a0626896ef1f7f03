"""What installing, upgrading and removing the service is made of: typed steps, told in words and carried out.

`service_plan.py` makes them without looking at anything, `service.py` prints or performs them. Programs are called by
argv, never by a shell; files are whole or absent; links change in one rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..descriptions.errors import ShoalError, TransportError
from .files import disk_error, sync_folder, write_whole

RUN_S = 60.0
OUTPUT_SHOWN = 2000
LOOKS_PER_SETTLE = 5


@dataclass(frozen=True)
class Owner:
    """User and group of a file, by name."""

    user: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class MakeFolder:
    """Make the folder, or give it this mode and owner."""

    path: Path
    mode: int = 0o755
    owner: Owner | None = None
    """None leaves it to whoever runs this."""

    def __str__(self) -> str:
        return f"make folder {self.path} ({self.mode:04o}{_told(self.owner)})"


@dataclass(frozen=True)
class WriteFile:
    """Replace the file by this content."""

    path: Path
    text: str = field(repr=False)
    mode: int = 0o644
    owner: Owner | None = None

    def __str__(self) -> str:
        return f"write {self.path} ({self.mode:04o}{_told(self.owner)}, {len(self.text.encode())} bytes)"


@dataclass(frozen=True)
class Run:
    """Run a program to its end; an exit code over 0 fails."""

    argv: tuple[str, ...]
    may_fail: bool = False
    expected: str = ""
    """What it must print, where that matters."""
    timeout_s: float = RUN_S

    def __str__(self) -> str:
        return f"run {' '.join(self.argv)}" + (" (may fail)" if self.may_fail else "")


@dataclass(frozen=True)
class Link:
    """Let the link lead there; it never leads nowhere in between."""

    path: Path
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True)
class Remove:
    """Remove a file, link or folder with all that is in it; what isn't there is no error."""

    path: Path
    only_if_empty: bool = False

    def __str__(self) -> str:
        return f"remove {self.path}" + (" if it is empty" if self.only_if_empty else "")


@dataclass(frozen=True)
class AwaitActive:
    """Wait until the unit has been active with one main process for a while."""

    systemctl: str
    unit: str
    deadline_s: float
    settle_s: float

    def __str__(self) -> str:
        return f"wait until {self.unit} has been active for {self.settle_s:g} s, at most {self.deadline_s:g} s"


@dataclass(frozen=True)
class Attempt:
    """Do these; when one fails, do the others and fail."""

    steps: tuple[Step, ...]
    otherwise: tuple[Step, ...]
    told: str
    """What is the case after `otherwise`."""


Step = MakeFolder | WriteFile | Run | Link | Remove | AwaitActive | Attempt
Tell = Callable[[str], None]


def lines(steps: Iterable[Step], indent: str = "") -> list[str]:
    """The plan for people."""
    told: list[str] = []
    for step in steps:
        if isinstance(step, Attempt):
            told += lines(step.steps, indent)
            told += [f"{indent}if that fails:", *lines(step.otherwise, f"{indent}  ")]
        else:
            told.append(f"{indent}{step}")
    return told


def perform(steps: Iterable[Step], tell: Tell) -> None:
    """Carry them out in order; `TransportError` says which one failed and what it said."""
    for step in steps:
        if isinstance(step, Attempt):
            _attempt(step, tell)
            continue
        tell(str(step))
        try:
            _perform(step)
        except OSError as error:
            raise disk_error(Path(error.filename or "."), error) from error


def _attempt(step: Attempt, tell: Tell) -> None:
    try:
        perform(step.steps, tell)
    except ShoalError as error:
        tell(f"{error}; going back")
        try:
            perform(step.otherwise, tell)
        except ShoalError as second:
            raise TransportError(f"{error}; and going back failed: {second}") from error
        raise TransportError(f"{error}; {step.told}") from error


def _perform(step: MakeFolder | WriteFile | Run | Link | Remove | AwaitActive) -> None:
    match step:
        case MakeFolder():
            step.path.mkdir(parents=True, exist_ok=True)
            _give(step.path, step.mode, step.owner)
        case WriteFile():
            write_whole(step.path, step.text.encode())
            _give(step.path, step.mode, step.owner)
        case Run():
            run(step)
        case Link():
            _link(step)
        case Remove():
            _remove(step)
        case AwaitActive():
            _await_active(step)


def _give(path: Path, mode: int, owner: Owner | None) -> None:
    if owner is not None:
        try:
            shutil.chown(path, owner.user, owner.group)
        except LookupError as error:
            raise TransportError(f"{path} can't be given to {owner.user}:{owner.group}: {error}") from None
    path.chmod(mode)


def run(step: Run) -> str:
    """What it printed. The new files' mode doesn't depend on the caller's umask: the service's user must read them."""
    try:
        done = subprocess.run(
            step.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=step.timeout_s, umask=0o022, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        if step.may_fail:
            return ""
        told = f"not done after {step.timeout_s:g} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise TransportError(f"`{' '.join(step.argv)}`: {told}") from None
    output = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0 and not step.may_fail:
        last = output[-OUTPUT_SHOWN:] or "it printed nothing"
        raise TransportError(f"`{' '.join(step.argv)}` ended with code {done.returncode}: {last}")
    if step.expected not in output:
        shown = output[:200] or "nothing"
        raise TransportError(f"`{' '.join(step.argv)}` printed {shown!r}, expected {step.expected!r} in it")
    return output


def _link(step: Link) -> None:
    temporary = step.path.with_name(f".{step.path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(step.target)
    temporary.replace(step.path)
    sync_folder(step.path.parent)


def _remove(step: Remove) -> None:
    path = step.path
    if step.only_if_empty:
        with contextlib.suppress(OSError):
            path.rmdir()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _await_active(step: AwaitActive) -> None:
    show = Run((step.systemctl, "show", "--property=ActiveState,MainPID", step.unit))
    deadline_s, since_s, main, state = time.monotonic() + step.deadline_s, 0.0, "", ""
    while True:
        shown = dict(line.split("=", 1) for line in run(show).splitlines() if "=" in line)
        now_s, state = time.monotonic(), shown.get("ActiveState", "")
        if state != "active" or shown.get("MainPID") != main:
            # A service in a crash loop is active too, for moments: only the same process for a while counts.
            since_s, main = now_s, shown.get("MainPID", "") if state == "active" else ""
        elif now_s - since_s >= step.settle_s:
            return
        if now_s >= deadline_s:
            raise TransportError(f"{step.unit} is {state or 'unknown'}; `journalctl -u {step.unit} -n 50` says more")
        time.sleep(step.settle_s / LOOKS_PER_SETTLE)


def _told(owner: Owner | None) -> str:
    return f" {owner.user}:{owner.group}" if owner else ""

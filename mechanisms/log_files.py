"""What a replica writes to its standard output and error: one file, capped, with one older generation.

The program holds the file itself, in append mode, so that it goes on writing while no agent runs; therefore the cap is
kept by copying and truncating, which may lose the lines of that instant.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LINES_MAX = 10_000


def open_log(path: Path) -> int:
    """A descriptor that a program may write to."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def cap_log(path: Path, size_max: int) -> bool:
    """Move the content aside when it is over the cap; true when it was."""
    try:
        if path.stat().st_size <= size_max:
            return False
    except FileNotFoundError:
        return False
    with path.open("r+b") as stream, _older(path).open("wb") as older:
        stream.seek(-size_max, os.SEEK_END)  # the newest part; a burst between two looks may be larger than the cap
        shutil.copyfileobj(stream, older)
        stream.truncate(0)
    return True


def last_lines(path: Path, lines: int) -> str:
    """The newest lines, from the older generation too where the present one has too few."""
    wanted = max(1, min(lines, LINES_MAX))
    text = b"".join(_content(one) for one in (_older(path), path))
    return b"\n".join(text.splitlines()[-wanted:]).decode("utf-8", "replace")


def remove_logs(path: Path) -> None:
    """Both generations."""
    path.unlink(missing_ok=True)
    _older(path).unlink(missing_ok=True)


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""

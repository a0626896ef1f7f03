"""Reads the small text files in which kernels describe hardware; what cannot be read is simply not known."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path, size_max: int = 4096) -> str:
    """The content without padding (device trees end strings with a zero byte); empty when there is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(size_max)
    except OSError:
        return ""
    return data.replace(b"\0", b"\n").decode("utf-8", "replace").strip()

"""Reads the configuration of a process: one YAML file and the environment, which wins, into a frozen dataclass.

`agents/config.py` and `control_plane/config.py` say what may stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from .errors import DescriptionError
from .options import configure
from .yaml import load_yaml

T = TypeVar("T")

BYTES_MAX = 256 * 1024


def read_config(cls: type[T], path: Path | None, usual: Path, env: Mapping[str, str], *, prefix: str) -> T:
    """The configuration in `path`; without one, in the `usual` file if it exists. Raises `DescriptionError`."""
    if path is None and usual.exists():
        path = usual
    if path is None:
        return configure(cls, None, env, prefix=prefix)
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise DescriptionError(f"cannot be read: {error.strerror}", file=str(path)) from None
    if len(text) > BYTES_MAX:
        raise DescriptionError(f"over {BYTES_MAX} bytes", file=str(path), expected="a configuration")
    documents = load_yaml(text, file=str(path))
    if len(documents) > 1:
        raise DescriptionError("more than one document", file=str(path))
    return configure(cls, documents[0] if documents else None, env, prefix=prefix)

"""A replica's options (camelCase JSON) to a plugin's frozen dataclass, every wrong one named."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ....descriptions.errors import DescriptionError
from .plugin import InferencePlugin

P = TypeVar("P", bound=InferencePlugin)


def read_options(plugin: type[P], options: Mapping[str, msgspec.Raw]) -> P:
    """Build the plugin; `DescriptionError` for an unknown option or a value of another type."""
    names = {_camel(field.name): field.name for field in dataclasses.fields(plugin) if field.init}
    for name in options:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1)
            raise DescriptionError(
                f"{plugin.__name__} has no option {name!r}",
                path=f"options.{name}",
                expected=f"one of {', '.join(sorted(names)) or 'none'}",
                nearest=nearest[0] if nearest else None,
            )
    try:
        values = {names[name]: msgspec.json.decode(raw) for name, raw in options.items()}
        return msgspec.convert(values, plugin)
    except (msgspec.DecodeError, ValueError) as error:
        raise DescriptionError(f"options of {plugin.__name__}: {error}", path="options") from None


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)

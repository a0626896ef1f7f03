"""Finds mechanisms by name: the in-tree map and the entry points of the group `shoal.mechanisms`.

Only what the node's operator names in `agent.yaml` is imported and made; a description off the network chooses among
those names and can name no code.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

from ..descriptions.document import Path, Value
from ..descriptions.errors import DescriptionError, PluginError
from ..descriptions.options import read_options
from ..descriptions.phrases import nearest
from .mechanism import Mechanism

ENTRY_POINT_GROUP = "shoal.mechanisms"
_HERE = __package__ or ""
BUILT_IN = {
    "inference": f"{_HERE}.inference:Inference",
    "process": f"{_HERE}.process:Process",
}
NOT_YET = {"container": "there is no container mechanism yet: run the program with `process`, a model with `inference`"}


def installed() -> dict[str, str]:
    """Every mechanism that could be enabled: name → `module:Class`. Built-in names cannot be taken over."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)} | BUILT_IN


def mechanism_class(name: str) -> type[Mechanism]:
    """Import a mechanism's class; `DescriptionError` for an unknown name, `PluginError` for what is no mechanism."""
    if name in NOT_YET:
        raise DescriptionError(f"the mechanism {name!r} cannot be enabled: {NOT_YET[name]}")
    known = BUILT_IN if name in BUILT_IN else installed()
    if name not in known:
        raise DescriptionError(f"no mechanism is called {name!r}", nearest=nearest(name, known))
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        raise PluginError(name, f"cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Mechanism)):
        raise PluginError(name, f"{known[name]} is not a subclass of Mechanism")
    return found


def make_mechanisms(enabled: Mapping[str, object], path: Path = ("mechanisms",)) -> dict[str, Mechanism]:
    """The operator's mechanisms with their options, sorted by name; `DescriptionError` says which option is wrong."""
    made: dict[str, Mechanism] = {}
    for name in sorted(enabled):
        options = enabled[name]
        where = ".".join(str(part) for part in (*path, name))
        if options is not None and not isinstance(options, dict):
            raise DescriptionError("not a mapping", path=where, expected="the mechanism's options, or {}")
        given: dict[str, Value] = options or {}
        try:
            made[name] = read_options(mechanism_class(name), given)
        except DescriptionError as error:
            for one in error.all:
                one.path = f"{where}.{one.path}" if one.path else where
            raise
    return made

"""Inference plugins by name: the in-tree map and the entry points of the group `shoal.inference`.

The gateway resolves the names that the operator enabled to `module:Class` without importing them; a zygote imports one
class, a worker builds it from a replica's options. A request off the network can choose among names, never name code.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ....descriptions.errors import PluginError

if TYPE_CHECKING:
    from .plugin import InferencePlugin

ENTRY_POINT_GROUP = "shoal.inference"
BUILT_IN = {
    "onnx": f"{__name__}.onnx:Onnx",
    "litert": f"{__name__}.litert:LiteRt",
    "python": f"{__name__}.python:PythonPredictor",
}


def class_paths(enabled: Iterable[str]) -> dict[str, str]:
    """Name → `module:Class` of the enabled plugins; `PluginError` for a name that nothing provides."""
    names = list(enabled)
    known = dict(BUILT_IN)
    if not set(names) <= known.keys():
        known = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)} | known
    for name in names:
        if name not in known:
            raise PluginError(name, f"no inference plugin has this name; installed are {', '.join(sorted(known))}")
    return {name: known[name] for name in names}


def plugin_class(path: str) -> type[InferencePlugin]:
    """Import `module:Class`; `PluginError` when it isn't an inference plugin."""
    from .plugin import InferencePlugin

    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, InferencePlugin)):
        raise PluginError(path, "is not a subclass of InferencePlugin")
    return found


def build_plugin(name: str, options: Mapping[str, object], paths: Mapping[str, str]) -> InferencePlugin:
    """The plugin with its options checked; `DescriptionError` says which option is wrong."""
    from ....descriptions.options import read_options

    return read_options(plugin_class(paths[name]), options)

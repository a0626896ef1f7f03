"""Where policies come from, by name: built in, installed and enabled, or a file in the operator's folder.

Descriptions choose among these names and never name code. This module only lists and loads; built-ins are loaded in
the planner's process, everything else in a policy process (`process.py`), told by the control plane's
`planner/remote.py`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from ..descriptions.errors import PluginError
from ..descriptions.options import option
from . import IN_TREE
from .policy import Policy

GROUP = "shoal.policies"
"""Entry point group of installed policies."""

FILES_MAX = 256
FILE_BYTES_MAX = 256 * 1024

_NAME = re.compile(r"[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class PolicySettings:
    """Which policies the operator of a control plane enables, and what they are allowed."""

    folder: Path | None = None
    """Every `NAME.py` in it is the policy `NAME` (`_` becomes `-`); read again when it changes."""
    modules: Mapping[str, str] = option(factory=dict, doc="Name → `module:Class` of an installed policy.")
    entry_points: tuple[str, ...] = ()
    """Names of installed entry points of the group `shoal.policies` that are enabled; `*` enables all."""
    options: Mapping[str, object] = option(factory=dict, doc="Name → options that the operator sets over descriptions.")
    deadline: float = option(1.0, gt=0, le=60, unit="duration")
    """Longest time that a plugin may take for one component."""
    memory: int = option(1024**3, ge=256 * 1024**2, unit="bytes")
    """Address space of a policy process."""


@dataclass(frozen=True)
class Source:
    """One enabled policy."""

    name: str
    kind: Literal["built-in", "module", "file"]
    target: str
    """`module:Class`, or the path of a file."""


def sources(settings: PolicySettings) -> dict[str, Source]:
    """Every enabled policy by name; a built-in's name can't be taken, a module wins over a file."""
    found: dict[str, Source] = {}
    for name, path in _files(settings.folder).items():
        found[name] = Source(name, "file", str(path))
    for name, target in {**_installed(settings.entry_points), **settings.modules}.items():
        if _NAME.fullmatch(name):
            found[name] = Source(name, "module", target)
    for name, target in IN_TREE.items():
        found[name] = Source(name, "built-in", target)
    return found


def load(target: str) -> type[Policy]:
    """Import `module:Class`; `PluginError` says what is wrong with it."""
    module_name, _, class_name = target.partition(":")
    package = __package__ if module_name.startswith("shoal.policies.") else None
    relative = "." + module_name.rpartition(".")[2] if package else module_name
    try:
        loaded = getattr(importlib.import_module(relative, package), class_name)
    except Exception as error:  # a plugin border: importing runs the author's code
        raise PluginError(target, f"{type(error).__name__}: {error}") from error
    return checked(loaded, target)


def checked(loaded: object, where: str) -> type[Policy]:
    """Refuse what is no policy class whose fields are options."""
    if not (isinstance(loaded, type) and issubclass(loaded, Policy)) or loaded is Policy:
        raise PluginError(where, "is no subclass of shoal.policies.policy.Policy")
    own = [name for name in vars(loaded).get("__annotations__", {}) if not name.startswith("_")]
    known = {one.name for one in fields(loaded)}
    missing = [name for name in own if name not in known and not _is_class_variable(loaded, name)]
    if missing:
        raise PluginError(where, f"{missing[0]!r} is no option yet: decorate the class with @dataclass(frozen=True)")
    return loaded


def policy_in(namespace: Mapping[str, object], module: str, where: str) -> type[Policy]:
    """The one policy class that a file defines."""
    own = [
        value
        for value in namespace.values()
        if isinstance(value, type) and issubclass(value, Policy) and value.__module__ == module
    ]
    if len(own) != 1:
        names = ", ".join(sorted(one.__name__ for one in own)) or "none"
        raise PluginError(where, f"a file defines one policy, this one defines {names}")
    return checked(own[0], where)


def read_source(path: Path) -> bytes:
    """A policy file's text, held to `FILE_BYTES_MAX`."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise PluginError(path.name, f"can't be read: {error.strerror}") from None
    if len(text) > FILE_BYTES_MAX:
        raise PluginError(path.name, f"over the limit of {FILE_BYTES_MAX} bytes")
    return text


def _files(folder: Path | None) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", ".")))
    named = {path.stem.replace("_", "-"): path for path in paths[:FILES_MAX]}
    return {name: path for name, path in named.items() if _NAME.fullmatch(name)}


def _installed(enabled: tuple[str, ...]) -> dict[str, str]:
    if not enabled:
        return {}
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    return {name: target for name, target in sorted(found.items()) if "*" in enabled or name in enabled}


def _is_class_variable(policy: type[Policy], name: str) -> bool:
    return "ClassVar" in str(vars(policy)["__annotations__"][name])

"""Loads a plugin in a policy process, from a file's text or by `module:Class`, and says what it is."""

from __future__ import annotations

import hashlib
import inspect
import json
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..descriptions.errors import PluginError
from ..descriptions.options import options_schema
from .asking import told
from .frames import Load, Loaded
from .policy import Policy, adapts, places, scores
from .registry import load, policy_in

DIGEST_SHOWN = 12


@dataclass(frozen=True)
class Plugin:
    """A loaded policy class."""

    name: str
    policy: type[Policy]
    loaded: Loaded


def load_plugin(message: Load) -> Plugin:
    """Run or import it; `PluginError` says what is wrong with it."""
    if message.source is None:
        policy = load(message.target)
        text = _source_of(policy)
    else:
        policy = policy_from(message.name, message.target, message.source)
        text = message.source
    return Plugin(message.name, policy, described(policy, text))


def policy_from(name: str, path: str, source: bytes) -> type[Policy]:
    """The policy class that a file's text defines; every call makes a new module, so nothing of an older one stays."""
    module_name = f"shoal_policy_{name.replace('-', '_').replace('.', '_')}"
    module = ModuleType(module_name)
    module.__file__ = path
    # dataclasses look their module up, and tracebacks and option docs their lines.
    sys.modules[module_name] = module
    try:
        text = source.decode()
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102  # a file that the operator put there
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # the border to authors' code
        raise PluginError(name, told(error)) from error
    return policy_in(module.__dict__, module_name, name)


def described(policy: type[Policy], text: bytes) -> Loaded:
    """What a class is; `text` is its source, for the version."""
    digest = hashlib.sha256(text).hexdigest()[:DIGEST_SHOWN]
    return Loaded(
        class_name=policy.__name__,
        version=f"{policy.version}+{digest}",
        doc=(inspect.getdoc(policy) or "").partition("\n")[0],
        rescore=policy.rescore,
        is_placing=places(policy),
        is_scoring=scores(policy),
        is_adapting=adapts(policy),
        metrics=policy.metrics,
        operator_options=tuple(sorted(policy.operator_options)),
        options_schema=json.dumps(options_schema(policy)).encode(),
    )


def _source_of(policy: type[Policy]) -> bytes:
    file = getattr(sys.modules.get(policy.__module__), "__file__", None)
    try:
        return Path(file).read_bytes() if file else b""
    except OSError:
        return b""

"""Which control plane the command line talks to: contexts (URL, token, CA) in the user's configuration.

Order: `--url`/`--token-file` or `SHOAL_URL`/`SHOAL_TOKEN`/`SHOAL_TOKEN_FILE`, then `--context` or `SHOAL_CONTEXT`,
then the current context, then the local control plane at port 7400 with its own token file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ...descriptions.errors import DescriptionError
from ...descriptions.yaml import dump_yaml, load_yaml

DEFAULT_URL = "http://127.0.0.1:7400"


class Context(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """How to reach one control plane."""

    url: str
    token_file: str = ""
    token: str = ""
    ca: str = ""


class Contexts(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """The user's configuration file."""

    current: str = ""
    contexts: dict[str, Context] = {}


@dataclass(frozen=True)
class Target:
    """The control plane that a command talks to."""

    url: str
    token: str = field(default="", repr=False)
    ca: str = ""


def config_path() -> Path:
    """`$XDG_CONFIG_HOME/shoal/config.yaml`."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "shoal" / "config.yaml"


def load_contexts(path: Path | None = None) -> Contexts:
    """Read the file; empty when there is none."""
    where = path or config_path()
    if not where.exists():
        return Contexts()
    documents = load_yaml(where.read_bytes(), file=str(where))
    try:
        return msgspec.convert(documents[0].value if documents else {}, Contexts)
    except msgspec.ValidationError as error:
        raise DescriptionError(
            str(error), file=str(where), expected="current and contexts{url, token, tokenFile, ca}"
        ) from None


def save_contexts(contexts: Contexts, path: Path | None = None) -> None:
    """Write the file whole, readable by its owner alone: it may hold tokens."""
    where = path or config_path()
    where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = where.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(dump_yaml(msgspec.to_builtins(contexts)))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(where)


def read_token(path: str) -> str:
    """The token in a file; precise when it can't be read."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DescriptionError(f"cannot read the token: {error.strerror}", file=path) from None


def resolve(url: str = "", token_file: str = "", context: str = "") -> Target:
    """The control plane to talk to, by the order in this module's docstring."""
    url = url or os.environ.get("SHOAL_URL", "")
    token_file = token_file or os.environ.get("SHOAL_TOKEN_FILE", "")
    token = os.environ.get("SHOAL_TOKEN", "") or (read_token(token_file) if token_file else "")
    if url:
        return Target(url, token)
    contexts = load_contexts()
    name = context or os.environ.get("SHOAL_CONTEXT", "") or contexts.current
    if name:
        if name not in contexts.contexts:
            raise DescriptionError(
                f"there is no context {name!r}", file=str(config_path()), expected=", ".join(contexts.contexts)
            )
        chosen = contexts.contexts[name]
        held = token or chosen.token or (read_token(chosen.token_file) if chosen.token_file else "")
        return Target(chosen.url, held, chosen.ca)
    return Target(DEFAULT_URL, token or _local_token())


def _local_token() -> str:
    """The admin token that a control plane of this user or of the system wrote at its first start."""
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    for path in (
        Path(data) / "shoal" / "control-plane" / "admin.token",
        Path("/var/lib/shoal/control-plane/admin.token"),
    ):
        if os.access(path, os.R_OK):
            return read_token(str(path))
    return ""

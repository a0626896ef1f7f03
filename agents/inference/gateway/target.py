"""A request's path to what it asks for. Pure; `routes.py` acts on it.

Model names may hold slashes (`hf/gpt2@latest`), quoted or not, so the known endings are taken off the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

Operation = Literal["server", "live", "ready", "models", "metrics", "model", "model-ready", "infer"]

_FIXED: dict[str, Operation] = {
    "/v2": "server",
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
    "/v2/models": "models",
    "/metrics": "metrics",
}
_MODELS = "/v2/models/"


@dataclass(frozen=True)
class Target:
    """What a path names."""

    operation: Operation
    model: str = ""
    version: str | None = None


@lru_cache(maxsize=1024)
def parse(path: str) -> Target | None:
    """The target of a percent-encoded path; None when it names nothing."""
    if (operation := _FIXED.get(path.rstrip("/") if len(path) > 1 else path)) is not None:
        return Target(operation)
    if not path.startswith(_MODELS):
        return None
    rest = path[len(_MODELS) :]
    kind: Operation = "model"
    for ending, named in (("/infer", "infer"), ("/ready", "model-ready")):
        if rest.endswith(ending):
            rest, kind = rest[: -len(ending)], named  # type: ignore[assignment]
            break
    name, _, version = rest.rpartition("/versions/")
    if not name:
        name, version = rest, ""
    if not name or "/" in version or (rest.endswith("/versions/")):
        return None
    return Target(kind, unquote(name), unquote(version) or None)

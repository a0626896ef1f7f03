"""The Secret kind: values are written once and afterwards only referred to by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from .meta import API_VERSION, Frozen, Metadata


class SecretSpec(Frozen):
    """Values by key; an answer of the API shows the keys alone."""

    values: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,127}$")], SecretStr] = Field(
        default_factory=dict, max_length=64
    )
    """Text by key; written once, never answered."""


class SecretStatus(Frozen):
    """What is known without the values."""

    keys: tuple[str, ...] = Field(default=(), max_length=64)
    """Which keys have values."""


class Secret(Frozen):
    """Values that components get without anyone reading them back."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Secret"] = "Secret"
    """Says that this is a Secret."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: SecretSpec = SecretSpec()
    """What is wanted."""
    status: SecretStatus | None = None
    """What is; written by the control plane alone."""

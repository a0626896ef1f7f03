"""The Model kind: where a model's bytes are and what they must hash to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..quantities import Bytes
from .meta import API_VERSION, Condition, Frozen, Metadata

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ModelSource(Frozen):
    """Where the bytes come from; `file` is uploaded to the control plane by `shoal apply`."""

    file: str | None = Field(default=None, max_length=4096)
    """Path beside the description; only the CLI reads it."""
    url: str | None = Field(default=None, max_length=4096)
    """`https://…`, or `http://` on loopback where the control plane itself is on loopback."""
    sha256: Sha256 | None = None
    """Digest that the bytes must have; filled on upload."""
    size: Bytes | None = None


class Tensor(Frozen):
    """One input or output, in Open Inference Protocol terms."""

    name: str = Field(max_length=255)
    datatype: Literal[
        "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
        "FP16", "BF16", "FP32", "FP64", "BYTES",
    ]  # fmt: skip
    shape: tuple[int, ...] = Field(default=(), max_length=16)
    """-1 is variable."""


class ModelSpec(Frozen):
    """A version of a model."""

    format: Literal["onnx", "tflite", "python"]
    version: str = Field(default="1", max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    source: ModelSource
    inputs: tuple[Tensor, ...] = Field(default=(), max_length=256)
    outputs: tuple[Tensor, ...] = Field(default=(), max_length=256)
    memory: Bytes | None = None
    """What one replica needs at run time."""
    predictor: str | None = Field(default=None, max_length=255, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """For `python`: `module:Class` in a folder that the node's operator allowed."""


class ModelStatus(Frozen):
    """What the control plane holds of it."""

    stored: bool = False
    sha256: Sha256 | None = None
    size: Bytes | None = None
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)


class Model(Frozen):
    """A model that inference components refer to."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    kind: Literal["Model"] = "Model"
    metadata: Metadata
    spec: ModelSpec
    status: ModelStatus | None = None

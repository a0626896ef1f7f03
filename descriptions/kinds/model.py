"""The Model kind: where a model's bytes are and what they must hash to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from ..quantities import Bytes
from .meta import API_VERSION, Condition, Fault, Frozen, Metadata, repeated

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
    """Bytes; filled on upload."""

    def faults(self) -> Iterator[Fault]:
        if self.file is not None and self.url is not None:
            yield Fault("file and url together", ("url",), "one of them")
        if self.url is not None:
            yield from _url_faults(self.url)
            if self.sha256 is None:
                yield Fault("a url without its digest", ("sha256",), "the SHA-256 of the bytes")


def _url_faults(url: str) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, "@" in parts.netloc, parts.port
    except ValueError:  # a port that is no number, brackets that don't close
        host, user = None, False
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_plain or not host or not url.startswith(("https://", "http://")):
        expected = "https://HOST/PATH, or http:// where the control plane is on loopback"
        yield Fault("nothing can be fetched from this URL", ("url",), expected)
    elif user:
        yield Fault("a URL with a user or password in it", ("url",), "a URL without them")


class Tensor(Frozen):
    """One input or output, in Open Inference Protocol terms."""

    name: str = Field(max_length=255)
    """As in the model file."""
    datatype: Literal[
        "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
        "FP16", "BF16", "FP32", "FP64", "BYTES",
    ]  # fmt: skip
    """Type of an element."""
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31 - 1)], ...] = Field(default=(), max_length=16)
    """-1 is variable."""


class ModelSpec(Frozen):
    """A version of a model."""

    format: Literal["onnx", "tflite", "python"]
    """Decides the inference plugin."""
    version: str = Field(default="1", max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Served beside other versions; a changed model gets a new one."""
    source: ModelSource = ModelSource()
    """Where the bytes come from; nothing for Python predictors."""
    inputs: tuple[Tensor, ...] = Field(default=(), max_length=256)
    """As the file says when empty."""
    outputs: tuple[Tensor, ...] = Field(default=(), max_length=256)
    """As the file says when empty."""
    memory: Bytes | None = None
    """What one replica needs at run time."""
    predictor: str | None = Field(
        default=None, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
    )
    """For `python`: `module:Class` in a folder that the node's operator allowed."""

    def faults(self) -> Iterator[Fault]:
        if self.format == "python" and self.predictor is None:
            yield Fault("a Python model without its class", ("predictor",), "MODULE:CLASS")
        if self.format != "python" and self.predictor is not None:
            yield Fault(f"a predictor for the format {self.format}", ("predictor",), "format python, or no predictor")
        if self.format != "python" and self.source == ModelSource():
            yield Fault("a model without its bytes", ("source",), "file or url")
        yield from repeated((tensor.name for tensor in self.inputs), ("inputs",), "name")
        yield from repeated((tensor.name for tensor in self.outputs), ("outputs",), "name")


class ModelStatus(Frozen):
    """What the control plane holds of it."""

    stored: bool = False
    """Whether the control plane has the bytes, checked against their digest."""
    sha256: Sha256 | None = None
    """Of the bytes."""
    size: Bytes | None = None
    """Of the bytes."""
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32)
    """Aspects of its state, for people and for programs."""


class Model(Frozen):
    """A model that inference components refer to."""

    api_version: Literal["shoal.dev/v1"] = API_VERSION
    """Version of this description language."""
    kind: Literal["Model"] = "Model"
    """Says that this is a Model."""
    metadata: Metadata
    """Name, labels and annotations."""
    spec: ModelSpec
    """What is wanted."""
    status: ModelStatus | None = None
    """What is; written by the control plane alone."""

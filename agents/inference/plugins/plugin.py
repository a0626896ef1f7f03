"""What an inference plugin is: options in a frozen dataclass, a model that answers batches once they are loaded.

The worker process (`worker/loop.py`) builds the plugin from a replica's options, loads one model with it and calls
`predict` from one thread. A plugin knows nothing of HTTP, tensors on the wire, processes or the mesh.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model."""

    name: str
    datatype: str
    """Of the Open Inference Protocol: `FP32`, `INT64`, `BYTES`, …; `BF16` tensors are float32 arrays in Python."""
    shape: tuple[int, ...]
    """-1 is any size; the batch dimension is included."""


@dataclass(frozen=True)
class ModelFile:
    """The model to load."""

    name: str
    version: str
    path: Path
    code_folders: tuple[Path, ...] = ()
    """Where the node's operator allows code to come from."""


@dataclass(frozen=True)
class Batch:
    """One call of `predict`."""

    inputs: Tensors
    """By name, shapes and types as `LoadedModel.inputs` says (checked before), BYTES as object arrays of bytes."""
    outputs: tuple[str, ...]
    """Names that the caller wants; answering more is allowed and wasteful."""


class LoadedModel(ABC):
    """A model in memory."""

    platform: str = ""
    """As in the metadata of Triton: `onnxruntime_onnx`, `litert_tflite`, `python`."""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    optional_outputs: frozenset[str] = frozenset()
    """Outputs that are computed only when a request names them."""
    is_open: bool = False
    """True when `inputs` only describes: any name, type and shape is passed on."""
    device: str = "cpu"
    """What it really runs on."""
    reason: str = ""
    """Why that is not the device asked for, or what else the operator should know."""

    @abstractmethod
    def predict(self, batch: Batch) -> Tensors:
        """Answer one batch. `RefusedError` says that the request is wrong; any other error counts as the plugin's."""

    def unload(self) -> None:  # noqa: B027  # most have nothing to do
        """Give back what the end of the process doesn't: files, devices, licences."""


@dataclass(frozen=True)
class InferencePlugin(ABC):
    """A model format; the fields of a subclass are its options (camelCase in YAML)."""

    @classmethod  # noqa: B027  # a predictor may need nothing
    def preload(cls) -> None:
        """Import what `load` needs, in the zygote before it forks: start no thread, open no device."""

    @abstractmethod
    def load(self, model: ModelFile, device: str) -> LoadedModel:
        """Load onto `device` (`cpu`, `cuda:0`, …); where that isn't possible use another and say so in `reason`."""

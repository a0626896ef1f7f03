"""Lets an ONNX model score the nodes: the feature table of `features.py` in, one number a node out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..descriptions.errors import DescriptionError, PluginError
from ..descriptions.kinds.application import Component
from ..descriptions.options import option
from .features import FEATURES, feature_table
from .node_table import FloatArray, NodeTable
from .policy import Policy, Rescore
from .view import View

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FOLDER = Path("/etc/shoal/policy-models")

MODEL_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class Onnx(Policy):
    """Ask an ONNX model: one float32 input of shape `(nodes, features)`, one float output of shape `(nodes,)` or
    `(nodes, 1)`; more is better.

    The model is a file in the folder that the operator's configuration allows, so that a description chooses among
    the operator's models and names no other file.
    """

    rescore: ClassVar[Rescore] = "all"
    operator_options: ClassVar[frozenset[str]] = frozenset({"folder"})

    model: str = option(doc="File name of the model in `folder`, such as `scheduler.onnx`.")
    folder: Path = FOLDER
    """Set by the operator alone."""

    def __post_init__(self) -> None:
        """Keep the model inside the folder."""
        if not self.model.endswith(".onnx") or Path(self.model).name != self.model:
            raise DescriptionError(
                f"{self.model!r} is not a model's file name", expected="a name such as scheduler.onnx"
            )

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """What the model answers."""
        session = self._session()
        (wanted,) = session.get_inputs()
        features = feature_table(component, nodes, view)
        width = wanted.shape[-1] if isinstance(wanted.shape[-1], int) else len(FEATURES)
        if width > len(FEATURES):
            raise PluginError("onnx", f"{self.model} takes {width} features, there are {len(FEATURES)}")
        answer = session.run(None, {wanted.name: features[:, :width]})[0]
        if not isinstance(answer, np.ndarray) or answer.size != len(nodes):
            told = answer.shape if isinstance(answer, np.ndarray) else type(answer).__name__
            raise PluginError("onnx", f"{self.model} answers {told} for {len(nodes)} nodes")
        return answer.reshape(len(nodes)).astype(np.float64)

    def _session(self) -> InferenceSession:
        path = self.folder / self.model
        try:
            status = path.stat()
        except OSError as error:
            raise PluginError("onnx", f"{path}: {error.strerror}") from None
        if status.st_size > MODEL_BYTES_MAX:
            raise PluginError("onnx", f"{path}: {status.st_size} bytes, over the limit of {MODEL_BYTES_MAX}")
        return _load(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _load(path: str, mtime_ns: int, size: int) -> InferenceSession:
    """Load once for each change of the file."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on it starts a thread that sends usage data to its vendor
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
